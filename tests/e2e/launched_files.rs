//! What a launch writes is a file like a person's: it can be read, edited and deleted by hand, and gives way to one.

use crate::world::command::{finished, program};
use crate::world::processes::variable;
use crate::world::{Daemon, Prismctl, World, alive, wait_for};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

const ID: &str = "ns:a:sleeper";

/// A world with a pattern, in which nothing is declared.
fn world() -> World {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    world
}

/// A daemon that hardly ever looks by itself: what is done by hand has to be noticed.
fn attentive(world: &World) -> Daemon {
    world.launch().flag("--resync-interval", "10m").start()
}

/// The only launched file.
fn launched_file(world: &World) -> PathBuf {
    match world.launched_files().as_slice() {
        [name] => world.launched().join(name),
        names => panic!("not one launched file: {names:?}"),
    }
}

#[test]
fn a_launched_file_can_be_read_edited_and_deleted_by_hand() {
    let world = world();
    let daemon = attentive(&world);
    let prismctl = Prismctl::of(&world);
    prismctl.done("pattern launch sleeper --namespace a --config GREETING=hello --grace-period 5s");
    let file = launched_file(&world);
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "it may hold passwords");
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("# Launched on request by uid "), "{text}");
    assert!(text.lines().next().unwrap().ends_with("Deleting this file ends its process."), "{text}");
    let said: serde_json::Value = serde_yaml::from_str(&text).unwrap();
    let expected = serde_json::json!({
        "pattern": "sleeper", "isolation": "namespace", "namespace": "a", "config": { "GREETING": "hello" },
        "grace_period": "5s",
    });
    assert_eq!(said, expected);
    let checked = world.launch().output(&["check"]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));

    let before = daemon.settled(ID);
    world.put(&file, &text.replace("hello", "good evening"));
    let after = daemon.wait("its process is replaced", |status| status.settled(ID).filter(|pid| *pid != before));
    assert!(!alive(before));
    assert_eq!(variable(after, "GREETING").unwrap(), "good evening");
    let info = prismctl.json(&format!("pattern status {ID}"));
    assert_eq!((&info["generation"], &info["api_managed"]), (&2.into(), &true.into()), "{info}");

    fs::remove_file(&file).unwrap();
    daemon.gone(ID);
    assert!(!alive(after));
    assert_eq!(prismctl.json("pattern list")["patterns"], serde_json::json!([]));
    prismctl.refused(&format!("pattern status {ID}"), 3);
    assert_eq!(world.launched_files(), [""; 0]);
}

#[test]
fn a_file_that_was_edited_by_hand_is_still_updated_and_ended_by_request() {
    let world = world();
    let daemon = attentive(&world);
    let prismctl = Prismctl::of(&world);
    prismctl.done("pattern launch sleeper --namespace a --config A=1");
    let before = daemon.settled(ID);
    world.put(&launched_file(&world), "{pattern: sleeper, namespace: a, config: {A: by hand}, grace_period: 3s}\n");
    let edited = daemon.wait("its process is replaced", |status| status.settled(ID).filter(|pid| *pid != before));
    prismctl.done(&format!("pattern update {ID} --config A=again --expected-generation 2"));
    // The answer comes when it is replaced, which the status file tells a little later.
    let updated = world.processes("sleeper")[ID][0];
    assert!(updated != edited && !alive(edited));
    assert_eq!(variable(updated, "A").unwrap(), "again");
    let text = fs::read_to_string(launched_file(&world)).unwrap();
    assert!(text.contains("grace_period: 3s"), "what the update does not name stays: {text}");
    prismctl.done(&format!("pattern terminate {ID}"));
    assert!(!alive(updated));
    assert_eq!(world.launched_files(), [""; 0]);
}

#[test]
fn a_persons_file_takes_over_what_was_launched_for_good() {
    let world = world();
    let daemon = attentive(&world);
    let prismctl = Prismctl::of(&world);
    prismctl.done("pattern launch sleeper --namespace a --config A=1");
    let pid = daemon.settled(ID);
    let file = launched_file(&world);
    let text = fs::read_to_string(&file).unwrap();
    world.desire("mine.yaml", "pattern: sleeper\nnamespace: a\nconfig: { A: \"1\" }\n");
    let aside = format!("{}.set-aside", file.file_name().unwrap().to_str().unwrap());
    wait_for("the launched file is set aside", || (world.launched_files() == [aside.clone()]).then_some(()));
    daemon.wait("it is the person's", |status| status.key(ID).filter(|key| !key.api_managed).map(drop));
    assert_eq!(fs::read_to_string(world.launched().join(&aside)).unwrap(), text);
    let info = prismctl.json(&format!("pattern status {ID}"));
    let mine = world.desired().join("mine.yaml").display().to_string();
    assert_eq!(
        (&info["pid"], &info["generation"], &info["restart_count"]),
        (&pid.into(), &1.into(), &0.into()),
        "{info}"
    );
    assert!(info["declared_at"].as_str().unwrap().starts_with(&mine), "{info}");

    world.undesire("mine.yaml");
    daemon.gone(ID);
    assert!(!alive(pid));
    // The launch does not come back, neither by itself nor with the next launcher.
    assert!(daemon.stop().success());
    let daemon = world.start();
    assert!(daemon.status().unwrap().instances.is_empty());
    prismctl.refused(&format!("pattern status {ID}"), 3);
    prismctl.done("pattern launch sleeper --namespace a");
    assert_eq!(world.launched_files().len(), 2, "the file that was set aside is no obstacle");
}

#[test]
fn a_persons_file_that_says_something_else_replaces_the_process() {
    let world = world();
    let daemon = attentive(&world);
    Prismctl::of(&world).done("pattern launch sleeper --namespace a --config A=1");
    let before = daemon.settled(ID);
    world.desire("mine.yaml", "pattern: sleeper\nnamespace: a\nconfig: { A: mine }\n");
    let after = daemon.wait("its process is replaced", |status| status.settled(ID).filter(|pid| *pid != before));
    assert_eq!(variable(after, "A").unwrap(), "mine");
    assert!(!alive(before));
    assert!(world.launched_files()[0].ends_with(".set-aside"), "{:?}", world.launched_files());
}

#[test]
fn a_desired_folder_under_git_stays_clean_when_launches_go_elsewhere() {
    let world = world();
    let folder = world.desired();
    let git = |words: &[&str]| {
        let mut command = program("git");
        let command = command.args(["-c", "user.name=e2e", "-c", "user.email=e2e@localhost"]).args(words);
        // Settings of whoever runs the tests are none of ours.
        let command = command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        let output = finished(command.current_dir(&folder), &world.root());
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    if !std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|at| at.join("git").exists())) {
        eprintln!("SKIPPED: git is not installed, so that nothing is shown about a desired folder under git");
        return;
    }
    world.desire("ours.yaml", "pattern: sleeper\nnamespace: ours\n");
    git(&["init", "--quiet"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "-m", "Declare ours"]);
    let daemon = world.start();
    daemon.settled("ns:ours:sleeper");
    let prismctl = Prismctl::of(&world);
    let clean = |after: &str| assert_eq!(git(&["status", "--porcelain", "--ignored"]), "", "after {after}");
    clean("the start");
    for namespace in ["a", "b", "c"] {
        prismctl.done(&format!("pattern launch sleeper --namespace {namespace}"));
    }
    clean("launches");
    prismctl.done(&format!("pattern update {ID} --config A=2"));
    prismctl.done("pattern suspend ns:ours:sleeper --reason repair");
    prismctl.done("pattern resume ns:ours:sleeper");
    clean("an update and a suspension");
    for namespace in ["a", "b", "c"] {
        prismctl.done(&format!("pattern terminate ns:{namespace}:sleeper"));
    }
    clean("terminates");
}
