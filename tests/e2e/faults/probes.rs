//! Health probes that come to no end: whoever hangs is restarted, nobody else notices, and nothing of a probe is left.

use crate::world::processes::{children_of, spawner_of};
use crate::world::wait::SOON;
use crate::world::{Daemon, World, wait_for, within};
use std::fs;
use std::path::Path;

/// What a probe may take.
const CHECK: &str = "interval: 20ms, timeout: 300ms, failure_threshold: 2";

/// The most threads that a launcher has: of the runtime, for calls that block, and some of its own.
const THREADS: usize = 4 + 16 + 8;

/// The descriptors that a process has open.
fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// The threads of a process.
fn threads(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).unwrap().count()
}

/// How many probes were carried out of the processes of a pattern.
fn probes(daemon: &Daemon, pattern: &str) -> f64 {
    let (_, text) = daemon.get("/metrics").unwrap();
    let of = format!("pattern=\"{pattern}\"");
    let lines =
        text.lines().filter(|line| line.starts_with("pattern_launcher_health_checks_total") && line.contains(&of));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// Programs that are healthy at first, each with a check that comes to no end once there is a file at `mark`, or soon.
fn endless(world: &World, mark: &Path) -> [&'static str; 6] {
    let stubborn = "trap '' TERM INT HUP; sleep 1000 & (sleep 1000 & wait) & while :; do sleep 1; done";
    let command = format!("type: exec, command: [sh, -c, \"test ! -e $0 || {{ {stubborn}; }}\", $(MARK)]");
    let ways = [
        ("silence", "tarpit", "path: /, startup_timeout: 20s"),
        ("backlog", "tarpit", "type: tcp, startup_timeout: 20s"),
        ("drip", "tarpit", "path: /, startup_timeout: 20s"),
        ("head", "tarpit", "path: /, startup_timeout: 20s"),
        // It never was healthy.
        ("mute", "tarpit", "type: grpc, startup_timeout: 1s"),
        ("command", "sleeper", command.as_str()),
    ];
    for (name, example, check) in ways {
        let then = name.replace("mute", "silence");
        let args = match example {
            "tarpit" => format!("args: [\"--after-ms\", \"200\", \"--then\", \"{then}\"]\n"),
            _ => format!("environment: {{ MARK: \"{}\" }}\n", mark.display()),
        };
        world.pattern(name, example, &format!("{args}healthcheck: {{ {check}, {CHECK} }}"));
        world.desire(&format!("{name}.yaml"), &format!("pattern: {name}\nnamespace: a\n"));
    }
    ways.map(|(name, ..)| name)
}

/// Waits until the process of each has been restarted for what its probes say.
fn all_are_restarted(daemon: &Daemon, names: &[&str]) {
    for name in names {
        let id = format!("ns:a:{name}");
        let why = if *name == "mute" { "PROCESS_START_FAILED" } else { "HEALTH_CHECK_FAILED" };
        daemon.wait(&format!("{id} is restarted for what its probes say"), |status| {
            let key = status.key(&id)?;
            (key.restart_count > 0 && key.last_error.as_ref()?.contains(why)).then_some(())
        });
    }
}

#[test]
fn whoever_answers_no_probe_is_restarted_alone_and_nothing_leaks() {
    let world = World::new();
    world.pattern("calm", "hello", "healthcheck: { path: /health, interval: 100ms, timeout: 5s }");
    world.desire_many("calm.yaml", "calm", 3, "");
    let daemon = world.launch().flag("--max-errors", "100000").flag("--backoff-period", "50ms").start();
    let calm = daemon.all_settled(3);
    let calm: Vec<Option<i32>> = (0..3).map(|n| calm.settled(&format!("ns:n{n}:calm"))).collect();
    // What keep-alives and the first start leave for a while is gone before anything is counted.
    let rest = || (descriptors(daemon.pid()), threads(daemon.pid()), children_of(daemon.pid()).len());
    let (files_before, _, children_before) = rest();

    let mark = world.root().join("mark");
    let names = endless(&world, &mark);
    // An answer whose body has no end is an answer.
    world.pattern(
        "body",
        "tarpit",
        "args: [\"--after-ms\", \"1\", \"--then\", \"body\"]\nhealthcheck: { path: /, interval: 20ms, timeout: 5s }",
    );
    world.desire("body.yaml", "pattern: body\nnamespace: a\n");
    daemon.settled("ns:a:command");
    fs::write(&mark, "").unwrap();
    let body = daemon.settled("ns:a:body");

    all_are_restarted(&daemon, &names);
    wait_for("some hundred probes", || {
        let all: f64 = names.iter().map(|name| probes(&daemon, name)).sum();
        (all > 200.0 && probes(&daemon, "body") > 100.0).then_some(())
    });
    let status = daemon.status().unwrap();
    for (n, pid) in calm.iter().enumerate() {
        assert_eq!(status.settled(&format!("ns:n{n}:calm")), *pid, "a calm one felt it");
    }
    assert_eq!(status.settled("ns:a:body"), Some(body), "it answers");

    for name in names.into_iter().chain(["body"]) {
        world.desire(&format!("{name}.yaml"), &format!("pattern: {name}\nnamespace: a\nstate: stopped\n"));
    }
    daemon.wait("only the calm ones run", |status| {
        let running = status.instances.iter().filter(|key| key.pid.is_some()).count();
        (running == 3 && status.settled_count() == 3).then_some(())
    });
    // Threads that have nothing to do stay for a minute, so that they are bounded rather than gone.
    let clean = within(SOON, || {
        let (files, threads, children) = rest();
        files <= files_before && threads <= THREADS && children <= children_before
    });
    assert!(clean, "{:?} is left, and there were {files_before} files and {children_before} children", rest());
    assert!(spawner_of(daemon.pid()).is_some());
}
