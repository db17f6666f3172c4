//! The measurements of the daemon.

use crate::e2e::world::wait::{pause, wait_for, wait_up_to};
use crate::e2e::world::{Daemon, Launch, World, signal};
use crate::world_of_sleepers;
use rustix::time::{ClockId, clock_gettime};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the daemon is watched while nothing happens.
const REST: Duration = Duration::from_secs(30);
/// How long it is left alone before that, so that what follows a start is over.
const SETTLE: Duration = Duration::from_secs(5);
/// The longest that a thousand instances may take.
const LONG: Duration = Duration::from_secs(120);

/// CLOCK_MONOTONIC, as the sleepers log it.
pub(crate) fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap())
}

/// Where the sleepers of a world log their starts.
pub(crate) fn log_of(world: &World) -> PathBuf {
    world.root().join("starts")
}

/// The log that sleepers write their starts to.
pub(crate) struct StartLog(PathBuf);

impl StartLog {
    pub(crate) fn new(path: PathBuf) -> Self {
        fs::write(&path, "").unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Waits until so many starts are logged; the time of the last.
    pub(crate) fn wait(&self, count: usize) -> Duration {
        wait_up_to(LONG, &format!("{count} starts"), || {
            let text = fs::read_to_string(&self.0).unwrap();
            let times = || text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(nanoseconds);
            if times().count() < count { None } else { times().max() }
        })
    }
}

fn nanoseconds(line: &str) -> Duration {
    Duration::from_nanos(line.split(' ').next().unwrap().parse().unwrap())
}

/// A daemon as a user starts it; its log goes to a file of the world.
fn launch(world: &World) -> Launch<'_> {
    world.launch().flag("--log-level", "warn")
}

/// The time from the start of the daemon until all instances run.
pub(crate) fn converge(folder: &Path, count: usize) -> Duration {
    let world = world_of_sleepers(folder, count);
    let log = StartLog::new(log_of(&world));
    declare_all(&world, count);
    let begun = monotonic();
    let daemon = launch(&world).spawn();
    let last = log.wait(count);
    assert!(daemon.stop().success());
    last.saturating_sub(begun)
}

/// One file per instance: the dearest way of declaring many.
fn declare_all(world: &World, count: usize) {
    for n in 0..count {
        world.desire(&format!("{n}.yaml"), &format!("pattern: sleeper\nnamespace: n{n}\n"));
    }
}

/// The times from the rename of a file into the desired folder until its process runs.
pub(crate) fn drop_to_running(folder: &Path, samples: usize) -> Vec<Duration> {
    let world = world_of_sleepers(folder, samples);
    let log = StartLog::new(log_of(&world));
    let daemon = launch(&world).start();
    let times = drops(&world, &daemon, &log, samples, |n| format!("pattern: sleeper\nnamespace: n{n}\n"));
    assert!(daemon.stop().success());
    times
}

/// The same in a world that is there; `text` is what each file declares.
pub(crate) fn drops(
    world: &World,
    daemon: &Daemon,
    log: &StartLog,
    samples: usize,
    text: impl Fn(usize) -> String,
) -> Vec<Duration> {
    let mut times = Vec::new();
    for n in 0..samples {
        let aside = world.root().join("aside");
        fs::write(&aside, text(n)).unwrap();
        let begun = monotonic();
        fs::rename(&aside, world.desired().join(format!("{n}.yaml"))).unwrap();
        times.push(log.wait(n + 1).saturating_sub(begun));
        daemon.all_settled(n + 1);
        spread(n);
    }
    times
}

/// The times from the death of a process until its successor runs; each the first failure of its key.
pub(crate) fn crash_to_running(folder: &Path, samples: usize) -> Vec<Duration> {
    let world = world_of_sleepers(folder, samples);
    let log = StartLog::new(log_of(&world));
    declare_all(&world, samples);
    let daemon = launch(&world).start();
    daemon.all_settled(samples);
    let mut times = Vec::new();
    for n in 0..samples {
        let pid = daemon.settled(&format!("ns:n{n}:sleeper"));
        spread(n);
        let begun = monotonic();
        signal(pid, "KILL");
        times.push(log.wait(samples + n + 1).saturating_sub(begun));
    }
    assert!(daemon.stop().success());
    times
}

/// A pause of a different length each time, so that every phase of anything periodic is met.
fn spread(n: usize) {
    pause(Duration::from_millis(100 + (n as u64 * 37) % 150));
}

/// The daemon's memory with so many instances, in KiB.
pub(crate) fn memory(folder: &Path, count: usize) -> u64 {
    Kept::new(folder, count).memory()
}

/// A daemon with many settled instances, for several measurements.
pub(crate) struct Kept {
    daemon: Daemon,
    world: World,
    count: usize,
}

impl Kept {
    pub(crate) fn new(folder: &Path, count: usize) -> Self {
        let world = world_of_sleepers(folder, count);
        declare_all(&world, count);
        let daemon = launch(&world).start();
        daemon.all_settled(count);
        pause(SETTLE);
        Self { daemon, world, count }
    }

    /// The PSS of the daemon and of its spawner, in KiB.
    pub(crate) fn memory(&self) -> u64 {
        let pss = |pid: &i32| {
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
            let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
            line.split_whitespace().next().unwrap().parse::<u64>().unwrap()
        };
        self.own().iter().map(pss).sum()
    }

    /// The daemon's own processes: itself, and its children that run the same program.
    fn own(&self) -> Vec<i32> {
        let daemon = self.daemon.pid();
        let exe = |pid: &i32| fs::read_link(format!("/proc/{pid}/exe")).ok();
        let program = exe(&daemon);
        let children = fs::read_to_string(format!("/proc/{daemon}/task/{daemon}/children")).unwrap_or_default();
        let children = children.split_whitespace().map(|pid| pid.parse().unwrap());
        std::iter::once(daemon).chain(children.filter(|pid| exe(pid) == program)).collect()
    }

    /// The CPU time that the daemon's own processes have used.
    fn cpu(&self) -> Duration {
        self.own().into_iter().map(cpu_of).sum()
    }
}

/// The CPU time that a process has used, in nanoseconds and with the threads that have ended: `/proc/PID/stat` counts
/// in hundredths of a second, and `/proc/PID/task` forgets what ended.
#[expect(unsafe_code, reason = "the standard library cannot read another process's clock")]
pub(crate) fn cpu_of(pid: i32) -> Duration {
    let mut clock = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both calls write to what they are given and keep nothing of it.
    let read = unsafe {
        libc::clock_getcpuclockid(pid, &raw mut clock) == 0 && libc::clock_gettime(clock, &raw mut time) == 0
    };
    assert!(read, "process {pid} has no clock");
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
}

/// The CPU time that the daemon uses while nothing happens, and for how long that was watched.
pub(crate) fn at_rest(kept: &Kept) -> (Duration, Duration) {
    let (cpu, begun) = (kept.cpu(), monotonic());
    pause(REST);
    (kept.cpu().saturating_sub(cpu), monotonic().saturating_sub(begun))
}

/// The times from the start of a daemon until it is ready, after one that looked after the same instances was killed.
pub(crate) fn adoption(kept: Kept, samples: usize) -> Vec<Duration> {
    let Kept { mut daemon, world, count } = kept;
    let before = world.processes("sleeper");
    let mut times = Vec::new();
    for _ in 0..samples {
        daemon.kill();
        let begun = monotonic();
        daemon = launch(&world).spawn();
        wait_for("the daemon is ready", || daemon.get("/ready").filter(|(code, _)| *code == 200));
        times.push(monotonic().saturating_sub(begun));
        daemon.all_settled(count);
    }
    assert_eq!(world.processes("sleeper"), before, "a process was not taken over");
    assert!(daemon.stop().success());
    times
}
