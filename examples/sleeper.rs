//! The most trivial program there is to supervise: it says that it started and sleeps. For thousands of instances.

#[path = "support/args.rs"]
mod args;
#[path = "support/signals.rs"]
mod signals;

use args::Args;
use rustix::time::{ClockId, clock_gettime};
use std::fs::OpenOptions;
use std::io::Write;

const USAGE: &str = "\
usage: sleeper [--log FILE] [--label TEXT] [--stubborn true]

Appends one line to FILE, `NANOSECONDS PROCESS_ID PID TEXT` by CLOCK_MONOTONIC, and sleeps until it is killed; a stubborn
one ignores SIGTERM.";

fn main() -> Result<(), String> {
    let Some(args) = Args::or_usage(USAGE) else { return Ok(()) };
    let (log, label) = (args.value("--log", String::new())?, args.value("--label", String::new())?);
    if args.value("--stubborn", String::new())? == "true" {
        signals::ignore_sigterm();
    }
    if !log.is_empty() {
        let now = clock_gettime(ClockId::Monotonic);
        let id = std::env::var("PROCESS_ID").unwrap_or_default();
        let nanoseconds = now.tv_sec * 1_000_000_000 + now.tv_nsec;
        let line = format!("{nanoseconds} {id} {} {label}", std::process::id()).trim_end().to_owned() + "\n";
        // One write to a file opened for appending: the lines of many sleepers do not mix.
        let file = OpenOptions::new().append(true).create(true).open(&log);
        file.and_then(|mut file| file.write_all(line.as_bytes())).map_err(|e| format!("{log}: {e}"))?;
    }
    loop {
        std::thread::park();
    }
}
