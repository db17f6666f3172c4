//! A tenant whose sessions crash again and again, beside one that launches.

use crate::world::api::Client;
use crate::world::metrics::Samples;
use crate::world::wait::pause;
use crate::world::{Daemon, World, wait_for};
use pattern_launcher::api::proto::LaunchRequest;
use std::fmt::Write as _;
use std::time::Duration;

/// Sessions that crash as soon as they have started, each with one of two hundred exit codes.
const CRASHING: usize = 500;
/// Launches of the other tenant.
const LAUNCHES: usize = 20;

/// How often the crashing tenant's processes were started.
fn starts(daemon: &Daemon) -> usize {
    let samples = wait_for("the metrics", || Samples::of(daemon));
    samples.count("process_starts_total", &["namespace=\"busy\""])
}

#[test]
fn a_launch_waits_for_few_of_five_hundred_sessions_of_another_tenant_that_crash_again_and_again() {
    let world = World::for_instances(u16::try_from(CRASHING + LAUNCHES).unwrap());
    world.pattern("crasher", "flaky", "args: [\"--after-ms\", \"0\", \"--code\", \"$(CODE)\"]");
    world.pattern("sleeper", "sleeper", "");
    let mut sessions = String::new();
    for n in 0..CRASHING {
        let code = n % 200 + 1;
        let document =
            format!("pattern: crasher\nisolation: session\nnamespace: busy\nsession: s{n}\nconfig: {{ CODE: {code} }}");
        writeln!(sessions, "---\n{document}").unwrap();
    }
    world.desire("busy.yaml", &sessions);
    // A second between two crashes of each at most, and nothing is ever given up.
    let daemon = world.launch().flag("--max-errors", "1000000").flag("--log-level", "error").start();
    wait_for("all have crashed three times on average", || (starts(&daemon) > 3 * CRASHING).then_some(()));
    let client = Client::of(&world);
    let mut meanwhile = 0;
    for n in 0..LAUNCHES {
        let before = starts(&daemon);
        let launched = client.launch(LaunchRequest {
            pattern_name: "sleeper".to_owned(),
            namespace: "calm".to_owned(),
            session_id: format!("s{n}"),
            isolation: 3,
            ..LaunchRequest::default()
        });
        assert!(launched.unwrap().healthy);
        meanwhile += starts(&daemon) - before;
        pause(Duration::from_millis(100));
    }
    let each = meanwhile / LAUNCHES;
    eprintln!("{each} starts of the other tenant for each launch");
    // All of the others wait for a slot again and again: behind them in one queue each launch would wait for nearly all.
    assert!(each < CRASHING / 4, "each launch waited for {each} starts of the other tenant");
    let before = starts(&daemon);
    wait_for("they crash on", || (starts(&daemon) > before + CRASHING).then_some(()));
}
