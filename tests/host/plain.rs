//! Without a spawner: this test program does not begin with `run_if_spawner`, as a program that embeds a launcher may.

use crate::world::{Program, World, lives, output};
use pattern_launcher::act::CgroupChoice;
use pattern_launcher::error::Code;
use pattern_launcher::model::ExitReason;
use pattern_launcher::observed::Event;
use pattern_launcher::plan::Effect;
use std::path::Path;

/// Signals 32 and 33: the C library uses them itself, and its posix_spawn leaves them ignored.
const KEPT_BY_LIBC: u64 = 0b11 << 31;

#[tokio::test]
async fn a_process_is_its_own_session_with_default_signals_and_what_it_was_given() {
    let state = tempfile::tempdir().unwrap();
    let mut world = World::without_spawner(state.path(), CgroupChoice::Auto);
    let script = "cat /proc/self/status; echo stat $(cut -d' ' -f5-6 /proc/$$/stat) $$; pwd; env; echo $1; echo done";
    let args = ["-c", &script.replace('$', "$$"), "sh", "an argument"];
    let program = Program::new("plain", Path::new("/usr"), "/bin/sh", &args);
    let (run, process) = world.run(&program).await;
    let text = output(state.path(), &program.key, |text| text.ends_with("done\n")).await;
    assert!(text.contains(&format!("stat {0} {0} {0}\n", process.pid)), "{text}");
    for (set, bits) in [("SigBlk", 0), ("SigIgn", KEPT_BY_LIBC)] {
        let line = text.lines().find_map(|line| line.strip_prefix(set)?.strip_prefix(":\t")).unwrap();
        assert_eq!(u64::from_str_radix(line, 16).unwrap() & !bits, 0, "{set} {line}");
    }
    assert!(text.contains("\n/usr\n") && text.contains("\nan argument\n"), "{text}");
    assert!(text.contains("\nFROM_MANIFEST=m\n") && !text.contains("\nHOME="), "{text}");
    assert!(matches!(world.event_of(run).await, Event::Exited { exit: ExitReason::Code(0), .. }));
}

#[tokio::test]
async fn a_child_that_is_not_committed_never_runs() {
    let state = tempfile::tempdir().unwrap();
    let mut world = World::without_spawner(state.path(), CgroupChoice::Auto);
    let program = Program::shell("held", "echo it ran");
    let (run, process) = world.held(&program).await;
    assert!(lives(process.pid));
    world.host.carry_out(Effect::Discard { key: program.key.clone(), run });
    assert!(matches!(world.event_of(run).await, Event::StartFailed { .. }));
    let (_, process) = world.held(&program).await;
    world.host.shutdown().await;
    assert!(!lives(process.pid));
    assert_eq!(output(state.path(), &program.key, |_| true).await, "");
}

#[tokio::test]
async fn its_tree_is_killed_whole() {
    let state = tempfile::tempdir().unwrap();
    let mut world = World::without_spawner(state.path(), CgroupChoice::Auto);
    let program = Program::shell("tree", "sleep 1000 & echo child $!; wait");
    let (run, process) = world.run(&program).await;
    let text = output(state.path(), &program.key, |text| text.ends_with('\n')).await;
    let child: i32 = text.trim().trim_start_matches("child ").parse().unwrap();
    world.finish(&program, run, &process).await;
    assert!(!lives(process.pid) && !lives(child));
}

#[tokio::test]
async fn a_folder_that_is_gone_is_told() {
    let state = tempfile::tempdir().unwrap();
    let mut world = World::without_spawner(state.path(), CgroupChoice::Auto);
    let program = Program::new("nowhere", &state.path().join("gone"), "/bin/sh", &["-c", "true"]);
    let run = world.prepare(&program);
    let Event::StartFailed { error, .. } = world.event_of(run).await else { panic!("it was made") };
    assert_eq!(error.code(), Code::ProcessStartFailed, "{error}");
    assert!(error.to_string().contains("gone"), "{error}");
}
