//! The shortest program that launches a process: get or create, ask it something, end it.
//!
//! `cargo run --example basic_launch`

#[path = "support/http.rs"]
mod http;
#[path = "support/sample.rs"]
mod sample;

use pattern_launcher::control::Termination;
use pattern_launcher::{LaunchSpec, quick_start};
use std::error::Error;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "\
usage: basic_launch

Launches a small HTTP service for a tenant, gets it again, asks it something, and ends it.";

fn main() -> Result<ExitCode, Box<dyn Error>> {
    // First of all: this program is also the process that starts the others.
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

    let process = launcher.launch(LaunchSpec::new(sample::PATTERN).namespace("tenant-a")).await?;
    let address = process.address().ok_or("it has no address")?.to_owned();
    println!("launched   {} (pid {}) at {address}", process.process_id(), process.pid().unwrap_or_default());
    println!("it says    {}", ask(&address)?);

    let again = launcher.launch(LaunchSpec::new(sample::PATTERN).namespace("tenant-a")).await?;
    assert_eq!((again.pid(), again.created), (process.pid(), false), "launching is get-or-create");
    println!("once more  the same process, pid {}", again.pid().unwrap_or_default());

    launcher.terminate(process.process_id(), Termination::graceful()).await?;
    assert!(launcher.status(process.process_id()).is_none() && ask(&address).is_err());
    println!("terminated nothing is left of it");

    launcher.shutdown(Duration::from_secs(10)).await?;
    Ok(())
}

/// What the service at `address` says.
fn ask(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text.split("\r\n\r\n").nth(1).unwrap_or_default().trim().to_owned())
}
