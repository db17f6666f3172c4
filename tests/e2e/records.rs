//! Records that cannot be believed: they kill nothing, start nothing beside what may live, and say how that ends.

use crate::world::{Daemon, Prismctl, World, alive, holds_for, signal};
use pattern_launcher::model::ProcessState;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

const ID: &str = "ns:a:sleeper";

/// A world whose daemon was killed under one instance; the pid of that, and the file of its record.
fn left_alone() -> (World, i32, PathBuf) {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "lifecycle: { grace_period: 500ms }");
    world.desire("a.yaml", "pattern: sleeper\nnamespace: a\n");
    let daemon = world.start();
    let pid = daemon.settled(ID);
    daemon.kill();
    let mut records = fs::read_dir(world.state().join("runs")).unwrap();
    let record = records.next().unwrap().unwrap().path();
    assert!(records.next().is_none(), "one run has one record");
    (world, pid, record)
}

/// Waits until the key is blocked, and gives what is told of it.
fn blocked(daemon: &Daemon) -> String {
    daemon.wait("the key is blocked", |status| {
        let key = status.key(ID)?;
        let told = key.conditions.iter().find(|condition| condition.kind == "RecordUnverifiable")?;
        assert_eq!((key.state, key.pid), (ProcessState::Failed, None));
        assert_eq!(key.last_error.as_ref(), Some(&told.message));
        Some(told.message.clone())
    })
}

#[test]
fn a_damaged_record_kills_nothing_starts_nothing_and_is_given_up_by_request() {
    let (world, pid, record) = left_alone();
    let whole = fs::read(&record).unwrap();
    fs::write(&record, &whole[..whole.len() / 2]).unwrap();

    let daemon = world.start();
    let told = blocked(&daemon);
    for word in
        ["STORE_UNAVAILABLE", "it is not whole", record.to_str().unwrap(), "prismctl pattern abandon ns:a:sleeper"]
    {
        assert!(told.contains(word), "no '{word}' in {told}");
    }
    // Nor does it when it is asked to: what may live is neither started again nor ended.
    let prismctl = Prismctl::of(&world);
    for command in ["restart", "reset"] {
        drop(prismctl.run(&format!("pattern {command} {ID} --no-wait")));
    }
    let untouched = || alive(pid) && world.processes("sleeper")[ID] == [pid];
    holds_for(Duration::from_secs(1), "the process is left alone", untouched);

    // Somebody follows the advice: the process first, then its key.
    signal(pid, "KILL");
    prismctl.done(&format!("pattern abandon {ID}"));
    let next = daemon.settled(ID);
    assert_ne!(next, pid);
    let explained = prismctl.done(&format!("pattern explain {ID}"));
    assert!(explained.contains("process abandoned") && explained.contains("uid "), "{explained}");
    let mut aside = record.into_os_string();
    aside.push(".abandoned");
    assert_eq!(fs::read(&aside).unwrap(), whole[..whole.len() / 2], "it is kept for people");

    // It blocks no later launcher.
    daemon.kill();
    assert_eq!(world.start().settled(ID), next);
}

#[test]
fn a_record_of_a_newer_launcher_blocks_its_key_until_that_launcher_is_back() {
    let (world, pid, record) = left_alone();
    let text = fs::read_to_string(&record).unwrap();
    fs::write(&record, text.replacen("{\"version\":1,", "{\"version\":2,", 1)).unwrap();
    let daemon = world.start();
    let told = blocked(&daemon);
    assert!(told.contains("a newer launcher wrote it (version 2, supported 1)"), "{told}");
    assert!(alive(pid));
    daemon.kill();
    fs::write(&record, text).unwrap();
    assert_eq!(world.start().settled(ID), pid, "it is taken over by a launcher that can read it");
}

#[test]
fn what_is_given_up_alive_is_not_signalled_and_runs_beside_the_next() {
    let (world, pid, record) = left_alone();
    fs::write(&record, "damaged").unwrap();
    let daemon = world.start();
    blocked(&daemon);
    Prismctl::of(&world).done(&format!("pattern abandon {ID}"));
    let next = daemon.settled(ID);
    assert!(next != pid && alive(pid), "whoever gives it up ends it");
    // Nor does a later launcher take it for an orphan: its record was set aside, and is kept.
    daemon.kill();
    assert_eq!(world.start().settled(ID), next);
    assert!(alive(pid));
}
