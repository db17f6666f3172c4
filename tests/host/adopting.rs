//! Another launcher takes over: what is ours is looked after, what is not is left alone.

use crate::world::{Program, RUNGS, World, lives, output, processes_with, record, wait_for};
use pattern_launcher::act::{CgroupChoice, Orphans, Records, Tracking};
use pattern_launcher::model::{BootId, Confinement, ExitReason, ProcessIdentity, RunId};
use pattern_launcher::observed::{Event, RestoredRun};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Set for a copy of this test program that is the launcher which is killed.
const LAUNCHER: &str = "HOST_TEST_STATE";

/// Not a test by itself: the launcher of the next one. It runs one process, holds another, and waits to be killed.
#[tokio::test]
async fn launcher_that_is_killed() {
    let Some(state) = std::env::var_os(LAUNCHER) else { return };
    let state = Path::new(&state);
    let rung: usize = std::fs::read_to_string(state.join("rung")).unwrap().parse().unwrap();
    let mut world = World::start(state, RUNGS[rung].clone());
    let (_, process) = world.run(&Program::shell("runs", "sleep 1000; exit 0")).await;
    let (_, held) = world.held(&Program::shell("held", "sleep 1000")).await;
    println!("pids {} {}", process.pid, held.pid);
    std::future::pending::<()>().await;
}

/// Starts it, and returns it with the pids of the process that runs and the one that is held.
fn launcher(state: &Path) -> (Child, i32, i32) {
    #[expect(clippy::disallowed_methods, reason = "the test needs a launcher that it can kill")]
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "adopting::launcher_that_is_killed", "--nocapture"])
        .env(LAUNCHER, state)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let line = lines.map_while(Result::ok).find_map(|line| line.split_once("pids ").map(|(_, pids)| pids.to_owned()));
    let line = line.unwrap();
    let (running, held) = line.split_once(' ').unwrap();
    (child, running.parse().unwrap(), held.trim().parse().unwrap())
}

#[tokio::test]
async fn after_a_kill_what_ran_is_adopted_and_what_was_held_is_gone() {
    for (number, rung) in RUNGS.iter().enumerate() {
        let state = tempfile::tempdir().unwrap();
        std::fs::write(state.path().join("rung"), number.to_string()).unwrap();
        let (mut first, running, held) = launcher(state.path());
        first.kill().unwrap();
        first.wait().unwrap();
        let Some(mut world) = World::on(state.path(), rung) else { continue };
        let restored = world.restore().await;
        let [RestoredRun::Alive(record)] = restored.as_slice() else { panic!("{restored:?}") };
        assert!(record.process.pid == running && lives(running));
        wait_for("the held child to notice", || !lives(held)).await;
        if let Tracking::Cgroup(base) | Tracking::V1Freezer(base) = world.host.tracking() {
            let groups =
                std::fs::read_dir(base.join("shared")).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir());
            assert_eq!(groups.count(), 1, "the cgroup of the held child is left");
        }
        // The same path as for a process of its own, though it is no child of this launcher.
        let program = Program::shell("runs", "");
        let (run, process) = (record.run, record.process.clone());
        let pid = rustix::process::Pid::from_raw(running).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        let Event::Exited { exit, .. } = world.event_of(run).await else { panic!("no exit") };
        assert!(matches!(exit, ExitReason::Signal(9) | ExitReason::Unknown), "{exit:?}");
        world.kill(&program, run);
        world.drop_run(&program, run);
        wait_for("its record to go", || std::fs::read_dir(state.path().join("runs")).unwrap().count() == 0).await;
        wait_for("its cgroup to go", || process.cgroup.as_ref().is_none_or(|path| !path.exists())).await;
        assert!(!lives(running));
    }
}

#[tokio::test]
async fn a_second_host_adopts_stubborn_trees_and_kills_them_whole() {
    for (number, rung) in RUNGS.iter().enumerate() {
        let state = tempfile::tempdir().unwrap();
        let Some(mut first) = World::on(state.path(), rung) else { continue };
        let marker = format!("adopted-{}-{number}", std::process::id());
        let inner = format!("echo up; while :; do sleep 1; done; : {marker}");
        let program = Program::shell(
            "tree",
            &format!("trap '' TERM; (setsid /bin/sh -c '{inner}' &); while :; do sleep 1; done; : {marker}"),
        );
        let (run, process) = first.run(&program).await;
        output(state.path(), &program.key, |text| text == "up\n").await;
        first.host.shutdown().await;
        drop(first.records);
        wait_for("the shell in between to end", || processes_with(&marker).len() <= 2).await;
        assert_eq!(processes_with(&marker).len(), 2, "leaving is not ending");
        let mut second = World::start(state.path(), rung.clone());
        assert!(matches!(second.restore().await.as_slice(), [RestoredRun::Alive(_)]));
        second.finish(&program, run, &process).await;
        assert_eq!(processes_with(&marker), Vec::<i32>::new(), "{rung:?}");
    }
}

#[tokio::test]
async fn an_end_that_nobody_saw_is_told_with_what_survived_it() {
    for (number, rung) in RUNGS.iter().enumerate() {
        let state = tempfile::tempdir().unwrap();
        let Some(mut first) = World::on(state.path(), rung) else { continue };
        let marker = format!("orphan-{}-{number}", std::process::id());
        let go = state.path().join("go");
        let script = format!(
            "(/bin/sh -c 'echo up; while :; do sleep 1; done; : {marker}' &); while ! [ -e {} ]; do sleep 0.01; done",
            go.display()
        );
        let program = Program::shell("orphan", &script);
        let (run, process) = first.run(&program).await;
        output(state.path(), &program.key, |text| text == "up\n").await;
        first.host.shutdown().await;
        drop(first.records);
        std::fs::write(&go, "").unwrap();
        wait_for("its end", || !lives(process.pid)).await;
        let mut second = World::start(state.path(), rung.clone());
        let restored = second.restore().await;
        assert!(matches!(restored.as_slice(), [RestoredRun::Ended { tree_gone: false, .. }]), "{rung:?} {restored:?}");
        second.kill(&program, run);
        assert!(matches!(second.event_of(run).await, Event::TreeGone { .. }));
        assert_eq!(processes_with(&marker), Vec::<i32>::new(), "{rung:?}");
    }
}

#[tokio::test]
async fn survivors_that_may_be_strangers_block_their_key_and_live() {
    let state = tempfile::tempdir().unwrap();
    let mut first = World::start(state.path(), CgroupChoice::Off);
    let marker = format!("unclear-{}", std::process::id());
    let go = state.path().join("go");
    let script = format!(
        "(env -i /bin/sh -c 'echo up; while :; do /bin/sleep 1; done; : {marker}' &); while ! [ -e {} ]; do sleep 0.01; done",
        go.display()
    );
    let program = Program::shell("unclear", &script);
    let (_, process) = first.run(&program).await;
    output(state.path(), &program.key, |text| text == "up\n").await;
    first.host.shutdown().await;
    drop(first.records);
    std::fs::write(&go, "").unwrap();
    wait_for("its end", || !lives(process.pid)).await;
    let mut second = World::start(state.path(), CgroupChoice::Off);
    // In the session of a process that is gone, and without its RUN_ID: nothing proves whose it is.
    let restored = second.restore().await;
    assert!(matches!(restored.as_slice(), [RestoredRun::Unverifiable { .. }]), "{restored:?}");
    let survivors = processes_with(&marker);
    assert!(!survivors.is_empty(), "it was signalled");
    for pid in survivors {
        // Its own child ends within a second.
        let _ =
            rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL);
    }
}

/// A process that nobody may touch; it ends with its test.
struct Stranger(Child);

impl Stranger {
    fn start() -> Self {
        #[expect(clippy::disallowed_methods, reason = "the test needs a process that no launcher made")]
        let child =
            Command::new("sleep").arg("1000").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self(child.unwrap())
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test]
async fn a_record_that_is_not_true_signals_nobody() {
    let state = tempfile::tempdir().unwrap();
    let program = Program::shell("forged", "");
    let mut stranger = Stranger::start();
    let pid = i32::try_from(stranger.0.id()).unwrap();
    let world = World::start(state.path(), CgroupChoice::Auto);
    let boot = pattern_launcher::act::clock::boot().unwrap();
    let mut world = world;
    let forged = |start_time, boot, cgroup| {
        let process = ProcessIdentity { pid, start_time, boot, cgroup, confinement: Confinement::default() };
        let run = pattern_launcher::model::RunId::from_random(u128::from(start_time) + 77);
        record(&program, run, &process)
    };
    let records = vec![
        forged(1, boot, None),
        forged(2, BootId::from_u128(5), None),
        forged(3, boot, Some("/sys/fs/cgroup".into())),
        forged(4, boot, Some("/proc".into())),
    ];
    let runs: Vec<_> = records.iter().map(|record| record.run).collect();
    let restored = world.host.restore(records, &[]).await;
    assert!(
        matches!(
            restored.as_slice(),
            [
                RestoredRun::Ended { exit: ExitReason::Unknown, tree_gone: true, .. },
                RestoredRun::Rebooted(_),
                RestoredRun::Unverifiable { .. },
                RestoredRun::Unverifiable { .. },
            ]
        ),
        "{restored:?}"
    );
    for run in runs {
        world.kill(&program, run);
        world.drop_run(&program, run);
    }
    world.host.shutdown().await;
    assert!(stranger.0.try_wait().unwrap().is_none(), "the stranger was signalled");
}

#[tokio::test]
async fn what_is_in_our_cgroups_without_a_record_is_ended() {
    let state = tempfile::tempdir().unwrap();
    let Some(mut first) = World::on(state.path(), &CgroupChoice::Auto) else { return };
    let program = Program::shell("stray", "sleep 1000");
    let (run, process) = first.run(&program).await;
    first.host.shutdown().await;
    first.records.drop_run(run).unwrap();
    drop(first.records);
    // A damaged record is a record: its process stays, and its key is blocked.
    let mut second = World::start(state.path(), CgroupChoice::Auto);
    let blocked = second.host.restore(Vec::new(), &[program.key.file_name()]).await;
    assert!(blocked.is_empty() && lives(process.pid));
    assert!(second.restore().await.is_empty());
    assert!(!lives(process.pid) && process.cgroup.is_some_and(|path| !path.exists()));
}

/// Often enough that a test sees what it does.
const OFTEN: Duration = Duration::from_millis(10);

/// Puts a process of nobody's into a cgroup that looks like one of ours, and gives its path.
fn stray_cgroup(world: &World, name: &str, stranger: &Stranger) -> Option<PathBuf> {
    let (Tracking::Cgroup(base) | Tracking::V1Freezer(base)) = world.host.tracking() else {
        eprintln!("skipped: this machine has no cgroup that can be written");
        return None;
    };
    let path = base.join(name);
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("cgroup.procs"), stranger.0.id().to_string()).unwrap();
    Some(path)
}

#[tokio::test]
async fn orphans_are_ended_while_runs_come_and_go_untouched() {
    let state = tempfile::tempdir().unwrap();
    let mut world = World::looking_for_orphans(state.path(), CgroupChoice::Auto, Orphans::End, OFTEN);
    let mut orphan = Stranger::start();
    let Some(path) = stray_cgroup(&world, "shared_p.0f", &orphan) else { return };
    // A held child has a cgroup and no record, for as long as it takes.
    let program = Program::shell("held", "sleep 1000");
    let (run, process) = world.held(&program).await;
    wait_for("its end", || orphan.0.try_wait().unwrap().is_some()).await;
    wait_for("the end of its cgroup", || !path.exists()).await;
    tokio::time::sleep(OFTEN * 20).await;
    assert!(lives(process.pid), "a start in flight was taken for an orphan");
    world.commit(&program, run, &process);
    assert!(matches!(world.event_of(run).await, Event::Started { .. }));
    // What was given up, or is somebody's who does not look any more, is none either.
    world.host.shutdown().await;
    let second = World::looking_for_orphans(state.path(), CgroupChoice::Auto, Orphans::End, OFTEN);
    let other = Stranger::start();
    let path = stray_cgroup(&second, "shared_p.10", &other).unwrap();
    wait_for("the end of another", || !path.exists()).await;
    assert!(lives(process.pid), "a process with a record was taken for an orphan");
}

#[tokio::test]
async fn orphans_that_are_only_reported_live() {
    let state = tempfile::tempdir().unwrap();
    let mut world = World::looking_for_orphans(state.path(), CgroupChoice::Auto, Orphans::Report, OFTEN);
    let mut orphan = Stranger::start();
    let Some(path) = stray_cgroup(&world, "shared_p.0f", &orphan) else { return };
    assert_eq!(world.orphans().await, 1);
    let blocked = world.host.restore(Vec::new(), &[]).await;
    let [RestoredRun::Orphan { file_name, error }] = blocked.as_slice() else { panic!("{blocked:?}") };
    assert!(file_name == "shared_p" && error.to_string().contains(&path.display().to_string()), "{error}");
    assert!(orphan.0.try_wait().unwrap().is_none(), "it was signalled");
    orphan.0.kill().unwrap();
    orphan.0.wait().unwrap();
    assert_eq!(world.orphans().await, 0);
}

#[tokio::test]
async fn that_an_orphan_of_the_start_is_gone_is_told_by_the_first_look() {
    let state = tempfile::tempdir().unwrap();
    let mut world =
        World::looking_for_orphans(state.path(), CgroupChoice::Auto, Orphans::Report, Duration::from_secs(1));
    let mut orphan = Stranger::start();
    if stray_cgroup(&world, "shared_p.0f", &orphan).is_none() {
        return;
    }
    let blocked = world.host.restore(Vec::new(), &[]).await;
    assert!(matches!(blocked.as_slice(), [RestoredRun::Orphan { .. }]), "{blocked:?}");
    orphan.0.kill().unwrap();
    orphan.0.wait().unwrap();
    // Where this took longer than the first pause, it was still there then.
    while world.orphans().await != 0 {}
}

#[tokio::test]
async fn a_record_that_no_run_accounts_for_is_removed_once_what_it_names_is_over() {
    let (state, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let world = World::looking_for_orphans(state.path(), CgroupChoice::Off, Orphans::End, OFTEN);
    let mut stranger = Stranger::start();
    let pid = i32::try_from(stranger.0.id()).unwrap();
    let boot = pattern_launcher::act::clock::boot().unwrap();
    let start_time = start_time_of(pid);
    let process = ProcessIdentity { pid, start_time, boot, cgroup: None, confinement: Confinement::default() };
    let program = Program::shell("stray", "");
    let (others, _) = Records::open(elsewhere.path(), boot).unwrap();
    others.save_run(&record(&program, RunId::from_random(1), &process)).unwrap();
    let file = std::fs::read_dir(elsewhere.path().join("runs")).unwrap().next().unwrap().unwrap();
    let brought = state.path().join("runs").join(file.file_name());
    std::fs::copy(file.path(), &brought).unwrap();
    tokio::time::sleep(OFTEN * 30).await;
    assert!(brought.exists() && stranger.0.try_wait().unwrap().is_none(), "it may be another's, who looks after it");
    stranger.0.kill().unwrap();
    stranger.0.wait().unwrap();
    wait_for("its removal", || !brought.exists()).await;
    drop(world);
}

/// When a process began, in ticks since the boot.
fn start_time_of(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_thousand_records_are_verified_quickly() {
    let state = tempfile::tempdir().unwrap();
    let world = World::start(state.path(), CgroupChoice::Off);
    let program = Program::shell("gone", "");
    let boot = pattern_launcher::act::clock::boot().unwrap();
    let records: Vec<_> = (0..1000)
        .map(|n: u32| {
            let process = ProcessIdentity {
                pid: 1_000_000_000,
                start_time: u64::from(n),
                boot,
                cgroup: None,
                confinement: Confinement::default(),
            };
            record(&program, pattern_launcher::model::RunId::from_random(n.into()), &process)
        })
        .collect();
    let before = pattern_launcher::act::clock::now();
    assert_eq!(world.host.restore(records, &[]).await.len(), 1000);
    let took = pattern_launcher::act::clock::now().since(before);
    eprintln!("verified 1,000 ended processes in {took:?}");
    // A tenth of a second where nothing else is done.
    assert!(took < std::time::Duration::from_secs(20), "{took:?}");
}
