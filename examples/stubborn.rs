//! A program that ignores SIGTERM: only the end of its grace period ends it.

#[path = "support/args.rs"]
mod args;
#[path = "support/signals.rs"]
mod signals;

use args::Args;
use std::time::Duration;

const USAGE: &str = "\
usage: stubborn [--seconds N]

Ignores SIGTERM and stays for N seconds (86400).";

#[expect(clippy::disallowed_methods, reason = "a fixture that waits on purpose")]
#[expect(clippy::print_stdout, reason = "standard output is the instance's log")]
fn main() -> Result<(), String> {
    let Some(args) = Args::or_usage(USAGE) else { return Ok(()) };
    let stay = Duration::from_secs(args.value("--seconds", 86_400)?);
    signals::ignore_sigterm();
    println!("ignoring SIGTERM");
    std::thread::sleep(stay);
    Ok(())
}
