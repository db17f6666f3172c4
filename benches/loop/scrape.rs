//! What being watched costs: scrapes, and the probes of many processes.

use crate::e2e::world::metrics::Samples;
use crate::e2e::world::wait::{pause, wait_for};
use crate::e2e::world::{Daemon, World, http};
use crate::measure::{cpu_of, monotonic};
use crate::table::Table;
use pattern_launcher::metrics::{Labels, Metrics, Standing};
use pattern_launcher::model::{DesiredStatus, Key, KeyStatus};
use pattern_launcher::observed::ProbeOutcome;
use rustix::time::{ClockId, clock_gettime};
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How many processes are probed.
const PROBED: usize = 1_000;
/// How long the daemon is watched while it probes, and while it does not.
const WATCHED: Duration = Duration::from_secs(60);
/// What follows a start or a change is over by then.
const SETTLE: Duration = Duration::from_secs(12);
/// How often a process is probed.
const INTERVAL: Duration = Duration::from_secs(10);
/// What the bare clients ask for.
const REQUEST: &[u8] = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n";
/// How many requests the bare client sends over one connection.
const REQUESTS: u32 = 20_000;

/// Measures everything about being watched.
pub(crate) fn measure(table: &mut Table, folder: &Path, rounds: usize) {
    for count in [100, 1_000, 10_000] {
        told(table, count, rounds);
    }
    probed(table, folder, rounds);
}

/// Where `count` processes stand, each of a namespace of its own.
fn standing(count: usize) -> Vec<Arc<KeyStatus>> {
    let status = |n: usize| {
        let status = serde_json::json!({
            "process_id": format!("ns:tenant-{n}:consumer"), "pattern_name": "consumer", "namespace": format!("tenant-{n}"),
            "session_id": "", "isolation": "namespace", "desired": "running", "state": "running", "healthy": true,
            "pid": 4_711, "generation": 1, "observed_generation": 1, "error_count": 0, "restart_count": 0,
            "circuit_open": false, "verdict": { "action": "none", "reason": "it runs as declared" },
        });
        Arc::new(serde_json::from_value(status).unwrap())
    };
    (0..count).map(status).collect()
}

/// How long it takes to tell about so many processes, and how much that is, without the way to who asks.
fn told(table: &mut Table, count: usize, rounds: usize) {
    let metrics = Metrics::new(Labels::default());
    let statuses = standing(count);
    for status in &statuses {
        let key: &Key = &status.process_id;
        metrics.appeared(key);
        metrics.started(key);
        metrics.probed(key, &ProbeOutcome::Success);
        metrics.usage_begins(key);
        metrics.used_cpu(key, Duration::from_millis(1_234));
        metrics.holds_memory(key, 12_345_678);
    }
    let desired = DesiredStatus::default();
    let standing = Standing { statuses: &statuses, desired: &desired, ready: true, uptime: Duration::from_secs(1_000) };
    let mut bytes = 0;
    let once = || {
        let begun = monotonic();
        bytes = metrics.prometheus(&standing).len();
        monotonic().saturating_sub(begun)
    };
    table.times(&format!("telling {count} instances, simulated"), rounds, once);
    table.figure(&format!("  of {count} instances"), &format!("{} KiB", bytes / 1_024), "");
}

/// What the probes of a thousand processes cost the daemon, beside requests of a client that does nothing else.
fn probed(table: &mut Table, folder: &Path, rounds: usize) {
    let world = World::within(folder, u16::try_from(PROBED).unwrap());
    let every = |interval: &str| format!("healthcheck: {{ path: /health, interval: {interval}, timeout: 5s }}");
    world.pattern("hello", "hello", &every("10s"));
    world.desire_many("all.yaml", "hello", PROBED, "");
    let daemon = world.launch().flag("--log-level", "warn").start();
    daemon.all_settled(PROBED);
    pause(SETTLE);
    let mut bytes = 0;
    let scrape = || {
        let begun = monotonic();
        bytes = http::get(world.ports().http(), "/metrics").unwrap().1.len();
        monotonic().saturating_sub(begun)
    };
    table.times(&format!("scraping {PROBED} instances over HTTP"), rounds, scrape);
    table.figure("  of which", &format!("{} KiB", bytes / 1_024), "");

    let (probing, probes) = watched(&daemon);
    table.cpu_of(&format!("daemon's CPU, {PROBED} instances probed every 10 s"), (probing, WATCHED));
    world.manifest("hello", &every("1h"));
    pause(SETTLE);
    let (resting, few) = watched(&daemon);
    table.cpu_of(&format!("daemon's CPU, {PROBED} instances not probed"), (resting, WATCHED));
    let each = probing.saturating_sub(resting) / u32::try_from(probes.saturating_sub(few).max(1)).unwrap();
    table.figure(&format!("each of {probes} probes"), &format!("{:.1} µs of CPU", each.as_secs_f64() * 1e6), "");
    let status = wait_for("its status", || daemon.status());
    let ports: Vec<u16> = status.instances.iter().map(|key| key.ports.unwrap().health).collect();
    let fresh = bare_probes(&ports);
    let each_fresh = format!("{:.1} µs of CPU", fresh.as_secs_f64() * 1e6);
    table.figure("each request of a bare client that opens a connection for it, at the same pace", &each_fresh, "");
    table.beside("that client", each, fresh);
    let bare = bare_client();
    table.figure("each request of a bare keep-alive client", &format!("{:.1} µs of CPU", bare.as_secs_f64() * 1e6), "");
    table.beside("the keep-alive client", each, bare);
    drop(daemon);
}

/// The CPU time that the daemon uses in a while, and how many probes it carries out.
fn watched(daemon: &Daemon) -> (Duration, usize) {
    let probes = || Samples::of(daemon).unwrap().count("health_checks_total", &[]);
    let (before, cpu) = (probes(), cpu_of(daemon.pid()));
    pause(WATCHED);
    (cpu_of(daemon.pid()).saturating_sub(cpu), probes() - before)
}

/// The CPU time that this thread has used.
fn used() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap())
}

/// The CPU time that a request takes a client that does nothing else, asks the same processes as the launcher and at its
/// pace, and opens a connection each time: what the machine takes for a probe.
fn bare_probes(ports: &[u16]) -> Duration {
    let before = used();
    for some in ports.chunks(ports.len() / 100) {
        for port in some {
            let mut stream = TcpStream::connect(("127.0.0.1", *port)).unwrap();
            stream.write_all(REQUEST).unwrap();
            let mut status = [0; 12];
            stream.read_exact(&mut status).unwrap();
            assert_eq!(&status, b"HTTP/1.1 200");
        }
        pause(INTERVAL / 100);
    }
    used().saturating_sub(before) / u32::try_from(ports.len()).unwrap()
}

/// The CPU time that a request takes a client that does nothing else and sends one after the other over one connection,
/// to a server in a thread of its own.
fn bare_client() -> Duration {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || serve(&listener.accept().unwrap().0));
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut reader, mut writer) = (BufReader::new(&stream), &stream);
    let before = used();
    for _ in 0..REQUESTS {
        writer.write_all(REQUEST).unwrap();
        let length = head(&mut reader).expect("an answer");
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
    }
    let each = used().saturating_sub(before) / REQUESTS;
    drop(stream.shutdown(Shutdown::Both));
    server.join().unwrap();
    each
}

/// Answers each request on a connection until its client goes.
fn serve(stream: &TcpStream) {
    stream.set_nodelay(true).unwrap();
    let (mut reader, mut writer) = (BufReader::new(stream), stream);
    while head(&mut reader).is_some() {
        writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n").unwrap();
    }
}

/// Reads a head; how long its body is, or `None` at the end.
fn head(reader: &mut impl BufRead) -> Option<usize> {
    let (mut length, mut line) = (0, String::new());
    loop {
        line.clear();
        if reader.read_line(&mut line).unwrap() == 0 {
            return None;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            return Some(length);
        }
    }
}
