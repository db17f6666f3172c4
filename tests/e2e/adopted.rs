//! What a launcher took over from one that was killed is looked after like what it started itself.

use crate::world::api::{Client, tenant};
use crate::world::wait::{now, since};
use crate::world::{World, alive, signal, wait_for};
use pattern_launcher::api::proto::LaunchRequest;
use pattern_launcher::model::ProcessState;
use std::fs;
use std::time::Duration;

/// Makes a pattern that runs a shell script; `more` is the rest of its manifest.
fn script(world: &World, name: &str, script: &str, more: &str) {
    let folder = world.patterns().join(name);
    fs::create_dir(&folder).unwrap();
    let text = script.replace('$', "$$");
    let manifest = format!("name: {name}\nversion: 1.0.0\nexecutable: /bin/sh\nargs: [\"-c\", \"{text}\"]\n{more}\n");
    world.put(&folder.join("manifest.yaml"), &manifest);
}

/// Whether the kernel tells how a process ended that was somebody else's child, and has been reaped (Linux 6.15).
fn kernel_tells_exits() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 15)
}

#[test]
fn its_exit_is_told_as_the_kernel_tells_it_and_never_guessed() {
    let world = World::new();
    let go = world.root().join("go");
    let wait = format!("while ! [ -e {} ]; do sleep 0.05; done", go.display());
    script(&world, "seven", &format!("{wait}; exit 7"), "");
    script(&world, "zero", &format!("{wait}; exit 0"), "lifecycle: { restart: on-failure }");
    script(&world, "killed", &format!("{wait}; kill -9 $$"), "");
    world.desire(
        "all.yaml",
        "pattern: seven\nisolation: none\n---\npattern: zero\nisolation: none\n---\npattern: killed\nisolation: none\n",
    );
    // Whoever is restarted fails again at once, and is not tried a third time.
    let launch = world.launch().flag("--max-errors", "1").flag("--circuit-retry", "off");
    let daemon = launch.start();
    daemon.all_settled(3);
    daemon.kill();
    let daemon = launch.start();
    daemon.all_settled(3);
    fs::write(&go, "").unwrap();
    for (name, told) in [("seven", "exit code 7"), ("killed", "signal 9")] {
        let id = format!("shared:{name}");
        let failure = daemon.wait(&format!("{id} has failed"), |status| {
            let key = status.key(&id)?;
            key.circuit_open.then(|| key.last_error.clone().unwrap())
        });
        assert!(failure.contains(told) || !kernel_tells_exits() && failure.contains("unknown"), "{failure}");
    }
    let zero = daemon.wait("zero has ended", |status| {
        status.key("shared:zero").filter(|key| key.pid.is_none()).map(|key| (key.state, key.last_error.clone()))
    });
    match zero {
        (ProcessState::Finished, None) => {}
        // What is not known is not taken for success.
        (ProcessState::Failed, Some(error)) if !kernel_tells_exits() => assert!(error.contains("unknown"), "{error}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn its_probes_its_ports_and_its_log_go_on() {
    let world = World::new();
    world.pattern(
        "hello",
        "hello",
        "healthcheck: { path: /health, interval: 100ms, timeout: 1s, failure_threshold: 2 }",
    );
    world.desire("a.yaml", "pattern: hello\nnamespace: a\n");
    let daemon = world.start();
    let first = daemon.settled("ns:a:hello");
    let ports = daemon.status().unwrap().key("ns:a:hello").unwrap().ports;
    daemon.kill();
    let daemon = world.start();
    assert_eq!(daemon.settled("ns:a:hello"), first);
    // They are nobody else's.
    world.desire_many("others.yaml", "hello", 20, "");
    let status = daemon.all_settled(21);
    let same = status.instances.iter().filter(|key| {
        let [mine, theirs] = [ports.unwrap(), key.ports.unwrap()].map(|ports| [ports.grpc, ports.health]);
        mine.iter().any(|port| theirs.contains(port))
    });
    assert_eq!(same.count(), 1, "only the one that has them");
    // It hangs, and is restarted for it, where it was.
    signal(first, "STOP");
    let second = daemon.wait("it is restarted", |status| status.settled("ns:a:hello").filter(|pid| *pid != first));
    assert!(!alive(first));
    let status = daemon.status().unwrap();
    let key = status.key("ns:a:hello").unwrap();
    assert!(key.last_error.as_ref().unwrap().contains("HEALTH_CHECK_FAILED"), "{key:?}");
    assert_eq!((key.ports, key.pid), (ports, Some(second)));
    let logs = fs::read_dir(world.state().join("logs")).unwrap().map(|entry| entry.unwrap().path());
    let own = logs.map(|log| fs::read_to_string(log).unwrap()).find(|text| text.contains("ns:a:hello")).unwrap();
    assert_eq!(own.lines().filter(|line| line.contains(" serves on port ")).count(), 2, "one log for both: {own}");
}

#[test]
fn its_grace_and_its_time_are_its_own() {
    let world = World::new();
    world.pattern("stubborn", "sleeper", "args: [\"--stubborn\", \"true\"]\nlifecycle: { grace_period: 3s }");
    world.pattern("sleeper", "sleeper", "");
    world.desire("a.yaml", "pattern: stubborn\nnamespace: a\n");
    world.desire("keep.yaml", "pattern: sleeper\nnamespace: a\n");
    let daemon = world.start();
    let stubborn = daemon.settled("ns:a:stubborn");
    let client = Client::of(&world);
    let launched = client.launch(LaunchRequest { ttl_secs: 6, ..tenant("sleeper", "t") }).unwrap();
    assert!(launched.healthy);
    let asked = now();
    let pid = client.status("ns:t:sleeper").unwrap().pid;
    drop(client);
    daemon.kill();
    // What is to end meanwhile ends with the grace that it was started with, also when others are given more by now.
    world.undesire("a.yaml");
    world.manifest("stubborn", "args: [\"--stubborn\", \"true\"]\nlifecycle: { grace_period: 10m }");
    let daemon = world.start();
    let stopping = daemon.wait("it is asked to end", |status| {
        status.key("ns:a:stubborn").filter(|key| key.state == ProcessState::Terminating).map(|_| now())
    });
    daemon.gone("ns:a:stubborn");
    assert!(!alive(stubborn));
    // It was noticed a moment after it began.
    assert!(since(stopping) >= Duration::from_secs(2), "it had no grace: {:?}", since(stopping));
    let client = Client::of(&world);
    assert!(client.status("ns:t:sleeper").is_none_or(|status| status.pid == pid), "it was restarted");
    wait_for("its time is over", || client.status("ns:t:sleeper").is_none().then_some(()));
    assert!(since(asked) >= Duration::from_secs(6) && !alive(pid), "{:?}", since(asked));
}
