//! The daemon.

use pattern_launcher::{cli, run_if_spawner};
use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything else: the spawner is single-threaded.
    run_if_spawner().unwrap_or_else(cli::main)
}
