//! A program that takes memory and touches it, so that it is really taken: for memory limits.

#[path = "support/args.rs"]
mod args;

use args::Args;
use std::time::Duration;

const USAGE: &str = "\
usage: memory_hog [--mib N] [--seconds N]

Takes N MiB (64), one at a time, and holds them for N seconds (86400).";

/// What the kernel gives at least; one byte written in each takes them all.
const PAGE: usize = 4096;

#[expect(clippy::disallowed_methods, reason = "a fixture that waits on purpose")]
#[expect(clippy::print_stdout, reason = "standard output is the instance's log")]
fn main() -> Result<(), String> {
    let Some(args) = Args::or_usage(USAGE) else { return Ok(()) };
    let mib: usize = args.value("--mib", 64)?;
    let mut held = Vec::with_capacity(mib);
    for _ in 0..mib {
        let mut block = vec![0_u8; 1024 * 1024];
        for page in block.chunks_mut(PAGE) {
            page.fill(1);
        }
        held.push(block);
    }
    println!("holding {} MiB", held.len());
    std::thread::sleep(Duration::from_secs(args.value("--seconds", 86_400)?));
    Ok(())
}
