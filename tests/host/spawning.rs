//! What a process is given, and that it exists only with a record.

use crate::world::{Program, RUNGS, World, lives, output, processes_with, wait_for};
use pattern_launcher::act::CgroupChoice;
use pattern_launcher::error::Code;
use pattern_launcher::model::{ExitReason, Secret, StopSignal};
use pattern_launcher::observed::Event;
use pattern_launcher::plan::Effect;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

#[tokio::test]
async fn a_process_gets_exactly_the_environment_that_is_promised() {
    let state = tempfile::tempdir().unwrap();
    let mut world = World::start(state.path(), CgroupChoice::Auto);
    let big = "x".repeat(100 << 10);
    let config = BTreeMap::from([("BIG".to_owned(), Secret::new(big.clone()))]);
    let program = Program::with_config("env", Path::new("/"), "env", &[], config);
    let (run, _) = world.run(&program).await;
    assert!(matches!(world.event_of(run).await, Event::Exited { exit: ExitReason::Code(0), tree_gone: true, .. }));
    let text = output(state.path(), &program.key, |_| true).await;
    let names: BTreeSet<&str> = text.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    let expected = [
        "BIG",
        "FROM_MANIFEST",
        "GRPC_PORT",
        "HEALTH_PORT",
        "NAMESPACE",
        "PATH",
        "PATTERN_NAME",
        "PROCESS_ID",
        "RUN_ID",
        "SESSION_ID",
    ];
    assert_eq!(names, BTreeSet::from(expected));
    assert!(text.contains(&format!("BIG={big}\n")) && text.contains(&format!("RUN_ID={run}\n")));
}

#[tokio::test]
async fn a_process_has_three_descriptors_a_session_and_default_signals() {
    let state = tempfile::tempdir().unwrap();
    let mut world = World::start(state.path(), CgroupChoice::Auto);
    let script = "for f in /proc/$$/fd/*; do echo $f $(readlink $f); done; cat /proc/self/status; \
                  echo stat $(cut -d' ' -f5-6 /proc/$$/stat) $$; pwd; echo done";
    let program = Program::new("fds", Path::new("/usr"), "/bin/sh", &["-c", &script.replace('$', "$$")]);
    let (_, process) = world.run(&program).await;
    let text = output(state.path(), &program.key, |text| text.ends_with("done\n")).await;
    let descriptors: Vec<&str> =
        text.lines().filter(|line| line.contains(" /")).filter(|line| line.starts_with("/proc/")).collect();
    assert_eq!(descriptors.len(), 3, "{text}");
    assert!(descriptors[0].ends_with("/0 /dev/null") && descriptors[1].contains("/logs/"), "{text}");
    assert!(text.contains(&format!("stat {0} {0} {0}\n", process.pid)), "{text}");
    for set in ["SigBlk", "SigIgn"] {
        assert!(text.contains(&format!("{set}:\t0000000000000000\n")), "{text}");
    }
    assert!(text.contains("\n/usr\n"), "{text}");
}

#[tokio::test]
async fn a_child_that_is_not_committed_never_runs() {
    for rung in &RUNGS {
        let state = tempfile::tempdir().unwrap();
        let Some(mut world) = World::on(state.path(), rung) else { continue };
        let program = Program::shell("held", "echo it ran");
        let (run, process) = world.held(&program).await;
        assert!(lives(process.pid));
        world.host.carry_out(Effect::Discard { key: program.key.clone(), run });
        assert!(matches!(world.event_of(run).await, Event::StartFailed { .. }));
        assert!(!lives(process.pid) && process.cgroup.is_none_or(|path| !path.exists()));
        let (_, process) = world.held(&program).await;
        world.host.shutdown().await;
        assert!(!lives(process.pid));
        assert_eq!(output(state.path(), &program.key, |_| true).await, "");
    }
}

#[tokio::test]
async fn a_held_child_that_is_killed_is_a_failed_start() {
    let state = tempfile::tempdir().unwrap();
    let mut world = World::start(state.path(), CgroupChoice::Auto);
    let program = Program::shell("killed", "sleep 1000");
    let (run, process) = world.held(&program).await;
    kill(process.pid);
    assert!(matches!(world.event_of(run).await, Event::StartFailed { .. }));
}

#[tokio::test]
async fn a_process_whose_record_cannot_be_written_never_runs() {
    let state = tempfile::tempdir().unwrap();
    let mut world = World::start(state.path(), CgroupChoice::Auto);
    let program = Program::shell("unrecorded", "echo it ran");
    let (run, process) = world.held(&program).await;
    let runs = state.path().join("runs");
    std::fs::remove_dir(&runs).unwrap();
    std::fs::write(&runs, "in the way").unwrap();
    world.commit(&program, run, &process);
    let Event::StartFailed { error, .. } = world.event_of(run).await else { panic!("it was started") };
    assert_eq!(error.code(), Code::StoreUnavailable, "{error}");
    assert!(!lives(process.pid));
    assert_eq!(output(state.path(), &program.key, |_| true).await, "");
}

#[tokio::test]
async fn an_exit_is_told_with_its_code_or_signal() {
    for rung in &RUNGS {
        let state = tempfile::tempdir().unwrap();
        let Some(mut world) = World::on(state.path(), rung) else { continue };
        for (script, expected) in [
            ("exit 0", ExitReason::Code(0)),
            ("exit 7", ExitReason::Code(7)),
            ("kill -SEGV $$", ExitReason::Signal(11)),
        ] {
            let program = Program::shell("exits", script);
            let (run, process) = world.run(&program).await;
            let Event::Exited { exit, tree_gone, .. } = world.event_of(run).await else { panic!("no exit") };
            assert_eq!((exit, tree_gone), (expected, true), "{script} with {rung:?}");
            world.drop_run(&program, run);
            wait_for("the end of its cgroup", || process.cgroup.as_ref().is_none_or(|path| !path.exists())).await;
        }
    }
}

#[tokio::test]
async fn the_stop_signal_reaches_the_main_process_only() {
    let state = tempfile::tempdir().unwrap();
    let mut world = World::start(state.path(), CgroupChoice::Auto);
    let program = Program::shell("stops", "trap 'echo asked; exit 3' USR1; echo ready; while :; do sleep 0.01; done");
    let (run, _) = world.run(&program).await;
    output(state.path(), &program.key, |text| text == "ready\n").await;
    world.host.carry_out(Effect::Signal { key: program.key.clone(), run, signal: StopSignal::Usr1 });
    assert!(matches!(world.event_of(run).await, Event::Exited { exit: ExitReason::Code(3), .. }));
    assert_eq!(output(state.path(), &program.key, |_| true).await, "ready\nasked\n");
}

#[tokio::test]
async fn two_hundred_starts_at_once_each_get_their_own_process() {
    let state = tempfile::tempdir().unwrap();
    let mut world = World::start(state.path(), CgroupChoice::Auto);
    let programs: Vec<_> = (0..200)
        .map(|n| Program::shell(&format!("many{n}"), &format!("exec sleep 3{:05}.{n}", std::process::id())))
        .collect();
    let runs: Vec<_> = programs.iter().map(|program| world.prepare(program)).collect();
    let mut pids = BTreeSet::new();
    for (program, run) in programs.iter().zip(&runs) {
        let Event::Prepared { process, .. } = world.event_of(*run).await else { panic!("not prepared") };
        pids.insert(process.pid);
        world.commit(program, *run, &process);
    }
    assert_eq!(pids.len(), 200);
    for run in &runs {
        assert!(matches!(world.event_of(*run).await, Event::Started { .. }));
    }
    for (program, run) in programs.iter().zip(&runs) {
        world.kill(program, *run);
    }
    for run in &runs {
        assert!(matches!(world.event_of(*run).await, Event::Exited { .. }));
    }
    assert!(pids.iter().all(|pid| !lives(*pid)));
}

#[tokio::test]
async fn a_spawner_that_dies_is_replaced() {
    let state = tempfile::tempdir().unwrap();
    let mut world = World::start(state.path(), CgroupChoice::Auto);
    let program = Program::shell("after", "exit 0");
    for _ in 0..3 {
        kill_spawners();
        let (run, _) = world.run(&program).await;
        assert!(matches!(world.event_of(run).await, Event::Exited { exit: ExitReason::Code(0), .. }));
    }
}

#[tokio::test]
async fn a_spawner_that_dies_over_its_work_ends_nothing_and_starts_nothing_twice() {
    let state = tempfile::tempdir().unwrap();
    let mut world = World::start(state.path(), CgroupChoice::Auto);
    let (_, before) = world.run(&Program::shell("before", "exec sleep 1000")).await;
    let mut failed = 0;
    for round in 0..5_usize {
        let programs: Vec<_> = (0..40)
            .map(|n| {
                Program::shell(&format!("flight{n}"), &format!("exec sleep 1{round}{:05}.{n}", std::process::id()))
            })
            .collect();
        let mut waiting: Vec<_> = programs.iter().map(|program| world.prepare(program)).collect();
        for told in 0.. {
            if waiting.is_empty() {
                break;
            }
            let event = world.event_of_any(&waiting).await;
            if told == round {
                // Some are made, some are asked for, some wait for their turn.
                assert!(kill_spawners() > 0, "no spawner was found");
            }
            let run = match event {
                Event::Prepared { key, run, process } => {
                    let program = programs.iter().find(|program| program.key == key).unwrap();
                    world.commit(program, run, &process);
                    let event = world.event_of(run).await;
                    assert!(matches!(event, Event::Started { .. }), "{event:?}");
                    // For an instant between two programs it has no command line.
                    let alike = processes_of(&program.instance.content.launch.pattern.args[1]);
                    assert!(lives(process.pid) && alike.iter().all(|pid| *pid == process.pid), "{alike:?}");
                    world.finish(program, run, &process).await;
                    run
                }
                // What two spawners died over is a failed start, of which nothing is left.
                Event::StartFailed { run, .. } => {
                    failed += 1;
                    run
                }
                other => panic!("unexpected: {other:?}"),
            };
            waiting.retain(|other| *other != run);
        }
    }
    assert!(failed <= 5, "one death cost {failed} starts");
    assert!(lives(before.pid), "what ran was ended");
}

/// The processes that were executed from a script which only executes another program.
fn processes_of(script: &str) -> Vec<i32> {
    processes_with(script.trim_start_matches("exec sleep "))
}

/// Kills the spawner of this process, and says how many there were. The children that it has made look like it until they
/// are executed, but are younger.
fn kill_spawners() -> usize {
    let own = std::process::id().to_string();
    let begun = |pid: i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit(") ").next()?.split(' ').collect();
        (fields[1] == own).then(|| (fields[19].parse::<u64>().unwrap(), pid))
    };
    let oldest = processes_with("__spawner").into_iter().filter_map(begun).min();
    if let Some((_, pid)) = oldest {
        kill(pid);
    }
    usize::from(oldest.is_some())
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}
