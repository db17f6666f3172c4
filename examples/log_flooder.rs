//! A program that writes to its log without end, or as much as it is told: for rotation, and for being a good host.

#[path = "support/args.rs"]
mod args;

use args::Args;
use std::io::Write;
use std::time::Duration;

const USAGE: &str = "\
usage: log_flooder [--lines N] [--seconds N]

Writes N numbered lines of 100 bytes (10000) to standard output as quickly as it can, then stays for N seconds (86400).";

#[expect(clippy::disallowed_methods, reason = "a fixture that waits on purpose")]
fn main() -> Result<(), String> {
    let Some(args) = Args::or_usage(USAGE) else { return Ok(()) };
    let lines: u64 = args.value("--lines", 10_000)?;
    let mut out = std::io::stdout().lock();
    for number in 1..=lines {
        writeln!(out, "{number:>10} {}", "x".repeat(88)).map_err(|e| e.to_string())?;
    }
    out.flush().map_err(|e| e.to_string())?;
    std::thread::sleep(Duration::from_secs(args.value("--seconds", 86_400)?));
    Ok(())
}
