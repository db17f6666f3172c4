//! What the commands do, print and end with.

use crate::world::processes::variable;
use crate::world::{Prismctl, World, alive};
use serde_json::Value;

const ID: &str = "ns:a:sleeper";

/// The pid of the only process there is.
fn pid(world: &World) -> i32 {
    let processes = world.processes("sleeper");
    assert_eq!(processes.keys().collect::<Vec<_>>(), [ID]);
    assert_eq!(processes[ID].len(), 1, "{processes:?}");
    processes[ID][0]
}

/// The value in a line `NAME  value`.
fn fact<'a>(text: &'a str, name: &str) -> &'a str {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix("  "));
    value.unwrap_or_else(|| panic!("{name}: {text}")).trim()
}

#[test]
fn a_process_is_launched_looked_at_and_ended() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    let _daemon = world.start();
    let prismctl = Prismctl::of(&world);
    let launch = "pattern launch sleeper --namespace a --config A=1";
    let launched = prismctl.done(launch);
    let address = launched.strip_prefix("ns:a:sleeper is running and healthy, at 127.0.0.1:").unwrap().trim();
    assert!(world.ports().holds(address.parse().unwrap()), "{launched}");
    assert_eq!(prismctl.done(launch), launched.replace('\n', ", declared before\n"));
    let process = pid(&world);
    assert_eq!(variable(process, "A").unwrap(), "1");

    let table = prismctl.done("pattern list");
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["PATTERN", "PROCESS", "ID", "STATE", "HEALTHY", "UPTIME", "RESTARTS", "PID"]);
    assert_eq!(rows[1][..4], ["sleeper", ID, "running", "yes"]);
    assert_eq!(rows[1][5..], ["0", process.to_string().as_str()]);
    assert_eq!(rows.len(), 2);
    let listed = prismctl.json("pattern list --namespace a --state running");
    assert_eq!(listed["total_count"], 1);
    assert_eq!((&listed["patterns"][0]["process_id"], &listed["patterns"][0]["pid"]), (&ID.into(), &process.into()));
    let none = prismctl.run("pattern list --namespace b");
    assert_eq!((none.code, none.out.as_str()), (0, ""));
    assert!(none.err.contains("none of the 1"), "{}", none.err);

    let status = prismctl.done("pattern status ns:a:sleeper --check");
    for (name, value) in [("PROCESS ID", ID), ("STATE", "running"), ("HEALTHY", "yes"), ("RESTARTS", "0")] {
        assert_eq!(fact(&status, name), value);
    }
    let explained = prismctl.done("pattern explain ns:a:sleeper");
    let file = world.launched().join(&world.launched_files()[0]);
    assert!(explained.contains(&format!("It is declared in {}:2, launched by uid ", file.display())), "{explained}");
    assert!(explained.contains(&format!("It runs as pid {process} for ")), "{explained}");

    assert_eq!(prismctl.done("pattern terminate ns:a:sleeper"), "ns:a:sleeper is gone\n");
    assert!(!alive(process));
    assert_eq!(world.launched_files(), [""; 0]);
    for gone in ["pattern status ns:a:sleeper", "pattern terminate ns:a:sleeper", "pattern explain ns:a:sleeper"] {
        let said = prismctl.refused(gone, 3);
        assert!(said.err.contains("code: PROCESS_NOT_FOUND"), "{gone}: {}", said.err);
    }
}

#[test]
fn a_process_is_restarted_suspended_resumed_and_updated() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    let _daemon = world.start();
    let prismctl = Prismctl::of(&world);
    prismctl.done("pattern launch sleeper --namespace a --config A=1");
    let first = pid(&world);
    let restarted = prismctl.done("pattern restart ns:a:sleeper");
    let second = pid(&world);
    assert!(second != first && !alive(first));
    assert!(restarted.starts_with(&format!("{ID} is running and healthy, pid {second}, at ")), "{restarted}");

    let suspended = prismctl.done("pattern suspend ns:a:sleeper --reason upgrade --for 1h");
    assert_eq!(suspended, "ns:a:sleeper is terminated, suspended: upgrade\n");
    assert!(world.processes("sleeper").is_empty());
    let info = prismctl.json("pattern status ns:a:sleeper");
    assert_eq!((&info["state"], &info["suspension"]["reason"]), (&"terminated".into(), &"upgrade".into()), "{info}");
    assert!(info["suspension"]["ends_in_seconds"].as_i64().is_some_and(|left| (3_000..=3_600).contains(&left)));
    assert_eq!(prismctl.run("pattern status ns:a:sleeper --check").code, 1);
    prismctl.done("pattern resume ns:a:sleeper");
    let third = pid(&world);

    let update = "pattern update ns:a:sleeper --config A=2 --expected-generation";
    let said = prismctl.refused(&format!("{update} 7"), 1);
    assert!(said.err.contains("generation 1"), "{}", said.err);
    assert_eq!(pid(&world), third, "nothing is changed");
    prismctl.done(&format!("{update} 1"));
    let fourth = pid(&world);
    assert!(fourth != third && !alive(third));
    assert_eq!(variable(fourth, "A").unwrap(), "2");
    let moved = prismctl.refused(&format!("{update} 1"), 1);
    assert!(moved.err.contains("generation 2"), "{}", moved.err);
    let info = prismctl.json("pattern status ns:a:sleeper");
    assert_eq!((&info["generation"], &info["restart_count"]), (&2.into(), &info["restart_count"]), "{info}");
    assert_eq!(info["error_count"], 0, "nothing of this is a failure: {info}");
}

#[test]
fn the_launcher_is_asked_about_itself() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    world.pattern("other", "sleeper", "description: Sleeps, too\nisolation_level: none");
    let _daemon = world.start();
    let prismctl = Prismctl::of(&world);
    let table = prismctl.done("manifests");
    let names: Vec<&str> = table.lines().skip(1).filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(names, ["other", "sleeper"], "{table}");
    let one = prismctl.json("manifests other");
    assert_eq!(one["manifests"][0]["isolation"], "none", "{one}");
    prismctl.done("pattern launch sleeper --namespace a");
    prismctl.done("plan");
    let planned = prismctl.json("plan");
    let actions: Vec<&Value> = planned["actions"].as_array().unwrap().iter().collect();
    assert!(actions.iter().all(|action| action["action"] == "none"), "{planned}");
    prismctl.done("health");
    let health = prismctl.json("health --processes");
    assert_eq!((&health["healthy"], &health["total_processes"]), (&true.into(), &1.into()), "{health}");
    assert_eq!(health["processes"][0]["process_id"], ID, "{health}");
}

#[test]
fn the_end_of_what_a_process_printed_is_printed() {
    let world = World::new();
    world.pattern("flooder", "log_flooder", "args: [\"--lines\", \"1000\"]");
    let daemon = world.start();
    let prismctl = Prismctl::of(&world);
    prismctl.done("pattern launch flooder --namespace a");
    daemon.settled("ns:a:flooder");
    let logs = crate::world::wait_for("it has printed", || {
        Some(prismctl.done("pattern logs ns:a:flooder --tail 5")).filter(|logs| logs.lines().count() == 5)
    });
    let line = |text: &str| serde_json::json!({ "data": text }).to_string();
    let said = prismctl.run("pattern logs ns:a:flooder --tail 1 -o json");
    assert!(said.code == 0 && said.out.starts_with("{\"data\":"), "{said:?}");
    assert!(logs.lines().all(|text| line(text).len() > line("").len()), "{logs}");
    prismctl.refused("pattern logs ns:nobody:flooder --tail 5", 3);
}

#[test]
fn exit_codes_tell_scripts_what_went_wrong() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    world.pattern("slow", "slow_starter", "args: [\"--after-ms\", \"60000\"]\nhealthcheck: { startup_timeout: 120s }");
    let daemon = world.start();
    let prismctl = Prismctl::of(&world);
    for (line, code, reason) in [
        ("pattern launch sleper --namespace a", 3, "PATTERN_NOT_FOUND"),
        ("manifests sleper", 3, "PATTERN_NOT_FOUND"),
        ("pattern restart ns:b:sleeper", 3, "PROCESS_NOT_FOUND"),
        ("pattern launch sleeper", 1, "MISSING_NAMESPACE"),
        ("pattern launch sleeper --namespace a --config RUN_ID=1", 1, "INVALID_INSTANCE"),
    ] {
        let said = prismctl.refused(line, code);
        assert!(said.err.contains(&format!("code: {reason}\n")), "{line}: {}", said.err);
        let told = prismctl.run(&format!("{line} -o json"));
        let error: Value = serde_json::from_str(&told.err).unwrap();
        assert_eq!((told.code, told.out.as_str()), (code, ""), "{line}");
        assert_eq!((&error["error"]["code"], &error["error"]["exit_code"]), (&reason.into(), &code.into()), "{line}");
    }
    assert_eq!(prismctl.run("pattern launch").code, 2);
    prismctl.refused("pattern launch slow --namespace a --timeout 500ms", 5);
    daemon.wait("the launch goes on", |status| status.key("ns:a:slow").map(drop));

    daemon.kill();
    let killed = prismctl.refused("pattern list", 4);
    assert!(killed.err.contains("is gone"), "{}", killed.err);
    assert!(world.start().stop().success());
    let ended = prismctl.refused("pattern list", 4);
    assert!(ended.err.contains(world.state().to_str().unwrap()), "{}", ended.err);
}
