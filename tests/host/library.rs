//! Launchers inside a program that is no spawner: this one.

use crate::world::{lives, wait_for};
use pattern_launcher::control::{Suspend, Termination, Update, Updated, Wait};
use pattern_launcher::error::Code;
use pattern_launcher::model::{Generation, Key, ProcessState, Secret};
use pattern_launcher::{LaunchSpec, Launcher, quick_start};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Every process ends within this.
const END: Duration = Duration::from_secs(10);

/// A folder with one pattern that sleeps.
fn patterns(folder: &Path) -> PathBuf {
    let own = folder.join("patterns/sleeper");
    std::fs::create_dir_all(&own).unwrap();
    let manifest =
        "name: sleeper\nversion: 1.0.0\nexecutable: sleep\nargs: ['1000']\nlifecycle: { grace_period: 5s }\n";
    std::fs::write(own.join("manifest.yaml"), manifest).unwrap();
    folder.join("patterns")
}

fn sleeper(namespace: &str) -> LaunchSpec {
    LaunchSpec::new("sleeper").namespace(namespace)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_launchers_live_in_one_program() {
    let folder = tempfile::tempdir().unwrap();
    let patterns = patterns(folder.path());
    let (one, other) = (quick_start(&patterns).await.unwrap(), quick_start(&patterns).await.unwrap());
    let (mine, theirs) = (one.launch(sleeper("a")).await.unwrap(), other.launch(sleeper("a")).await.unwrap());
    assert_eq!(mine.process_id(), theirs.process_id());
    let (pid, kept) = (mine.pid().unwrap(), theirs.pid().unwrap());
    assert_ne!(pid, kept);
    one.shutdown(END).await.unwrap();
    assert!(!lives(pid) && lives(kept), "ending one launcher concerns the other's processes");
    assert_eq!((other.list().len(), other.metrics().patterns["sleeper"].starts), (1, 1));
    other.shutdown(END).await.unwrap();
    assert!(!lives(kept));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_tasks_get_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let launcher = quick_start(patterns(folder.path())).await.unwrap();
    let answers = join((0..50).map(|_| launcher.launch(sleeper("crowd"))).collect()).await;
    let pids: BTreeSet<_> = answers.iter().map(|answer| answer.as_ref().unwrap().pid()).collect();
    assert_eq!(pids.len(), 1);
    assert_eq!(answers.iter().filter(|answer| answer.as_ref().unwrap().created).count(), 1);
    launcher.shutdown(END).await.unwrap();
}

/// Waits for all of them at once, on this task.
async fn join<T>(futures: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut pending: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        let mut done = true;
        for (future, outcome) in &mut pending {
            if outcome.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(value) => *outcome = Some(value),
                    std::task::Poll::Pending => done = false,
                }
            }
        }
        if done { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    pending.into_iter().filter_map(|(_, outcome)| outcome).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ttl_is_seen_beforehand_and_renewed_by_launches() {
    let folder = tempfile::tempdir().unwrap();
    let launcher = quick_start(patterns(folder.path())).await.unwrap();
    let brief = || sleeper("brief").ttl(Duration::from_secs(1));
    let process = launcher.launch(brief()).await.unwrap();
    let key = process.process_id().clone();
    let first = process.status.expires_at_boot_seconds.unwrap();
    let mut renewed = first;
    wait_for("a renewal", || {
        // Launching a process that runs is what renews it.
        let launched = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async { launcher.launch(brief()).await.unwrap() })
        });
        assert_eq!(launched.pid(), process.pid());
        renewed = launched.status.expires_at_boot_seconds.unwrap_or(first);
        renewed > first
    })
    .await;
    wait_for("its end", || launcher.status(&key).is_none()).await;
    assert!(!lives(process.pid().unwrap()));
    launcher.shutdown(END).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_waiting_takes_nothing_back() {
    let folder = tempfile::tempdir().unwrap();
    let patterns = patterns(folder.path());
    let slow = "name: slow\nversion: 1.0.0\nexecutable: sleep\nargs: ['1000']\n\
                healthcheck: { type: exec, command: ['test', '-e', 'ready'], startup_timeout: 60s }\n";
    std::fs::create_dir(patterns.join("slow")).unwrap();
    std::fs::write(patterns.join("slow/manifest.yaml"), slow).unwrap();
    let launcher = quick_start(&patterns).await.unwrap();
    let spec = || LaunchSpec::new("slow").namespace("a");
    let key = Key::parse("ns:a:slow").unwrap();
    let waited = tokio::time::timeout(Duration::from_millis(300), launcher.launch(spec())).await;
    assert!(waited.is_err(), "it is not healthy yet");
    wait_for("the process", || launcher.status(&key).is_some_and(|status| status.pid.is_some())).await;
    let pid = launcher.status(&key).unwrap().pid;
    std::fs::write(patterns.join("slow/ready"), "").unwrap();
    let launched = launcher.launch(spec()).await.unwrap();
    assert_eq!((launched.pid(), launched.created), (pid, false));
    launcher.shutdown(END).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_launched_can_be_stopped_changed_and_ended() {
    let folder = tempfile::tempdir().unwrap();
    let launcher = quick_start(patterns(folder.path())).await.unwrap();
    let process = launcher.launch(sleeper("a")).await.unwrap();
    let key = process.process_id().clone();

    let why = Suspend { reason: "a look inside".to_owned(), lasting: None };
    let suspended = launcher.suspend(&key, why, Wait::ForOutcome).await.unwrap();
    assert_eq!(suspended.state, ProcessState::Terminated);
    assert!(!lives(process.pid().unwrap()));
    let refused = launcher.launch(sleeper("a")).await.unwrap_err();
    assert_eq!(refused.code(), Code::ProcessStartFailed, "{refused}");
    let resumed = launcher.resume(&key, Wait::ForOutcome).await.unwrap();

    let change = |expected| Update {
        config: Some(BTreeMap::from([("LEVEL".to_owned(), Secret::new("debug"))])),
        expected: Some(expected),
        ..Update::default()
    };
    let moved = launcher.update(&key, change(Generation(7)), Wait::ForOutcome).await.unwrap();
    assert!(matches!(moved, Updated::Moved(Generation(1))), "{moved:?}");
    let applied = launcher.update(&key, change(Generation(1)), Wait::ForOutcome).await.unwrap();
    let Updated::Applied(changed) = applied else { panic!("{applied:?}") };
    assert_ne!(changed.pid, resumed.pid);
    assert_eq!(changed.generation, Generation(2));
    let bad =
        Update { config: Some(BTreeMap::from([("LD_PRELOAD".to_owned(), Secret::new("x"))])), ..Update::default() };
    assert_eq!(launcher.update(&key, bad, Wait::No).await.unwrap_err().code(), Code::InvalidInstance);

    assert!(launcher.explain(&key).await.lines.iter().any(|line| line.contains("launched by this program")));
    launcher.terminate(&key, Termination::forced()).await.unwrap();
    assert!(launcher.status(&key).is_none() && launcher.list().is_empty());
    assert_eq!(launcher.terminate(&key, Termination::graceful()).await.unwrap_err().code(), Code::ProcessNotFound);
    launcher.shutdown(END).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_is_told_by_build() {
    let folder = tempfile::tempdir().unwrap();
    let builder = || Launcher::builder().patterns_dir(patterns(folder.path())).state_dir(folder.path().join("state"));
    let refused = builder().resource_limits(2.0, "much").build().await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidConfiguration, "{refused}");
    let first = builder().production_defaults().resource_limits(2.0, "1Gi").build().await.unwrap();
    let second = builder().build().await.unwrap_err();
    assert_eq!(second.code(), Code::InvalidConfiguration, "{second}");
    first.shutdown(END).await.unwrap();
    builder().build().await.unwrap().shutdown(END).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_launchers_of_one_program_never_read_one_root() {
    let folder = tempfile::tempdir().unwrap();
    let desired = folder.path().join("desired");
    std::fs::create_dir(&desired).unwrap();
    let builder = |name: &str| {
        let own = folder.path().join(name);
        Launcher::builder()
            .patterns_dir(patterns(folder.path()))
            .desired_dir(&desired)
            .state_dir(own.join("state"))
            .launch_dir(own.join("launched"))
    };
    let first = builder("one").build().await.unwrap();
    let reads = || first.control().board().desired().roots.iter().any(|root| root.path == desired && root.ready);
    wait_for("the first to read it", reads).await;
    let second = builder("other").build().await.err().unwrap();
    assert_eq!(second.code(), Code::InvalidConfiguration, "{second}");
    assert_eq!(second.context_value("desired_dir"), desired.to_str(), "{second}");
    // Whoever can still ask the first keeps nobody out once it has ended.
    let _control = first.control().clone();
    first.shutdown(END).await.unwrap();
    builder("other").build().await.unwrap().shutdown(END).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_of_what_was_deleted_by_hand_keeps_it() {
    let folder = tempfile::tempdir().unwrap();
    let launched = folder.path().join("launched");
    let launcher = Launcher::builder()
        .patterns_dir(patterns(folder.path()))
        .state_dir(folder.path().join("state"))
        .launch_dir(&launched)
        .build()
        .await
        .unwrap();
    let process = launcher.launch(sleeper("a")).await.unwrap();
    let key = process.process_id().clone();
    let file = std::fs::read_dir(&launched).unwrap().next().unwrap().unwrap().path();
    std::fs::remove_file(&file).unwrap();
    let missing = || {
        let status = launcher.status(&key).expect("it is declared until its absence counts");
        status.conditions.iter().any(|condition| condition.kind == "FileMissing")
    };
    wait_for("the loss to be noticed", missing).await;
    let again = launcher.launch(sleeper("a")).await.unwrap();
    assert_eq!(again.pid(), process.pid());
    assert!(file.exists() && !missing());
    launcher.shutdown(END).await.unwrap();
    assert!(file.exists(), "what was launched is still declared");
}
