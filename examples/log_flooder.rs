//! A program that writes to its log without end, or as much as it is told: for rotation, and for being a good host.

#[path = "support/args.rs"]
mod args;

use args::Args;
use rustix::time::{ClockId, clock_gettime};
use std::io::Write;
use std::time::Duration;

const USAGE: &str = "\
usage: log_flooder [--lines N] [--rate N] [--seconds N]

Writes N numbered lines of 100 bytes (10000) to standard output, as quickly as it can or so many millions of bytes a second,
then stays for N seconds (86400).";

/// Between two portions, where there is a rate.
const PORTION: Duration = Duration::from_millis(10);

#[expect(clippy::disallowed_methods, reason = "a fixture that waits on purpose")]
fn main() -> Result<(), String> {
    let Some(args) = Args::or_usage(USAGE) else { return Ok(()) };
    let lines: u64 = args.value("--lines", 10_000)?;
    let rate: u64 = args.value("--rate", 0)?;
    let mut out = std::io::stdout().lock();
    if rate == 0 {
        for number in 1..=lines {
            writeln!(out, "{number:>10} {}", "x".repeat(88)).map_err(|e| e.to_string())?;
        }
    }
    // A rate of one is a hundred lines in each hundredth of a second.
    let (begun, mut next) = (now(), 1);
    while rate > 0 && next <= lines {
        let portions = since(begun).as_millis() / PORTION.as_millis() + 1;
        let due = u64::try_from(portions).unwrap_or(u64::MAX).saturating_mul(rate * 100);
        let mut portion = Vec::new();
        for number in next..=due.min(lines) {
            writeln!(portion, "{number:>10} {}", "x".repeat(88)).map_err(|e| e.to_string())?;
        }
        out.write_all(&portion).map_err(|e| e.to_string())?;
        next = next.max(due.min(lines) + 1);
        std::thread::sleep(PORTION);
    }
    out.flush().map_err(|e| e.to_string())?;
    std::thread::sleep(Duration::from_secs(args.value("--seconds", 86_400)?));
    Ok(())
}

fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

fn since(begun: Duration) -> Duration {
    now().saturating_sub(begun)
}
