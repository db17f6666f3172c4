//! The daemon.

use pattern_launcher::{act, cli};
use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything else: the spawner is single-threaded.
    act::run_if_spawner().unwrap_or_else(cli::main)
}
