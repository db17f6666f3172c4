//! Desired folders as people have them: a git work tree, a link that flips, a mount.

use crate::world::{Daemon, World, holds_for};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Runs a program to its end; whether it succeeded. What it said goes to the test's output.
#[expect(clippy::disallowed_methods, reason = "tests use the tools that people use")]
fn run(folder: &Path, program: &str, args: &[&str]) -> bool {
    let output = Command::new(program).args(args).current_dir(folder).env("GIT_CONFIG_GLOBAL", "/dev/null").output();
    match output {
        Ok(output) => {
            if !output.status.success() {
                eprintln!("{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
            }
            output.status.success()
        }
        Err(error) => {
            eprintln!("{program} cannot be run: {error}");
            false
        }
    }
}

fn git(folder: &Path, args: &[&str]) {
    let who = ["-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "init.defaultBranch=main"];
    assert!(run(folder, "git", &[&who[..], args].concat()), "git {args:?}");
}

/// What each key runs: its pid, and the value of `V`.
fn running(daemon: &Daemon) -> BTreeMap<String, i32> {
    let status = daemon.status().unwrap();
    status.instances.iter().filter_map(|key| Some((key.namespace.clone(), key.pid?))).collect()
}

fn declare(folder: &Path, namespace: &str, value: u32) {
    let text = format!("pattern: sleeper\nnamespace: {namespace}\nconfig: {{ V: \"{value}\" }}\n");
    fs::write(folder.join(format!("{namespace}.yaml")), text).unwrap();
}

#[test]
fn a_git_work_tree_is_followed_without_an_unneeded_restart() {
    let world = World::new();
    let desired = world.desired();
    if !run(&desired, "git", &["--version"]) {
        eprintln!("skipped: git is not installed");
        return;
    }
    world.pattern("sleeper", "sleeper", "");
    git(&desired, &["init", "-q"]);
    for n in ["a", "b", "c", "d", "e"] {
        declare(&desired, n, 1);
    }
    git(&desired, &["add", "-A"]);
    git(&desired, &["commit", "-qm", "five tenants"]);
    git(&desired, &["checkout", "-qb", "next"]);
    declare(&desired, "b", 2);
    declare(&desired, "f", 1);
    git(&desired, &["rm", "-q", "e.yaml"]);
    git(&desired, &["add", "-A"]);
    git(&desired, &["commit", "-qm", "b changes, e goes, f comes"]);
    git(&desired, &["checkout", "-q", "main"]);

    let daemon = world.launch().flag("--resync-interval", "500ms").start();
    daemon.all_settled(5);
    let before = running(&daemon);
    git(&desired, &["checkout", "-q", "next"]);
    daemon.wait("the branch is followed", |status| {
        let changed = status.settled("ns:b:sleeper")? != before["b"];
        (changed && status.settled("ns:f:sleeper").is_some() && status.key("ns:e:sleeper").is_none()).then_some(())
    });
    let after = running(&daemon);
    for same in ["a", "c", "d"] {
        assert_eq!(after[same], before[same], "{same} was restarted");
    }
    git(&desired, &["checkout", "-q", "main"]);
    daemon.wait("the way back is followed", |status| {
        let back = status.settled("ns:b:sleeper")? != after["b"];
        (back && status.settled("ns:e:sleeper").is_some() && status.key("ns:f:sleeper").is_none()).then_some(())
    });
    let back = running(&daemon);
    for same in ["a", "c", "d"] {
        assert_eq!(back[same], before[same], "{same} was restarted");
    }
    assert!(daemon.status().unwrap().instances.iter().all(|key| key.restart_count == 0 || key.error_count == 0));
}

#[test]
fn nothing_is_ended_while_git_holds_its_index() {
    let world = World::new();
    let desired = world.desired();
    world.pattern("sleeper", "sleeper", "");
    fs::create_dir(desired.join(".git")).unwrap();
    declare(&desired, "a", 1);
    let daemon = world.launch().flag("--resync-interval", "500ms").start();
    daemon.settled("ns:a:sleeper");
    fs::write(desired.join(".git/index.lock"), "").unwrap();
    world.undesire("a.yaml");
    holds_for(Duration::from_secs(4), "it runs while git is at work", || {
        daemon.status().unwrap().settled("ns:a:sleeper").is_some()
    });
    fs::remove_file(desired.join(".git/index.lock")).unwrap();
    daemon.gone("ns:a:sleeper");
}

#[test]
fn a_link_that_flips_to_another_checkout_restarts_only_what_differs() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    let checkouts = world.root().join("checkouts");
    let checkout = |name: &str, changed: u32| {
        let folder = checkouts.join(name);
        fs::create_dir_all(&folder).unwrap();
        for n in ["a", "b", "c", "d"] {
            declare(&folder, n, if n == "d" { changed } else { 1 });
        }
        folder
    };
    let old = checkout("1", 1);
    let current = world.root().join("current");
    symlink(&old, &current).unwrap();
    let daemon =
        world.launch().flag("--desired-dir", current.to_str().unwrap()).flag("--resync-interval", "500ms").start();
    daemon.all_settled(4);
    let before = running(&daemon);

    let new = checkout("2", 2);
    symlink(&new, world.root().join("flip")).unwrap();
    fs::rename(world.root().join("flip"), &current).unwrap();
    daemon.wait("what differs is replaced", |status| status.settled("ns:d:sleeper").filter(|pid| *pid != before["d"]));
    fs::remove_dir_all(&old).unwrap();
    let after = running(&daemon);
    holds_for(Duration::from_secs(4), "the old checkout's end kills nothing", || running(&daemon) == after);
    for same in ["a", "b", "c"] {
        assert_eq!(after[same], before[same], "{same} was restarted");
    }
    // What changes in the new checkout is noticed too.
    declare(&new, "e", 1);
    daemon.settled("ns:e:sleeper");
}

#[test]
fn a_flip_followed_at_once_by_the_end_of_the_old_checkout_kills_nothing() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    let current = world.root().join("current");
    let make = |name: &str| {
        let folder = world.root().join(name);
        fs::create_dir(&folder).unwrap();
        for n in ["a", "b", "c", "d"] {
            declare(&folder, n, 1);
        }
        folder
    };
    let mut old = make("checkout-0");
    symlink(&old, &current).unwrap();
    let daemon = world.launch().flag("--desired-dir", current.to_str().unwrap()).start();
    daemon.all_settled(4);
    let before = running(&daemon);
    for round in 1..=5 {
        let new = make(&format!("checkout-{round}"));
        symlink(&new, world.root().join("flip")).unwrap();
        fs::rename(world.root().join("flip"), &current).unwrap();
        fs::remove_dir_all(&old).unwrap();
        old = new;
        holds_for(Duration::from_millis(700), "every process is the one it was", || running(&daemon) == before);
    }
    holds_for(Duration::from_secs(3), "every process is the one it was", || running(&daemon) == before);
    assert_eq!(daemon.status().unwrap().settled_count(), 4);
}

/// A mount that is taken away at the latest when the test ends, however it does.
struct Mount<'a>(&'a Path);

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        if mounts.contains(self.0.to_str().unwrap()) {
            run(Path::new("/"), "umount", &["-l", self.0.to_str().unwrap()]);
        }
    }
}

#[test]
fn an_unmounted_folder_kills_nothing() {
    let world = World::new();
    let desired = world.desired();
    if !run(&desired, "mount", &["-t", "tmpfs", "none", desired.to_str().unwrap()]) {
        eprintln!("skipped: no file system can be mounted here");
        return;
    }
    let mount = Mount(&desired);
    world.pattern("sleeper", "sleeper", "");
    for n in ["a", "b"] {
        declare(&desired, n, 1);
    }
    let daemon = world.launch().flag("--resync-interval", "500ms").start();
    daemon.all_settled(2);
    let before = running(&daemon);
    drop(mount);
    assert!(fs::read_dir(&desired).unwrap().next().is_none(), "the mount is still there");
    holds_for(Duration::from_secs(5), "every process is the one it was", || running(&daemon) == before);
}

#[test]
fn a_narrowed_root_declares_only_what_it_may() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    world.pattern("other", "sleeper", "");
    let narrow = world.root().join("narrow");
    fs::create_dir(&narrow).unwrap();
    declare(&narrow, "mine", 1);
    declare(&narrow, "theirs", 1);
    fs::write(narrow.join("other.yaml"), "pattern: other\nnamespace: mine\n").unwrap();
    let root = format!("path={},namespaces=mine,patterns=sleeper", narrow.display());
    let daemon = world.launch().another("--desired", root).start();
    daemon.settled("ns:mine:sleeper");
    daemon.wait("two are refused", |status| {
        let refused = status.conditions().iter().filter(|line| line.contains("PERMISSION_DENIED")).count();
        (refused == 2).then_some(())
    });
    assert_eq!(daemon.status().unwrap().settled_count(), 1);
}
