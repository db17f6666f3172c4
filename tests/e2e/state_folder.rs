//! The state folder removed, renamed or replaced under a daemon that runs: it is whole again by itself, nothing that runs
//! is touched, and a daemon that is killed afterwards loses and doubles nothing.

use crate::world::processes::ByKey;
use crate::world::wait::SOON;
use crate::world::{Daemon, Prismctl, World, holds_for, wait_for, within};
use pattern_launcher::model::ProcessState;
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

/// Instances that run; one more is suspended, which nothing but the memories says.
const RUNNING: usize = 3;
const SUSPENDED: &str = "ns:n3:sleeper";

/// A world with its instances, its daemon and the processes as they are.
fn at_rest() -> (World, Daemon, ByKey) {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    world.desire_many("all.yaml", "sleeper", RUNNING + 1, "");
    let daemon = world.start();
    daemon.all_settled(RUNNING + 1);
    Prismctl::of(&world).done(&format!("pattern suspend {SUSPENDED} --reason test"));
    daemon.wait("it is suspended", |status| (status.state(SUSPENDED) == Some(ProcessState::Terminated)).then_some(()));
    let processes = world.processes("sleeper");
    assert_eq!(processes.len(), RUNNING);
    (world, daemon, processes)
}

/// Waits until the daemon has said so often that the folder is whole again.
fn whole(daemon: &Daemon, times: usize) {
    wait_for("the state folder is whole again", || {
        (daemon.log().matches("the state folder is whole again").count() >= times).then_some(())
    });
}

fn settled(daemon: &Daemon) {
    daemon.wait("all is as it was", |status| {
        let suspended = status.state(SUSPENDED) == Some(ProcessState::Terminated);
        (suspended && status.settled_count() == RUNNING).then_some(())
    });
}

/// The folder has all that the next launcher needs, the daemon is reached, and a second one is kept out.
fn all_is_there(world: &World, daemon: &Daemon, processes: &ByKey) {
    settled(daemon);
    assert_eq!(&world.processes("sleeper"), processes, "nothing that runs was touched");
    let (code, health) = daemon.get("/health").unwrap();
    assert_eq!(code, 200, "{health}");
    assert!(Prismctl::of(world).done("pattern list").contains("ns:n0:sleeper"));
    // One of a run that has ended may have come back with the folder.
    wait_for("exactly what runs is on record", || {
        (fs::read_dir(world.state().join("runs")).unwrap().count() == RUNNING).then_some(())
    });
    for name in ["lock", "memory.log", "events.log", "boot-id.json", "desired-roots.json", "logs", "http.sock"] {
        assert!(world.state().join(name).exists(), "{name} is not there");
    }
    assert_eq!(world.state().join("cgroup-base").exists(), world.cgroup().is_some());
    second_is_refused(world, daemon);
}

/// One that shares nothing but the state folder is kept out, and told by whom.
fn second_is_refused(world: &World, daemon: &Daemon) {
    let elsewhere = world.root().join("elsewhere");
    fs::create_dir_all(&elsewhere).unwrap();
    let path = |name: &str| elsewhere.join(name).to_str().unwrap().to_owned();
    fs::create_dir_all(path("desired")).unwrap();
    let second = world
        .launch()
        .flag("--http-port", "off")
        .flag("--desired-dir", path("desired"))
        .flag("--launch-dir", path("launched"))
        .output(&["run"]);
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success());
    assert!(said.contains("ALREADY_RUNNING") && said.contains(&daemon.pid().to_string()), "{said}");
}

/// A daemon that is killed now is succeeded by one that takes over everything and starts nothing.
fn nothing_is_lost_or_doubled(world: &World, daemon: Daemon, processes: &ByKey) {
    daemon.kill();
    let daemon = world.start();
    settled(&daemon);
    assert_eq!(&world.processes("sleeper"), processes);
    let status = daemon.status().unwrap();
    assert!(status.instances.iter().all(|key| key.restart_count == 0), "something was restarted");
    let explained = Prismctl::of(world).done(&format!("pattern explain {SUSPENDED}"));
    assert!(explained.contains("suspended"), "what happened before is known: {explained}");
    assert!(daemon.stop().success());
    assert!(world.processes("sleeper").is_empty());
}

#[test]
fn a_state_folder_that_is_renamed_is_whole_again_by_itself() {
    let (world, daemon, processes) = at_rest();
    fs::rename(world.state(), world.root().join("away")).unwrap();
    whole(&daemon, 1);
    all_is_there(&world, &daemon, &processes);
    nothing_is_lost_or_doubled(&world, daemon, &processes);
}

#[test]
fn a_state_folder_that_is_removed_is_whole_again_by_itself() {
    let (world, daemon, processes) = at_rest();
    // The daemon may be as quick as to make something anew in the midst of it; then it is removed once more.
    assert!(within(SOON, || fs::remove_dir_all(world.state()).is_ok()), "it cannot be removed");
    whole(&daemon, 1);
    all_is_there(&world, &daemon, &processes);
    nothing_is_lost_or_doubled(&world, daemon, &processes);
}

#[test]
fn a_state_folder_that_comes_back_under_its_name_is_taken_again() {
    let (world, daemon, processes) = at_rest();
    let [first, second] = ["first", "second"].map(|name| world.root().join(name));
    fs::rename(world.state(), &first).unwrap();
    whole(&daemon, 1);
    fs::rename(world.state(), &second).unwrap();
    fs::rename(&first, world.state()).unwrap();
    whole(&daemon, 2);
    all_is_there(&world, &daemon, &processes);
    nothing_is_lost_or_doubled(&world, daemon, &processes);
}

#[test]
fn the_record_of_a_run_that_is_over_goes_at_once_when_its_folder_comes_back() {
    let (world, daemon, processes) = at_rest();
    let [first, second] = ["first", "second"].map(|name| world.root().join(name));
    fs::rename(world.state(), &first).unwrap();
    whole(&daemon, 1);
    let (id, pids) = processes.first_key_value().unwrap();
    crate::world::signal(pids[0], "KILL");
    daemon.wait("it runs again", |status| status.settled(id).filter(|pid| *pid != pids[0]));
    fs::rename(world.state(), &second).unwrap();
    fs::rename(&first, world.state()).unwrap();
    whole(&daemon, 2);
    // Sooner than records are looked for otherwise.
    all_is_there(&world, &daemon, &world.processes("sleeper"));
}

#[test]
fn a_second_launcher_is_kept_away_from_what_runs_also_while_the_lock_is_gone() {
    let (world, daemon, processes) = at_rest();
    if world.cgroup().is_none() {
        eprintln!("skipped: without a cgroup v2 nothing but the lock of the state folder tells a launcher of another");
        return;
    }
    // It stands still, so that it cannot take the folder again.
    daemon.signal("STOP");
    fs::remove_dir_all(world.state()).unwrap();
    second_is_refused(&world, &daemon);
    assert_eq!(world.processes("sleeper"), processes, "what runs has no record and was taken for nobody's");
    daemon.signal("CONT");
    whole(&daemon, 1);
    all_is_there(&world, &daemon, &processes);
    nothing_is_lost_or_doubled(&world, daemon, &processes);
}

#[test]
fn what_is_removed_from_the_state_folder_is_made_again() {
    let (world, daemon, processes) = at_rest();
    let audited = fs::read_to_string(world.state().join("audit.log")).unwrap();
    assert!(audited.contains(SUSPENDED), "{audited}");
    let names = [
        "runs",
        "logs",
        "cgroup-base",
        "boot-id.json",
        "memory.log",
        "events.log",
        "audit.log",
        "api.sock",
        "http.sock",
        "status.json",
    ];
    for name in names {
        let path = world.state().join(name);
        if path.is_dir() {
            fs::remove_dir_all(&path).unwrap();
        } else if path.exists() {
            fs::remove_file(&path).unwrap();
        }
    }
    wait_for("all of it is there again", || {
        let is_there = |name: &&str| *name == "cgroup-base" || world.state().join(name).exists();
        let runs = fs::read_dir(world.state().join("runs")).ok()?.count();
        (names.iter().all(is_there) && runs == RUNNING && daemon.get("/health")?.0 == 200).then_some(())
    });
    assert_eq!(fs::read_to_string(world.state().join("audit.log")).unwrap(), audited);
    all_is_there(&world, &daemon, &processes);
    nothing_is_lost_or_doubled(&world, daemon, &processes);
}

/// Another's state folder, locked by this process, put in the place of a world's in one step.
fn occupied(world: &World) -> File {
    let other = world.root().join("other");
    fs::create_dir(&other).unwrap();
    let lock = File::create(other.join("lock")).unwrap();
    flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
    renameat_with(CWD, &other, CWD, world.state(), RenameFlags::EXCHANGE).unwrap();
    lock
}

#[test]
fn nothing_is_written_into_a_folder_that_another_holds_until_it_is_let_go_of() {
    let (world, daemon, processes) = at_rest();
    let lock = occupied(&world);
    let told = wait_for("the daemon says who holds it", || {
        let (code, health) = daemon.get("/health")?;
        (code == 503).then_some(health)
    });
    let pid = std::process::id().to_string();
    for word in ["Another launcher holds the state folder", pid.as_str(), "kill", "by itself"] {
        assert!(told.contains(word), "no '{word}' in {told}");
    }
    // Nor when there is something to write: a process ends, and would be started again.
    let (id, pids) = processes.first_key_value().unwrap();
    crate::world::signal(pids[0], "KILL");
    let names = || -> Vec<_> { fs::read_dir(world.state()).unwrap().map(|entry| entry.unwrap().file_name()).collect() };
    holds_for(Duration::from_secs(3), "nothing is written there", || names() == ["lock"]);
    assert!(!world.processes("sleeper").contains_key(id), "nothing is started without a record");
    drop(lock);
    whole(&daemon, 1);
    settled(&daemon);
    let after = world.processes("sleeper");
    assert!(processes.iter().skip(1).all(|(key, pids)| after.get(key) == Some(pids)), "the others were left alone");
    assert_eq!(after.len(), RUNNING);
    all_is_there(&world, &daemon, &after);
    daemon.kill();
    let daemon = world.start();
    settled(&daemon);
    assert_eq!(world.processes("sleeper"), after);
}

#[test]
fn what_is_in_the_place_of_the_folder_is_told_and_healed_once_it_is_gone() {
    let (world, daemon, processes) = at_rest();
    let blocks: [fn(&Path); 2] =
        [|path| fs::write(path, "").unwrap(), |path| std::os::unix::fs::symlink("/nowhere/at/all", path).unwrap()];
    for (round, block) in blocks.into_iter().enumerate() {
        // The daemon is as quick, at times, so that this is tried until the block is there first.
        let blocked = within(SOON, || {
            drop(fs::remove_dir_all(world.root().join("away")));
            drop(fs::rename(world.state(), world.root().join("away")));
            if world.state().symlink_metadata().is_err() {
                let beside = world.root().join("block");
                block(&beside);
                let placed = renameat_with(CWD, &beside, CWD, world.state(), RenameFlags::NOREPLACE).is_ok();
                drop(fs::remove_file(&beside));
                return placed;
            }
            false
        });
        assert!(blocked);
        wait_for("the daemon says what is wrong", || {
            let (code, health) = daemon.get("/health")?;
            (code == 503 && health.contains("mv it elsewhere")).then_some(())
        });
        fs::remove_file(world.state()).unwrap();
        whole(&daemon, round + 1);
    }
    all_is_there(&world, &daemon, &processes);
    nothing_is_lost_or_doubled(&world, daemon, &processes);
}
