//! What the daemon costs, as a user meets it: the real daemon, real processes, real files.
//!
//! `make bench` prints one table. Every time is from the sleepers' own start log (CLOCK_MONOTONIC) or from /proc, and
//! stands beside that of a bare posix_spawn loop over the same program in the same run: absolute figures depend on the
//! machine and on what else it does, the ratios much less.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a measurement that cannot go on fails")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the table is what this program is for")]

/// The world that the end-to-end tests use, with a real daemon in it.
#[path = "../../tests/e2e"]
#[expect(dead_code, unused_imports, reason = "the tests need more of their world than the measurements do")]
mod e2e {
    pub(crate) mod world;
}
mod api;
mod floor;
mod hogs;
mod logs;
mod measure;
mod records;
mod scrape;
mod starts;
mod table;
mod tenants;

use e2e::world::World;
use measure::{Kept, adoption, at_rest, converge, crash_to_running, drop_to_running, memory};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use table::Table;

/// How many instances the figures of scale are about.
const MANY: usize = 1000;
/// How often what takes a second is repeated; the median counts.
const ROUNDS: usize = 3;
/// How often what takes milliseconds is repeated; the median counts.
const SAMPLES: usize = 20;

fn main() -> ExitCode {
    if let Some(code) = pattern_launcher::run_if_spawner() {
        return code;
    }
    if std::env::args().any(|arg| arg == "--test" || arg == "--list") {
        return ExitCode::SUCCESS;
    }
    if api::serve_empty_if_asked() {
        return ExitCode::SUCCESS;
    }
    let mut table = Table::new();
    let disk = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    // `cargo bench --bench loop -- api` measures what a launch by request costs, and no more; so do the others.
    let asked: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let wanted = |part: &str| asked.is_empty() || asked.iter().any(|arg| arg == part);
    let memory_backed = places(&disk).next().map_or(disk.as_path(), |(_, folder)| folder);
    if wanted("loop") {
        measure_loop(&mut table, &disk);
    }
    if wanted("records") {
        for (place, folder) in places(&disk) {
            records::measure(&mut table, place, folder, SAMPLES);
        }
    }
    if wanted("starts") {
        starts::measure(&mut table, places(&disk).next().map_or(disk.as_path(), |(_, folder)| folder));
    }
    if wanted("scrape") {
        scrape::measure(&mut table, memory_backed, SAMPLES);
    }
    if wanted("logs") {
        for (place, folder) in places(&disk) {
            logs::measure(&mut table, place, folder);
        }
    }
    if wanted("tenants") {
        tenants::measure(&mut table, memory_backed);
    }
    if wanted("hogs") {
        hogs::measure(&mut table, &disk);
    }
    if wanted("api") {
        api::measure(&mut table, &disk, MANY);
    }
    table.print();
    ExitCode::SUCCESS
}

/// The kinds of file system that the machine has.
fn places(disk: &Path) -> impl Iterator<Item = (&'static str, &Path)> {
    [("on tmpfs", Path::new("/dev/shm")), ("on disk", disk)].into_iter().filter(|(_, folder)| folder.is_dir())
}

/// What files cost, and what the daemon itself costs.
fn measure_loop(table: &mut Table, disk: &Path) {
    let memory_backed = Path::new("/dev/shm");
    for (place, folder) in places(disk) {
        let bare = table
            .times(&format!("posix_spawn loop, {MANY} processes, {place}"), ROUNDS, || floor::start_all(folder, MANY));
        let daemon =
            table.times(&format!("{MANY} instances, start to all running, {place}"), ROUNDS, || converge(folder, MANY));
        table.ratio(daemon, bare);
    }
    let folder = if memory_backed.is_dir() { memory_backed } else { disk };
    let bare = table.samples("posix_spawn, one process, call to running", floor::one_by_one(folder, SAMPLES));
    let drop = table.samples("drop by rename to running", drop_to_running(folder, SAMPLES));
    table.ratio(drop, bare);
    let crash = table.samples("kill -9 to running again", crash_to_running(folder, SAMPLES));
    table.ratio(crash, bare);
    for count in [0, 100] {
        table.memory(count, memory(folder, count));
    }
    let world = Kept::new(folder, MANY);
    table.memory(MANY, world.memory());
    table.cpu(MANY, at_rest(&world));
    table.samples(&format!("{MANY} instances taken over after kill -9, start to ready"), adoption(world, SAMPLES / 4));
}

/// A world for so many instances of a sleeper that logs its start, in `folder`.
fn world_of_sleepers(folder: &Path, count: usize) -> World {
    let world = World::within(folder, u16::try_from(count + SAMPLES).unwrap());
    let log = measure::log_of(&world);
    world.pattern("sleeper", "sleeper", &format!("args: [\"--log\", \"{}\"]", log.display()));
    world
}
