//! Whole trees end, whatever they did to get away.

use crate::world::{Program, RUNGS, World, example_program, lives, output, processes_with, wait_for};
use pattern_launcher::act::{CgroupChoice, clock};
use pattern_launcher::model::{ExitReason, StopSignal};
use pattern_launcher::observed::Event;
use pattern_launcher::plan::Effect;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A main process and three daemons that double-forked, made sessions of their own and do not listen to SIGTERM. Each
/// carries `marker` in its command line.
fn forker(name: &str, marker: &str) -> Program {
    let stubborn = format!("trap '' TERM INT HUP; echo up; while :; do sleep 1; done; : {marker}");
    let script = format!(
        "trap '' TERM; for i in 1 2 3; do (setsid /bin/sh -c \"{stubborn}\" &); done; while :; do sleep 1; done; : {marker}"
    );
    Program::shell(name, &script)
}

fn is_up(text: &str) -> bool {
    text.matches("up").count() == 3
}

#[tokio::test]
async fn a_tree_is_killed_whole() {
    for (number, rung) in RUNGS.iter().enumerate() {
        let state = tempfile::tempdir().unwrap();
        let Some(mut world) = World::on(state.path(), rung) else { continue };
        let marker = format!("tree-{}-{number}", std::process::id());
        let program = forker("tree", &marker);
        let (run, process) = world.run(&program).await;
        output(state.path(), &program.key, is_up).await;
        // The shells in between end by themselves.
        wait_for("four processes", || processes_with(&marker).len() == 4).await;
        world.finish(&program, run, &process).await;
        assert_eq!(processes_with(&marker), Vec::<i32>::new(), "{rung:?}");
    }
}

#[tokio::test]
async fn what_grows_while_it_is_killed_is_killed_whole() {
    for rung in &RUNGS {
        let state = tempfile::tempdir().unwrap();
        let Some(mut world) = World::on(state.path(), rung) else { continue };
        // A copy, so that its processes are told from those of others.
        let copy = std::fs::canonicalize(state.path()).unwrap().join("hydra");
        std::fs::copy(example_program("hydra"), &copy).unwrap();
        // Without a cgroup what forgets its environment as well escapes, as the README says.
        let args: &[&str] = if *rung == CgroupChoice::Off { &[] } else { &["--bare"] };
        let program = Program::new("hydra", state.path(), copy.to_str().unwrap(), args);
        let (run, process) = world.run(&program).await;
        output(state.path(), &program.key, |text| text.contains("3 heads")).await;
        world.host.carry_out(Effect::Signal { key: program.key.clone(), run, signal: StopSignal::Term });
        wait_for("it to grow", || running(&copy) > 6).await;
        let asked = clock::now();
        world.finish(&program, run, &process).await;
        assert_eq!(running(&copy), 0, "{rung:?}");
        // A second is promised; the rest is for a machine that is busy with other tests.
        let took = clock::now().since(asked);
        assert!(took < Duration::from_secs(5), "{rung:?} {took:?}");
        eprintln!("{rung:?}: killed whole in {took:?}");
    }
}

/// How many processes run a program.
fn running(program: &Path) -> usize {
    let all = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    all.filter(|entry| std::fs::read_link(entry.path().join("exe")).is_ok_and(|exe| exe == program)).count()
}

#[tokio::test]
async fn survivors_of_the_main_process_are_told_of_and_killed_when_asked() {
    for (number, rung) in RUNGS.iter().enumerate() {
        let state = tempfile::tempdir().unwrap();
        let Some(mut world) = World::on(state.path(), rung) else { continue };
        let marker = format!("survivor-{}-{number}", std::process::id());
        let program = forker("survivors", &marker);
        let (run, process) = world.run(&program).await;
        output(state.path(), &program.key, is_up).await;
        wait_for("four processes", || processes_with(&marker).len() == 4).await;
        let main = rustix::process::Pid::from_raw(process.pid).unwrap();
        rustix::process::kill_process(main, rustix::process::Signal::KILL).unwrap();
        assert!(matches!(world.event_of(run).await, Event::Exited { tree_gone: false, .. }), "{rung:?}");
        assert_eq!(processes_with(&marker).len(), 3, "nobody asked for their end");
        world.kill(&program, run);
        assert!(matches!(world.event_of(run).await, Event::TreeGone { .. }));
        assert_eq!(processes_with(&marker), Vec::<i32>::new(), "{rung:?}");
    }
}

#[tokio::test]
async fn a_tree_that_ends_by_itself_is_told_of() {
    for rung in &RUNGS {
        let state = tempfile::tempdir().unwrap();
        let Some(mut world) = World::on(state.path(), rung) else { continue };
        let go = state.path().join("go");
        let script = format!("(while ! [ -e {} ]; do sleep 0.01; done) & exit 5", go.display());
        let program = Program::shell("ends", &script);
        let (run, _) = world.run(&program).await;
        assert!(matches!(world.event_of(run).await, Event::Exited { tree_gone: false, .. }), "{rung:?}");
        std::fs::write(&go, "").unwrap();
        assert!(matches!(world.event_of(run).await, Event::TreeGone { .. }), "{rung:?}");
    }
}

/// A v1 freezer holds processes so that even SIGKILL waits: a stand-in for a disk that does not answer.
struct Freezer(PathBuf);

impl Freezer {
    fn make() -> Option<Self> {
        let path = PathBuf::from(format!("/sys/fs/cgroup/freezer/pattern-launcher-test-{}", std::process::id()));
        let freezer = Self(path);
        std::fs::create_dir(&freezer.0).ok()?;
        freezer.0.join("freezer.state").exists().then_some(freezer)
    }

    fn set(&self, file: &str, value: &str) {
        std::fs::write(self.0.join(file), value).unwrap();
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        drop(std::fs::write(self.0.join("freezer.state"), "THAWED"));
        drop(std::fs::remove_dir(&self.0));
    }
}

#[tokio::test]
async fn a_tree_that_does_not_end_is_told_of_and_killed_on() {
    let Some(freezer) = Freezer::make() else {
        eprintln!("skipped: this machine has no v1 freezer to hold a process with");
        return;
    };
    let state = tempfile::tempdir().unwrap();
    let mut world = World::start(state.path(), CgroupChoice::Auto);
    let program = Program::shell("stuck", "sleep 1000");
    let (run, process) = world.run(&program).await;
    freezer.set("cgroup.procs", &process.pid.to_string());
    freezer.set("freezer.state", "FROZEN");
    world.kill(&program, run);
    let Event::KillStuck { error, .. } = world.event_of(run).await else { panic!("nothing was said") };
    assert!(error.to_string().contains(&process.pid.to_string()), "{error}");
    freezer.set("freezer.state", "THAWED");
    assert!(matches!(world.event_of(run).await, Event::Exited { exit: ExitReason::Signal(9), .. }));
}

#[tokio::test]
async fn a_stopped_process_is_killed_as_well() {
    for rung in &RUNGS {
        let state = tempfile::tempdir().unwrap();
        let Some(mut world) = World::on(state.path(), rung) else { continue };
        let program = Program::shell("frozen", "kill -STOP $$; sleep 1000");
        let (run, process) = world.run(&program).await;
        let stat = format!("/proc/{}/stat", process.pid);
        wait_for("it to stop", || std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T "))).await;
        world.finish(&program, run, &process).await;
        assert!(!lives(process.pid));
    }
}
