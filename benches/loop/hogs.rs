//! What a neighbour feels of what takes all it can get: how long its health check takes to answer, alone and beside each.

use crate::api::Calls;
use crate::e2e::world::wait::{pause, wait_for};
use crate::e2e::world::{Daemon, World, http};
use crate::measure::monotonic;
use crate::table::Table;
use std::path::Path;
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
        assert_eq!(untouched(&daemon), (Some(pid), 0, true), "the neighbour of {what}");
    }
    assert!(daemon.stop().success());
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
