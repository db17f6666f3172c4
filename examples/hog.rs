//! A program that takes all it can get of something that others need, and goes on trying: for what holds it, and for what
//! its neighbours feel of it. Of memory that is `memory_hog`, and of disk `log_flooder`.

#[path = "support/args.rs"]
mod args;

use args::Args;
use std::fs::File;
use std::hint::black_box;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

const USAGE: &str = "\
usage: hog [--of cpu|processes|descriptors] [--most N]

Takes all it can get of
  cpu          by computing in N threads (4); the default
  processes    by starting two that do the same, and so on for N generations (10, two thousand processes)
  descriptors  by opening up to N files (100000)
says what was refused when something is, and tries again.";

/// Between two attempts.
const AGAIN: Duration = Duration::from_millis(10);
/// How many processes each starts.
const CHILDREN: u32 = 2;

fn main() -> Result<(), String> {
    let Some(args) = Args::or_usage(USAGE) else { return Ok(()) };
    match args.value("--of", "cpu".to_owned())?.as_str() {
        "cpu" => burn(args.value("--most", 4)?),
        "processes" => multiply(args.value("--most", 10)?)?,
        "descriptors" => open(args.value("--most", 100_000)?),
        other => return Err(format!("--of cannot be {other:?}; --help tells what it takes")),
    }
    loop {
        thread::park();
    }
}

fn burn(threads: u32) {
    for _ in 1..threads {
        drop(thread::Builder::new().spawn(compute));
    }
    compute();
}

fn compute() {
    let mut number = 1_u64;
    loop {
        number = black_box(number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    }
}

#[expect(clippy::disallowed_methods, reason = "a fixture that makes processes on purpose")]
fn multiply(generations: u32) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let Some(left) = generations.checked_sub(1).map(|left| left.to_string()) else { return Ok(()) };
    let mut told = false;
    let mut started = 0;
    while started < CHILDREN {
        match Command::new(&program).args(["--of", "processes", "--most", &left]).stdin(Stdio::null()).spawn() {
            Ok(_) => started += 1,
            Err(error) => refused(&mut told, &format!("another process: {error}")),
        }
    }
    Ok(())
}

fn open(most: usize) {
    let mut held = Vec::new();
    let mut told = false;
    while held.len() < most {
        match File::open("/dev/null") {
            Ok(file) => held.push(file),
            Err(error) => refused(&mut told, &format!("another file beside {}: {error}", held.len())),
        }
    }
    // Held until it is killed.
    loop {
        thread::park();
    }
}

#[expect(clippy::disallowed_methods, reason = "a fixture that waits on purpose")]
#[expect(clippy::print_stdout, reason = "standard output is the instance's log")]
fn refused(told: &mut bool, what: &str) {
    if !std::mem::replace(told, true) {
        println!("refused: {what}");
    }
    thread::sleep(AGAIN);
}
