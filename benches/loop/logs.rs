//! What the rotation of logs costs, and what it loses: one process prints fifty megabytes a second for a while.
//!
//! The daemon's CPU time stands beside that of copying as many bytes from one file to another and giving the room of the
//! original back, without a launcher.

use crate::e2e::world::wait::{pause, wait_up_to};
use crate::e2e::world::{Prismctl, World};
use crate::measure::cpu_of;
use crate::table::Table;
use rustix::fs::{FallocateFlags, copy_file_range, fallocate};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

/// What is printed in a second, in millions of bytes.
const RATE: u64 = 50;
/// Lines of a hundred bytes: ten seconds of them.
const LINES: u64 = 10 * RATE * 10_000;
/// The size at which logs are rotated by default.
const SIZE: usize = 16 << 20;
/// The longest that the printing may take on a busy machine.
const LONG: Duration = Duration::from_secs(120);
const ID: &str = "ns:n0:flooder";

/// Measures in a folder of its own below `folder`.
pub(crate) fn measure(table: &mut Table, place: &str, folder: &Path) {
    let bytes = LINES * 100;
    let bare = table.samples(&format!("bare copy and punch of {bytes} bytes, CPU, {place}"), vec![copy(folder, bytes)]);
    let world = World::within(folder, 10);
    world.pattern("flooder", "log_flooder", &format!("args: [\"--lines\", \"{LINES}\", \"--rate\", \"{RATE}\"]"));
    // All is kept, so that it can be counted.
    let daemon = world.launch().flag("--log-level", "warn").flag("--log-max-files", "1000").start();
    let before = cpu_of(daemon.pid());
    world.desire_many("flooder.yaml", "flooder", 1, "");
    let last = format!("{LINES:>10} ");
    let prismctl = Prismctl::of(&world);
    wait_up_to(LONG, "all is printed", || {
        pause(Duration::from_millis(500));
        prismctl.run(&format!("pattern logs {ID} --tail 1")).out.starts_with(&last).then_some(())
    });
    let used = cpu_of(daemon.pid()).saturating_sub(before);
    let used = table
        .samples(&format!("daemon, {RATE} MB/s printed for {} s, CPU, {place}", LINES / RATE / 10_000), vec![used]);
    table.beside("the bare copy", used, bare);
    let all = prismctl.done(&format!("pattern logs {ID}"));
    let found = all.lines().filter(|line| line.len() == 99).count();
    let in_order = all.lines().zip(1..).all(|(line, number): (&str, u64)| line.starts_with(&format!("{number:>10} ")));
    assert!(in_order, "lines are missing or out of order");
    table.count(&format!("lines lost of {LINES}, {place}"), LINES - found as u64);
}

/// The CPU time of copying and punching as many bytes, in pieces as large as a rotation's.
fn copy(folder: &Path, bytes: u64) -> Duration {
    let own = tempfile::tempdir_in(folder).unwrap();
    let piece = vec![b'x'; SIZE];
    let pid = i32::try_from(std::process::id()).unwrap();
    let mut used = Duration::ZERO;
    let mut live = File::options().create(true).read(true).append(true).open(own.path().join("live")).unwrap();
    for number in 0..bytes / SIZE as u64 {
        live.write_all(&piece).unwrap();
        let archive = File::create(own.path().join(format!("{number}"))).unwrap();
        let from = number * SIZE as u64;
        let before = cpu_of(pid);
        let mut done = 0;
        while done < SIZE {
            let mut at = from + done as u64;
            done += copy_file_range(&live, Some(&mut at), &archive, None, SIZE - done).unwrap();
        }
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(&live, punch, from, SIZE as u64).unwrap();
        used += cpu_of(pid).saturating_sub(before);
    }
    used
}
