//! Absence is a strong claim: what disappears all at once is held back until somebody confirms it.

use crate::world::processes::ByKey;
use crate::world::{Daemon, World, holds_for, wait_for};
use std::fs;
use std::time::Duration;

/// Longer than it takes for an absence to be believed.
const BELIEVED: Duration = Duration::from_secs(4);

fn five_files(world: &World) -> Daemon {
    world.pattern("sleeper", "sleeper", "");
    for n in 0..5 {
        world.desire(&format!("{n}.yaml"), &format!("pattern: sleeper\nnamespace: n{n}\n"));
    }
    let daemon = world.launch().flag("--resync-interval", "500ms").start();
    daemon.all_settled(5);
    daemon
}

fn nothing_is_killed(world: &World, before: &ByKey) {
    holds_for(BELIEVED, "every process is the one it was", || world.processes("sleeper") == *before);
}

/// The token that a condition gives.
fn token(daemon: &Daemon) -> String {
    daemon.wait("the deletion is held back", |status| {
        let all = status.conditions();
        let said = all.iter().find(|line| line.starts_with("PruneBlocked:"))?;
        let mut words = said.split(|c: char| c.is_whitespace() || "`'\";,".contains(c));
        words.find(|word| *word == "confirm-prune")?;
        words.find(|word| !word.is_empty() && !word.starts_with('-')).map(str::to_owned)
    })
}

#[test]
fn an_emptied_folder_kills_nothing_until_it_is_confirmed() {
    let world = World::new();
    let daemon = five_files(&world);
    let before = world.processes("sleeper");
    (0..5).for_each(|n| world.undesire(&format!("{n}.yaml")));
    nothing_is_killed(&world, &before);
    let token = token(&daemon);
    assert!(daemon.log().contains(&format!("confirm-prune {token}")), "the log gives the command too");

    let refused = world.launch().output(&["confirm-prune", "nonsense"]);
    assert!(!refused.status.success(), "{refused:?}");
    holds_for(Duration::from_secs(1), "a wrong token confirms nothing", || world.processes("sleeper") == before);

    let confirmed = world.launch().output(&["confirm-prune", &token]);
    assert!(confirmed.status.success(), "{confirmed:?}");
    wait_for("all are gone", || world.processes("sleeper").is_empty().then_some(()));
    daemon.wait("nothing is held", |status| status.conditions().is_empty().then_some(()));
}

#[test]
fn the_hold_survives_the_launcher_and_lifts_when_the_files_are_back() {
    let world = World::new();
    let daemon = five_files(&world);
    let before = world.processes("sleeper");
    let aside = world.root().join("aside");
    fs::create_dir(&aside).unwrap();
    let all = || (0..5).map(|n| format!("{n}.yaml"));
    all().for_each(|file| fs::rename(world.desired().join(&file), aside.join(&file)).unwrap());
    token(&daemon);
    daemon.kill();
    let daemon = world.launch().flag("--resync-interval", "500ms").start();
    token(&daemon);
    nothing_is_killed(&world, &before);
    all().for_each(|file| fs::rename(aside.join(&file), world.desired().join(&file)).unwrap());
    daemon.wait("nothing is held", |status| status.conditions().is_empty().then_some(()));
    assert_eq!(world.processes("sleeper"), before);
}

#[test]
fn deleting_one_file_of_three_and_then_the_only_one_is_no_mass_deletion() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    world.desire_many("a.yaml", "sleeper", 1, "");
    let daemon = world.start();
    daemon.all_settled(1);
    world.undesire("a.yaml");
    daemon.gone("ns:n0:sleeper");

    for n in ["x", "y", "z"] {
        world.desire(&format!("{n}.yaml"), &format!("pattern: sleeper\nnamespace: {n}\n"));
    }
    daemon.all_settled(3);
    world.undesire("x.yaml");
    daemon.gone("ns:x:sleeper");
    assert_eq!(world.processes("sleeper").len(), 2);
}

#[test]
fn a_missing_or_replaced_root_kills_nothing() {
    let world = World::new();
    let daemon = five_files(&world);
    let before = world.processes("sleeper");
    let away = world.root().join("away");
    fs::rename(world.desired(), &away).unwrap();
    daemon.wait("the scan fails", |status| status.has_condition("ScanFailed", "desired").then_some(()));
    nothing_is_killed(&world, &before);
    // Something else under its name.
    fs::write(world.desired(), "not a folder").unwrap();
    nothing_is_killed(&world, &before);
    fs::remove_file(world.desired()).unwrap();
    fs::rename(&away, world.desired()).unwrap();
    daemon.wait("all is well", |status| status.conditions().is_empty().then_some(()));
    assert_eq!(world.processes("sleeper"), before);
    world.undesire("0.yaml");
    daemon.gone("ns:n0:sleeper");
}

#[test]
fn an_unreadable_folder_kills_nothing() {
    use std::os::unix::fs::PermissionsExt;
    if rustix::process::geteuid().is_root() {
        eprintln!("skipped: root can read every folder");
        return;
    }
    let world = World::new();
    let daemon = five_files(&world);
    let before = world.processes("sleeper");
    fs::set_permissions(world.desired(), fs::Permissions::from_mode(0o000)).unwrap();
    daemon.wait("the scan fails", |status| status.has_condition("ScanFailed", "desired").then_some(()));
    nothing_is_killed(&world, &before);
    fs::set_permissions(world.desired(), fs::Permissions::from_mode(0o755)).unwrap();
    daemon.wait("all is well", |status| status.conditions().is_empty().then_some(()));
}
