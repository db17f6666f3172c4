//! Starts that fail, and what people are told.

use crate::world::{Program, World, free_ports};
use pattern_launcher::act::CgroupChoice;
use pattern_launcher::error::{Code, Error};
use pattern_launcher::model::Secret;
use pattern_launcher::observed::{Event, PortKind};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Runs a program that cannot be run, and returns the error.
async fn refused(world: &mut World, program: &Program) -> Error {
    let run = world.prepare(program);
    match world.event_of(run).await {
        Event::StartFailed { error, .. } => error,
        Event::Prepared { process, .. } => {
            world.commit(program, run, &process);
            let Event::StartFailed { error, .. } = world.event_of(run).await else { panic!("it was started") };
            let left = process.cgroup.is_some_and(|path| path.exists());
            assert!(!left && !Path::new(&format!("/proc/{}", process.pid)).exists(), "something of it is left");
            error
        }
        other => panic!("unexpected: {other:?}"),
    }
}

#[tokio::test]
async fn each_reason_has_its_code_and_its_advice() {
    let state = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::start(state.path(), CgroupChoice::Auto);
    let write = |name: &str, text: &str, mode: u32| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    };
    write("plain", "echo", 0o644);
    write("no-interpreter", "#!/no/such/interpreter\n", 0o755);
    write("neither", "\u{1}\u{2}", 0o755);
    for (executable, code, advice) in [
        ("./missing", Code::ExecutableNotFound, "manifest.yaml"),
        ("no-such-word", Code::ExecutableNotFound, "no-such-word"),
        ("./plain", Code::ExecutableNotRunnable, "chmod +x"),
        ("./no-interpreter", Code::ExecutableNotRunnable, "/no/such/interpreter"),
        ("./neither", Code::ExecutableNotRunnable, "#!/bin/sh"),
        ("/usr", Code::ExecutableNotRunnable, "manifest.yaml"),
    ] {
        let error = refused(&mut world, &Program::new("bad", folder.path(), executable, &[])).await;
        assert_eq!(error.code(), code, "{executable}: {error}");
        assert!(error.suggestion().is_some_and(|text| text.contains(advice)), "{executable}: {error}");
    }
    let nowhere = Program::new("nowhere", Path::new("/no/such/folder"), "/bin/true", &[]);
    let error = refused(&mut world, &nowhere).await;
    assert!(error.code() == Code::ProcessStartFailed && error.context_value("folder").is_some(), "{error}");
    for value in ["y".repeat(200 << 10), "a\0b".to_owned()] {
        let config = BTreeMap::from([("VALUE".to_owned(), Secret::new(value.clone()))]);
        let error = refused(&mut world, &Program::with_config("big", Path::new("/"), "/bin/true", &[], config)).await;
        assert_eq!(error.code(), Code::ProcessStartFailed, "{error}");
        assert!(!error.to_string().contains(&value), "an error shows a secret");
    }
    assert_eq!(std::fs::read_dir(state.path().join("runs")).unwrap().count(), 0, "a record is left");
}

#[tokio::test]
async fn a_port_that_a_stranger_holds_starts_nothing_and_names_it() {
    let state = tempfile::tempdir().unwrap();
    let mut world = World::start(state.path(), CgroupChoice::Auto);
    let program = Program::shell("port", "exit 0");
    let ports = free_ports();
    let listener = TcpListener::bind(("127.0.0.1", ports.health)).unwrap();
    let run = world.prepare_with(&program, ports);
    let Event::PortTaken { port, holder, .. } = world.event_of(run).await else { panic!("not refused") };
    assert_eq!((port, holder), (PortKind::Health, Some(i32::try_from(std::process::id()).unwrap())));
    drop(listener);
    let run = world.prepare_with(&program, ports);
    assert!(matches!(world.event_of(run).await, Event::Prepared { .. }));
}
