//! What a process is given: its environment, arguments, folder, ports, session and log.

use crate::lifecycle::HELLO;
use crate::world::processes::environment;
use crate::world::{World, http, wait_for};
use std::collections::BTreeSet;
use std::fs;

#[test]
fn the_environment_is_what_the_contract_lists_and_no_more() {
    let world = World::new();
    world.pattern("hello", "hello", &format!("{HELLO}\nenvironment: {{ LEVEL: info, BOTH: manifest }}"));
    world.desire("a.yaml", "pattern: hello\nnamespace: a\nconfig: { own: 1, BOTH: instance }\n");
    let daemon = world.start();
    let pid = daemon.settled("ns:a:hello");
    let status = daemon.status().unwrap();
    let key = status.key("ns:a:hello").unwrap();
    let ports = key.ports.unwrap();

    let given = environment(pid);
    let one = |name: &str| given.get(name).map(String::as_str);
    assert_eq!(one("PATTERN_NAME"), Some("hello"));
    assert_eq!((one("NAMESPACE"), one("SESSION_ID")), (Some("a"), Some("")));
    assert_eq!(one("PROCESS_ID"), Some("ns:a:hello"));
    assert_eq!(one("GRPC_PORT"), Some(ports.grpc.to_string().as_str()));
    assert_eq!(one("HEALTH_PORT"), Some(ports.health.to_string().as_str()));
    assert_eq!(one("RUN_ID").map(str::to_owned), key.run_id.map(|run| run.to_string()));
    assert_eq!((one("LEVEL"), one("own"), one("BOTH")), (Some("info"), Some("1"), Some("instance")));
    assert!(world.ports().holds(ports.grpc) && world.ports().holds(ports.health), "{ports:?}");

    let ours = "PATTERN_NAME NAMESPACE SESSION_ID PROCESS_ID GRPC_PORT HEALTH_PORT RUN_ID LEVEL own BOTH";
    let passed = "PATH HOME USER LANG LC_ALL TZ TMPDIR";
    let known: BTreeSet<&str> = ours.split(' ').chain(passed.split(' ')).collect();
    let strange: Vec<_> = given.keys().filter(|name| !known.contains(name.as_str())).collect();
    assert!(strange.is_empty(), "{strange:?}");
}

#[test]
fn the_service_is_reached_where_the_status_says_and_knows_who_it_is() {
    let world = World::new();
    world.pattern("hello", "hello", &format!("{HELLO}\nargs: [\"--greeting\", \"$(NAMESPACE) $$(NAMESPACE)\"]"));
    world.desire("a.yaml", "pattern: hello\nnamespace: a\n");
    let daemon = world.start();
    daemon.settled("ns:a:hello");
    let address = daemon.status().unwrap().key("ns:a:hello").unwrap().address.clone().unwrap();
    let port = address.strip_prefix("127.0.0.1:").unwrap().parse().unwrap();
    let (_, body) = wait_for("the service answers", || http::get(port, "/"));
    let who: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(who["process_id"], "ns:a:hello");
    assert_eq!(who["greeting"], "a $(NAMESPACE)");
}

#[test]
fn a_process_leads_its_own_session_in_its_patterns_folder() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    world.desire("a.yaml", "pattern: sleeper\nnamespace: a\n");
    let daemon = world.start();
    let pid = daemon.settled("ns:a:sleeper");
    assert_eq!(fs::read_link(format!("/proc/{pid}/cwd")).unwrap(), world.patterns().join("sleeper"));
    assert_eq!(fs::read_link(format!("/proc/{pid}/fd/0")).unwrap().to_str(), Some("/dev/null"));
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let own = pid.to_string();
    assert_eq!((fields[2], fields[3]), (own.as_str(), own.as_str()), "process group and session");
    // Nothing of the launcher's is open in it but its own three streams.
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    assert_eq!(open, 3, "{:?}", fs::read_dir(format!("/proc/{pid}/fd")).unwrap().collect::<Vec<_>>());
}

#[test]
fn output_goes_to_the_instances_own_log() {
    let world = World::new();
    world.pattern("flood", "log_flooder", "args: [\"--lines\", \"500\"]");
    world.desire("a.yaml", "pattern: flood\nnamespace: a\n");
    let daemon = world.start();
    let pid = daemon.settled("ns:a:flood");
    let log = fs::read_link(format!("/proc/{pid}/fd/1")).unwrap();
    assert!(log.starts_with(world.state()), "{}", log.display());
    assert_eq!(log, fs::read_link(format!("/proc/{pid}/fd/2")).unwrap());
    wait_for("all lines are in the log", || {
        (fs::read_to_string(&log).unwrap().lines().filter(|line| line.ends_with("xxx")).count() == 500).then_some(())
    });
}

#[test]
fn a_preferred_health_port_is_given_when_it_is_free() {
    let world = World::new();
    // A port of this world's own, so that no other test has it; the daemon's range begins above it.
    let preferred = world.ports().http() + 1;
    world.pattern("hello", "hello", &format!("healthcheck: {{ path: /health, port: {preferred} }}"));
    world.desire("all.yaml", "pattern: hello\nnamespaces: [a, b]\n");
    let daemon = world.start();
    let status = daemon.all_settled(2);
    let ports: Vec<u16> = status.instances.iter().map(|key| key.ports.unwrap().health).collect();
    assert_eq!(ports.iter().filter(|port| **port == preferred).count(), 1, "{ports:?}");
}
