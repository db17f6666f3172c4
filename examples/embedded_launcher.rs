//! A launcher inside a program of one's own: files declare, the program watches and steers.
//!
//! `cargo run --example embedded_launcher`

#[path = "support/http.rs"]
mod http;
#[path = "support/sample.rs"]
mod sample;

use pattern_launcher::control::{Suspend, Termination, Wait};
use pattern_launcher::model::{Key, ProcessState};
use pattern_launcher::{LaunchSpec, Launcher};
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "\
usage: embedded_launcher

Runs a launcher in this program: a file in a folder declares an instance, the program hears what happens, stops the
instance for a while, restarts it, and is refused when it wants to end what a file declares.";

fn main() -> Result<ExitCode, Box<dyn Error>> {
    if let Some(code) = pattern_launcher::run_if_spawner() {
        return Ok(code);
    }
    if sample::is_wanted(USAGE) {
        tokio::runtime::Runtime::new()?.block_on(run())?;
    }
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stdout, reason = "it prints what it proves")]
async fn run() -> Result<(), Box<dyn Error>> {
    let scratch = tempfile::tempdir()?;
    let desired = scratch.path().join("desired");
    std::fs::create_dir(&desired)?;
    let launcher = Launcher::builder()
        .patterns_dir(sample::patterns(scratch.path())?)
        .desired_dir(&desired)
        .state_dir(scratch.path().join("state"))
        .namespace_isolation()
        .build()
        .await?;
    let mut events = launcher.subscribe();

    // What a person drops into the folder runs; a launch of the same key waits for it and writes nothing.
    std::fs::write(desired.join("greeter.yaml"), format!("pattern: {}\nnamespace: tenant-a\n", sample::PATTERN))?;
    let key = Key::parse(&format!("ns:tenant-a:{}", sample::PATTERN))?;
    while launcher.status(&key).is_none_or(|status| status.state != ProcessState::Running) {
        let event = events.recv().await?;
        println!("event      {}: {}", event.message, event.reason);
    }
    let process = launcher.launch(LaunchSpec::new(sample::PATTERN).namespace("tenant-a")).await?;
    assert!(!process.created);
    println!("running    {} as pid {}", process.process_id(), process.pid().unwrap_or_default());

    let why = Suspend { reason: "showing that it can be".to_owned(), lasting: None };
    let suspended = launcher.suspend(&key, why, Wait::ForOutcome).await?;
    assert_eq!(suspended.state, ProcessState::Terminated);
    let resumed = launcher.resume(&key, Wait::ForOutcome).await?;
    println!("resumed    as pid {}", resumed.pid.unwrap_or_default());
    let restarted = launcher.restart(&key, Wait::ForOutcome).await?;
    assert_ne!(restarted.pid, resumed.pid);
    println!("restarted  as pid {}", restarted.pid.unwrap_or_default());

    let refused = launcher.terminate(&key, Termination::graceful()).await.err().ok_or("a file's instance was ended")?;
    println!("refused    {refused}");
    for line in launcher.explain(&key).await.lines {
        println!("explained  {line}");
    }
    launcher.shutdown(Duration::from_secs(10)).await?;
    Ok(())
}
