//! Pids that are somebody else's by now, for real: in a pid namespace the kernel can be told which pid comes next.

use crate::world::command::{finished, program};
use crate::world::processes::spawner_of;
use crate::world::{World, alive, signal, wait_for};
use rustix::process::{Pid, WaitOptions, waitpid};
use std::fs;
use std::process::{Child, Stdio};

/// Set for a copy of this test program that is the first process of a pid namespace: what `--cgroup` is there, or nothing.
const INSIDE: &str = "REUSE_TEST_CGROUP";
/// What the copy says when it has come to its end.
const DONE: &str = "no stranger was touched";
const ID: &str = "ns:a:sleeper";

#[test]
fn a_pid_that_has_been_given_to_a_stranger_is_not_signalled() {
    let folder = tempfile::tempdir().unwrap();
    for cgroup in ["", "off"] {
        let mut inside = program("unshare");
        // With a `/proc` of its own, and gone as a whole with the one that is waited for.
        inside.args(["--pid", "--mount-proc", "--fork", "--kill-child"]).arg(std::env::current_exe().unwrap());
        inside.args(["--exact", "faults::reuse::inside_a_pid_namespace", "--nocapture"]).env(INSIDE, cgroup);
        let output = finished(&mut inside, folder.path());
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if said.starts_with("unshare: ") {
            eprintln!("skipped: no pid namespace can be made here: {said}");
            return;
        }
        assert!(output.status.success() && said.contains(DONE), "{cgroup}: {said}");
    }
}

/// Not a test by itself: what the test above does inside.
#[test]
fn inside_a_pid_namespace() {
    let Ok(cgroup) = std::env::var(INSIDE) else { return };
    assert_eq!(std::process::id(), 1, "it is alone here");
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    world.desire("a.yaml", "pattern: sleeper\nnamespace: a\n");
    let launch = match cgroup.as_str() {
        "" => world.launch(),
        cgroup => world.launch().flag("--cgroup", cgroup),
    };
    let daemon = launch.start();
    let (launcher, first) = (daemon.pid(), daemon.settled(ID));
    let spawner = spawner_of(launcher).unwrap();
    // What is killed is an orphan by then, and whose child it is must reap it before its pid is free.
    daemon.kill();
    reap(spawner);
    signal(first, "KILL");
    reap(first);

    let mut strangers: Vec<Stranger> = [launcher, spawner, first].into_iter().map(Stranger::with_pid).collect();
    let daemon = launch.start();
    let second = daemon.settled(ID);
    assert_ne!(second, first);
    let status = daemon.status().unwrap();
    let key = status.key(ID).unwrap();
    assert_eq!((key.restart_count, key.error_count), (1, 1), "its end was noticed, and counts once");
    assert!(key.last_error.as_ref().unwrap().contains("an unknown exit"), "nobody saw how it ended: {key:?}");

    // A spawner that dies while the launcher lives, and whose pid is a stranger's when the next one is needed.
    let spawner = spawner_of(daemon.pid()).unwrap();
    signal(spawner, "KILL");
    wait_for("the spawner is reaped", || (!alive(spawner) && !exists(spawner)).then_some(()));
    strangers.push(Stranger::with_pid(spawner));
    // What the launcher makes from now on has other pids.
    next_pid(1_000);
    signal(second, "KILL");
    let third = daemon.wait("it is restarted", |status| status.settled(ID).filter(|pid| *pid != second));
    // So is the pid of a process whose successor runs.
    wait_for("the process is reaped", || (!exists(second)).then_some(()));
    strangers.push(Stranger::with_pid(second));
    world.undesire("a.yaml");
    world.desire("b.yaml", "pattern: sleeper\nnamespace: b\n");
    daemon.gone(ID);
    assert!(!alive(third));
    daemon.settled("ns:b:sleeper");
    daemon.stop();
    for stranger in &mut strangers {
        stranger.assert_untouched();
    }
    println!("{DONE}");
}

/// A process that no launcher made, in a session and a group of its own, under a pid that was another's.
struct Stranger {
    process: Child,
    pid: i32,
}

impl Stranger {
    fn with_pid(pid: i32) -> Self {
        for _ in 0..100 {
            next_pid(pid);
            let mut sleeper = program("setsid");
            sleeper.args(["sleep", "1000"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut process = sleeper.spawn().unwrap();
            if process.id() == pid.unsigned_abs() {
                return Self { process, pid };
            }
            // Somebody else took it in between, and may have ended meanwhile.
            process.kill().unwrap();
            process.wait().unwrap();
        }
        panic!("pid {pid} does not become free");
    }

    fn assert_untouched(&mut self) {
        assert!(self.process.try_wait().unwrap().is_none(), "the stranger {} has ended", self.pid);
        let state = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap();
        assert!(state.rsplit(") ").next().unwrap().starts_with('S'), "it sleeps, as it always did: {state}");
    }
}

/// The next process has this pid, unless that is taken.
fn next_pid(pid: i32) {
    fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
}

/// Waits for the end of a child that was another's.
fn reap(pid: i32) {
    waitpid(Pid::from_raw(pid), WaitOptions::empty()).unwrap();
}

/// Whether there is a process of this pid, a zombie too.
fn exists(pid: i32) -> bool {
    fs::exists(format!("/proc/{pid}")).unwrap()
}
