//! What a launcher measures, as a program reads it and as Prometheus scrapes it.
//!
//! `cargo run --example metrics_monitoring`

#[path = "support/http.rs"]
mod http;
#[path = "support/sample.rs"]
mod sample;

use pattern_launcher::control::{Termination, Wait};
use pattern_launcher::{LaunchSpec, quick_start};
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "\
usage: metrics_monitoring

Launches a few processes, restarts one and ends one, and shows what was counted and how long launches took.";

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
    for tenant in ["tenant-a", "tenant-b", "tenant-c"] {
        launcher.launch(LaunchSpec::new(sample::PATTERN).namespace(tenant)).await?;
    }
    let all = launcher.list();
    launcher.restart(&all[0].process_id, Wait::ForOutcome).await?;
    launcher.terminate(&all[1].process_id, Termination::graceful()).await?;

    let metrics = launcher.metrics();
    let counts = metrics.patterns[sample::PATTERN];
    assert_eq!((counts.starts, counts.stops, counts.restarts, counts.failures), (4, 2, 1, 0));
    assert_eq!((metrics.processes["running"], metrics.launch_duration.count), (2, 3));
    println!("started {} processes, of which {} run", counts.starts, metrics.processes["running"]);
    println!(
        "launches took {:.1} ms in the median, {:.1} ms at the 95th percentile",
        metrics.launch_duration.p50 * 1_000.0,
        metrics.launch_duration.p95 * 1_000.0
    );
    println!("\nas Prometheus scrapes it, in part:");
    let text = launcher.export_prometheus();
    for line in text.lines().filter(|line| line.contains("starts_total") || line.contains("processes_total{")) {
        println!("  {line}");
    }
    println!("\nas JSON:\n  {}", launcher.export_json());
    launcher.shutdown(Duration::from_secs(10)).await?;
    Ok(())
}
