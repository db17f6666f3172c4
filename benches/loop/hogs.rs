//! What a neighbour feels of what takes all it can get: how long its health check takes to answer, alone and beside each,
//! and beside some of them without a launcher around them, which is what the machine itself makes it feel.

use crate::api::Calls;
use crate::e2e::world::cgroup::V1Groups;
use crate::e2e::world::wait::{pause, wait_for};
use crate::e2e::world::{Daemon, World, example_program, http};
use crate::measure::monotonic;
use crate::table::Table;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How often the neighbour is asked.
const ASKED: usize = 500;
/// Between two questions.
const BETWEEN: Duration = Duration::from_millis(5);
/// What follows a start is over by then, and a hog has all that it gets.
const SETTLE: Duration = Duration::from_secs(5);
/// The hogs: what each is called, its program, its arguments, and what it may have.
const HOGS: [[&str; 4]; 6] = [
    ["a memory hog", "memory_hog", "\"--mib\", \"4096\"", "resources: { memory_limit: 256Mi, cpu_limit: 0.5 }"],
    ["a CPU burner", "hog", "\"--of\", \"cpu\"", "resources: { cpu_limit: 0.5 }"],
    ["a fork bomb", "hog", "\"--of\", \"processes\"", "resources: { pids_limit: 100, cpu_limit: 0.5 }"],
    ["a log flooder", "log_flooder", "\"--lines\", \"1000000000\"", "resources: { cpu_limit: 0.5 }"],
    ["a descriptor hog", "hog", "\"--of\", \"descriptors\"", "rlimits: { nofile: 1024 }"],
    ["a port squatter", "hog", "\"--of\", \"ports\", \"--ports\", \"RANGE\"", "rlimits: { nofile: 150 }"],
];

/// Of these it is measured what the machine itself makes a neighbour feel: their share of the CPU is all that holds them.
const BARE: [&str; 2] = ["a CPU burner", "a log flooder"];
/// Half of a core, as v1 writes it.
const QUOTA: (&str, &str) = ("cpu.cfs_quota_us", "50000");

/// Measures each hog, with the neighbour alone before it and after it.
pub(crate) fn measure(table: &mut Table, folder: &Path) {
    let world = World::within(folder, 10);
    let check = "healthcheck: { path: /health, interval: 200ms, timeout: 5s }";
    world.pattern("calm", "hello", &format!("{check}\nresources: {{ cpu_request: 1.0 }}"));
    world.desire("calm.yaml", "pattern: calm\nnamespace: b\n");
    let launch = world.launch().flag("--log-level", "error").flag("--log-max-namespace", "64Mi");
    // A hog of memory is killed and started again for as long as it is measured.
    let daemon = launch.flag("--max-errors", "1000000").start();
    let pid = daemon.settled("ns:b:calm");
    let port = daemon.wait("its ports", |status| Some(status.key("ns:b:calm")?.ports?.health));
    pause(SETTLE);
    for [what, example, args, may] in HOGS {
        let alone = ask(port);
        let args = args.replace("RANGE", &world.ports().range());
        world.pattern("hog", example, &format!("args: [{args}]\n{may}"));
        world.desire("hog.yaml", "pattern: hog\nnamespace: a\n");
        daemon.wait("the hog is at it", |status| status.key("ns:a:hog").map(drop));
        pause(SETTLE);
        let beside = ask(port);
        world.undesire("hog.yaml");
        daemon.gone("ns:a:hog");
        pause(SETTLE);
        let again = ask(port);
        table.calls(&format!("health check of a neighbour before {what}"), &alone);
        table.calls(&format!("  beside {what}"), &beside);
        table.calls("  after it", &again);
        let at = |calls: &Calls, share: usize| calls.times[calls.times.len() * share / 100];
        let both = |share| (at(&alone, share) + at(&again, share)) / 2;
        for share in [50, 99] {
            table.beside(&format!("alone, p{share}"), at(&beside, share), both(share));
        }
        if BARE.contains(&what) {
            match bare(&world, example, &args) {
                Some(_hog) => {
                    pause(SETTLE);
                    let beside = ask(port);
                    table.calls(&format!("  beside {what} that no launcher has started"), &beside);
                    for share in [50, 99] {
                        table.beside(&format!("alone, p{share}"), at(&beside, share), both(share));
                    }
                }
                None => eprintln!("skipped: no v1 group of the cpu controller can be made here"),
            }
            pause(SETTLE);
        }
        assert_eq!(untouched(&daemon), (Some(pid), 0, true), "the neighbour of {what}");
    }
    assert!(daemon.stop().success());
}

/// A hog in a group of its own, with the same share of the CPU. Dropping it ends it.
struct Bare(Child, #[expect(dead_code, reason = "removed after it")] V1Groups);

impl Drop for Bare {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Starts a hog beside the launcher; `None` where it cannot be held.
#[expect(clippy::disallowed_methods, reason = "what the launcher is compared with")]
fn bare(world: &World, example: &str, args: &str) -> Option<Bare> {
    let groups = V1Groups::create(&["cpu"]);
    let group = groups.paths().first()?;
    fs::write(group.join(QUOTA.0), QUOTA.1).ok()?;
    let join = format!("echo 0 > '{}/cgroup.procs' && exec \"$0\" \"$@\"", group.display());
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(join).arg(example_program(example));
    command.args(args.split(", ").map(|arg| arg.trim_matches('"')));
    let printed = File::create(world.root().join("printed")).unwrap();
    Some(Bare(command.stdin(Stdio::null()).stdout(printed).spawn().unwrap(), groups))
}

/// What the launcher has made of the neighbour.
fn untouched(daemon: &Daemon) -> (Option<i32>, u32, bool) {
    let status = wait_for("its status", || daemon.status());
    let key = status.key("ns:b:calm").unwrap();
    (key.pid, key.restart_count, key.healthy)
}

/// Asks the neighbour how it is, again and again; every answer is that it is well.
fn ask(port: u16) -> Calls {
    let begun = monotonic();
    let once = |_| {
        let called = monotonic();
        assert_eq!(http::get(port, "/health").map(|(status, _)| status), Some(200));
        let took = monotonic().saturating_sub(called);
        pause(BETWEEN);
        took
    };
    let mut times: Vec<Duration> = (0..ASKED).map(once).collect();
    times.sort_unstable();
    Calls { times, span: monotonic().saturating_sub(begun) }
}
