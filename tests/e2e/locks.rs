//! One launcher per state folder and per desired folder.

use crate::world::World;
use pattern_launcher::Launcher;
use pattern_launcher::error::Code;

#[test]
fn a_second_launcher_is_refused_and_told_the_pid_of_the_first() {
    let world = World::new();
    let first = world.start();
    let pid = format!("{}", first.pid());
    let second = world.launch().flag("--http-port", "off").output(&["run"]);
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success());
    assert!(said.contains("ALREADY_RUNNING") && said.contains(&pid), "{said}");
}

#[test]
fn a_launcher_with_another_state_folder_is_refused_by_the_desired_folder() {
    let world = World::new();
    let first = world.start();
    let elsewhere = world.root().join("elsewhere");
    let second = world
        .launch()
        .flag("--http-port", "off")
        .flag("--state-dir", elsewhere.to_str().unwrap())
        .flag("--launch-dir", elsewhere.join("launched").to_str().unwrap())
        .output(&["run"]);
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success());
    assert!(said.contains("ALREADY_RUNNING") && said.contains(&first.pid().to_string()), "{said}");
}

#[test]
fn the_locks_go_with_the_launcher_however_it_ends() {
    let world = World::new();
    world.start().kill();
    world.start().stop();
    world.start();
}

#[test]
fn a_program_that_embeds_a_launcher_is_refused_beside_a_daemon() {
    let world = World::new();
    let daemon = world.start();
    let pid = daemon.pid().to_string();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let builder = || Launcher::builder().patterns_dir(world.patterns()).desired_dir(world.desired());
    let elsewhere = world.root().join("elsewhere");
    let same_state = builder().state_dir(world.state()).launch_dir(elsewhere.join("launched"));
    let same_root = builder().state_dir(elsewhere.join("state")).launch_dir(elsewhere.join("launched"));
    for builder in [same_state, same_root] {
        let refused = runtime.block_on(builder.build()).err().unwrap();
        let told = (refused.code(), refused.context_value("pid"));
        assert_eq!(told, (Code::AlreadyRunning, Some(pid.as_str())), "{refused}");
    }
}
