//! Who shares a process with whom: one pattern, launched at each isolation level for the same people.
//!
//! `cargo run --example isolation_levels`

#[path = "support/http.rs"]
mod http;
#[path = "support/sample.rs"]
mod sample;

use pattern_launcher::model::IsolationLevel;
use pattern_launcher::{LaunchSpec, quick_start};
use std::collections::BTreeSet;
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "\
usage: isolation_levels

Launches one pattern at each isolation level for two tenants with two sessions each, and shows who shares a process.";

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
    let launcher = quick_start(sample::patterns(scratch.path())?).await?;
    for (level, expected) in [(IsolationLevel::None, 1), (IsolationLevel::Namespace, 2), (IsolationLevel::Session, 4)] {
        let mut pids = BTreeSet::new();
        println!("{level}:");
        for tenant in ["tenant-a", "tenant-b"] {
            for session in ["monday", "tuesday"] {
                let spec = LaunchSpec::new(sample::PATTERN).isolation(level).namespace(tenant).session(session);
                let process = launcher.launch(spec).await?;
                let pid = process.pid().ok_or("it does not run")?;
                println!("  {tenant}, {session:<7} -> pid {pid:<7} {}", process.process_id());
                pids.insert(pid);
            }
        }
        assert_eq!(pids.len(), expected);
        println!("  four launches, {expected} process{}", if expected == 1 { "" } else { "es" });
    }
    launcher.shutdown(Duration::from_secs(10)).await?;
    Ok(())
}
