//! The client.

use pattern_launcher::cli::prismctl;
use std::process::ExitCode;

fn main() -> ExitCode {
    prismctl::main()
}
