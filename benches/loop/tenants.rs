//! What a tenant's launches cost while the sessions of another crash again and again.

use crate::api::{Calls, connect};
use crate::e2e::world::metrics::Samples;
use crate::e2e::world::wait::{pause, wait_for};
use crate::e2e::world::{Daemon, World};
use crate::measure::monotonic;
use crate::table::Table;
use pattern_launcher::api::proto::LaunchRequest;
use pattern_launcher::api::proto::pattern_launcher_client::PatternLauncherClient;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;
use tokio::runtime::Runtime;

/// Sessions that crash as soon as they have started, each with one of two hundred exit codes.
const CRASHING: usize = 500;
/// Launches of the other tenant.
const LAUNCHES: usize = 120;
/// Between two of them.
const BETWEEN: Duration = Duration::from_millis(500);
/// How they crash, and the flags for it. By themselves they are given up after five failures; without that they crash
/// for as long as it is measured.
const WAYS: [(&str, &[(&str, &str)]); 3] = [
    ("whose circuits open", &[("--backoff-period", "5s")]),
    ("that crash every 5 s each for ever", &[("--backoff-period", "5s"), ("--max-errors", "1000000")]),
    ("that crash every second each for ever", &[("--backoff-period", "1s"), ("--max-errors", "1000000")]),
];

/// Measures the launches alone, and beside the others with the delays of each profile.
pub(crate) fn measure(table: &mut Table, folder: &Path) {
    let runtime = Runtime::new().unwrap();
    // Channels are made outside of it, and belong to it.
    let _entered = runtime.enter();
    let (quiet, _) = launches(folder, &runtime, 0, &[]);
    table.calls("launch of a new session, two a second, alone", &quiet);
    for (what, flags) in WAYS {
        let (busy, starts) = launches(folder, &runtime, CRASHING, flags);
        table.calls(&format!("beside {CRASHING} sessions {what}"), &busy);
        table.figure("  which were started", &format!("{starts:.0} times a second"), "");
        let at = |calls: &Calls, share: usize| calls.times[calls.times.len() * share / 100];
        for share in [50, 95, 99] {
            let what = format!("alone, p{share}");
            table.beside(&what, at(&busy, share), at(&quiet, share));
        }
    }
}

/// The launches, in order of the time they took, and how often the others were started in a second.
#[expect(clippy::cast_precision_loss, reason = "figures for people have three digits")]
fn launches(folder: &Path, runtime: &Runtime, crashing: usize, flags: &[(&str, &str)]) -> (Calls, f64) {
    let world = World::within(folder, u16::try_from(crashing + LAUNCHES).unwrap());
    world.pattern("crasher", "flaky", "args: [\"--after-ms\", \"0\", \"--code\", \"$(CODE)\"]");
    world.pattern("sleeper", "sleeper", "");
    let mut sessions = String::new();
    for n in 0..crashing {
        let key = format!("pattern: crasher\nisolation: session\nnamespace: busy\nsession: s{n}");
        writeln!(sessions, "---\n{key}\nconfig: {{ CODE: {} }}", n % 200 + 1).unwrap();
    }
    world.desire("busy.yaml", &format!("{sessions}---\npattern: sleeper\nnamespace: other\n"));
    let launch = world.launch().flag("--log-level", "error");
    let daemon = flags.iter().fold(launch, |launch, (name, value)| launch.flag(name, *value)).start();
    let mut client = PatternLauncherClient::new(connect(&world.state().join("api.sock")));
    let (before, begun) = (starts(&daemon), monotonic());
    let mut times = Vec::new();
    for n in 0..LAUNCHES {
        let request = LaunchRequest {
            pattern_name: "sleeper".to_owned(),
            namespace: "calm".to_owned(),
            session_id: format!("s{n}"),
            isolation: 3,
            ..LaunchRequest::default()
        };
        let called = monotonic();
        let answer = runtime.block_on(client.launch_pattern(request)).unwrap().into_inner();
        times.push(monotonic().saturating_sub(called));
        assert!(answer.healthy, "{answer:?}");
        pause(BETWEEN);
    }
    let span = monotonic().saturating_sub(begun);
    let started = starts(&daemon) - before;
    assert!(daemon.stop().success());
    times.sort_unstable();
    (Calls { times, span }, started as f64 / span.as_secs_f64())
}

/// How often the crashing sessions were started.
fn starts(daemon: &Daemon) -> usize {
    wait_for("the metrics", || Samples::of(daemon)).count("process_starts_total", &["namespace=\"busy\""])
}
