//! What is suggested does what it says, when it is typed in as it stands there.

use crate::world::{Prismctl, World, alive, wait_for};
use std::fs;

/// Types in a command that was suggested; the test fails unless it does what it says.
fn follow(prismctl: &Prismctl, command: &str) -> String {
    let said = prismctl.type_in(command);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{command}: {said:?}");
    said.out
}

#[test]
fn an_open_circuit_is_closed_by_the_reset_that_is_suggested() {
    let world = World::new();
    let fixed = world.root().join("fixed");
    let check = format!(
        "healthcheck: {{ type: exec, command: [test, -f, {}], interval: 100ms, startup_timeout: 300ms }}",
        fixed.display()
    );
    world.pattern("sick", "sleeper", &check);
    let _daemon = world.launch().flag("--max-errors", "2").flag("--backoff-period", "100ms").start();
    let prismctl = Prismctl::of(&world);
    let opened = prismctl.refused("pattern launch sick --namespace a", 1);
    let refused = prismctl.refused("pattern launch sick --namespace a", 1);
    for said in [&opened, &refused] {
        assert!(said.err.contains("code: MAX_ERRORS_EXCEEDED"), "{}", said.err);
        follow(&prismctl, said.suggests("prismctl pattern logs ns:a:sick --tail 20"));
    }
    fs::write(&fixed, "").unwrap();
    opened.suggests("prismctl pattern reset ns:a:sick");
    follow(&prismctl, refused.suggests("prismctl pattern reset ns:a:sick"));
    wait_for("it runs", || (prismctl.run("pattern status ns:a:sick --check").code == 0).then_some(()));
    let launched = prismctl.done("pattern launch sick --namespace a");
    assert!(launched.starts_with("ns:a:sick is running and healthy"), "{launched}");
}

#[test]
fn what_is_suspended_runs_after_the_resume_that_is_suggested() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "isolation_level: session");
    let daemon = world.start();
    let prismctl = Prismctl::of(&world);
    // A session whose process id is more than one word for a shell.
    let launch = "pattern launch sleeper --namespace a --session auth0|o'neil";
    let key = "session:a:auth0|o'neil:sleeper";
    prismctl.done(launch);
    prismctl.done(&format!("pattern suspend {key} --reason repair"));
    for asked in [launch.to_owned(), format!("pattern restart {key}")] {
        let said = prismctl.refused(&asked, 1);
        assert!(said.err.contains("repair"), "{}", said.err);
        follow(&prismctl, said.suggests(r"prismctl pattern resume 'session:a:auth0|o'\''neil:sleeper'"));
        daemon.settled(key);
        prismctl.done(&format!("pattern suspend {key} --reason repair"));
    }
}

#[test]
fn what_a_person_declares_is_stopped_by_the_suspension_that_is_suggested() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    world.desire("a.yaml", "pattern: sleeper\nnamespace: a\n");
    let daemon = world.start();
    let pid = daemon.settled("ns:a:sleeper");
    let prismctl = Prismctl::of(&world);
    let command = "prismctl pattern suspend ns:a:sleeper --reason TEXT";
    for refused in ["pattern terminate ns:a:sleeper", "pattern update ns:a:sleeper --config A=1"] {
        let said = prismctl.refused(refused, 1);
        assert!(said.err.contains("code: DECLARED_BY_FILE"), "{}", said.err);
        said.suggests(world.desired().join("a.yaml").to_str().unwrap());
        said.suggests(command);
    }
    let verified = prismctl.refused("pattern abandon ns:a:sleeper", 1);
    assert!(verified.err.contains("code: ALREADY_RUNNING"), "{}", verified.err);
    follow(&prismctl, verified.suggests(command));
    assert!(!alive(pid));
    assert_eq!(prismctl.json("pattern status ns:a:sleeper")["state"], "terminated");
}

#[test]
fn what_is_missing_or_mistyped_is_given_by_what_is_suggested() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    let _daemon = world.start();
    let prismctl = Prismctl::of(&world);
    let tenant = prismctl.refused("pattern launch sleeper", 1);
    tenant.suggests("--namespace tenant-a");
    let tenant = prismctl.refused("pattern launch sleeper --isolation namespace", 1);
    let command = "prismctl pattern launch sleeper --namespace tenant-a --isolation namespace";
    let launched = follow(&prismctl, tenant.suggests(command));
    assert!(launched.starts_with("ns:tenant-a:sleeper is running"), "{launched}");
    let session = prismctl.refused("pattern launch sleeper --namespace tenant-a --isolation session", 1);
    let command = "prismctl pattern launch sleeper --namespace tenant-a --session user-123 --isolation session";
    let launched = follow(&prismctl, session.suggests(command));
    assert!(launched.starts_with("session:tenant-a:user-123:sleeper is running"), "{launched}");

    prismctl.refused("pattern launch sleper --namespace a", 3).suggests("sleeper");
    let manifests = prismctl.refused("manifests sleper", 3);
    assert!(follow(&prismctl, manifests.suggests("prismctl manifests")).contains("sleeper"));
    for command in ["status", "terminate", "restart", "reset", "explain", "logs", "abandon", "resume"] {
        let said = prismctl.refused(&format!("pattern {command} ns:tenant-b:sleeper"), 3);
        let listed = follow(&prismctl, said.suggests("prismctl pattern list"));
        assert!(listed.contains("ns:tenant-a:sleeper"), "{listed}");
    }
    prismctl.refused("pattern terminate ns:tenant-a:sleper", 3).suggests("ns:tenant-a:sleeper");
}

#[test]
fn what_was_deleted_by_hand_is_launched_again_as_suggested() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    let daemon = world.start();
    let prismctl = Prismctl::of(&world);
    let key = "session:a:auth0|o'neil:sleeper";
    prismctl.done("pattern launch sleeper --namespace a --session auth0|o'neil --isolation session");
    fs::remove_file(world.launched().join(&world.launched_files()[0])).unwrap();
    let said = prismctl.refused(&format!("pattern update {key} --config A=1"), 3);
    let command = r"prismctl pattern launch sleeper --isolation session --namespace a --session='auth0|o'\''neil'";
    let command = said.suggests(command);
    daemon.gone(key);
    let launched = follow(&prismctl, command);
    assert!(launched.starts_with(&format!("{key} is running")), "{launched}");
    assert_eq!(world.launched_files().len(), 1);
}

#[test]
fn a_launch_that_takes_too_long_is_looked_at_as_suggested() {
    let world = World::new();
    world.pattern("slow", "slow_starter", "args: [\"--after-ms\", \"60000\"]\nhealthcheck: { startup_timeout: 120s }");
    let _daemon = world.start();
    let prismctl = Prismctl::of(&world);
    let late = prismctl.refused("pattern launch slow --namespace a --timeout 1s", 5);
    assert!(late.err.contains("starting"), "{}", late.err);
    let status = follow(&prismctl, late.suggests("prismctl pattern status ns:a:slow"));
    assert!(status.contains("starting"), "{status}");
}

#[test]
fn a_launch_that_differs_is_told_how_to_change_what_runs() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    let _daemon = world.start();
    let prismctl = Prismctl::of(&world);
    prismctl.done("pattern launch sleeper --namespace a --config A=1");
    let said = prismctl.run("pattern launch sleeper --namespace a --config A=2");
    assert_eq!(said.code, 0);
    assert!(said.err.contains("`prismctl pattern update ns:a:sleeper"), "{}", said.err);
}
