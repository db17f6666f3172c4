//! A program that takes all it can get of something that others need, and goes on trying: for what holds it, and for what
//! its neighbours feel of it. Of memory that is `memory_hog`, and of disk `log_flooder`.

#[path = "support/args.rs"]
mod args;

use args::Args;
use std::collections::BTreeMap;
use std::fs::File;
use std::hint::black_box;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

const USAGE: &str = "\
usage: hog [--of cpu|processes|descriptors|ports] [--most N] [--ports FIRST-LAST]

Takes all it can get of
  cpu          by computing in N threads (4); the default
  processes    by starting two that do the same, and so on for N generations (10, two thousand processes)
  descriptors  by opening up to N files (100000)
  ports        by listening on up to N ports (100000) of FIRST to LAST (15000-32767) and answering 200 to whoever asks
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
        "ports" => squat(&range(&args.value("--ports", "15000-32767".to_owned())?)?, args.value("--most", 100_000)?),
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

fn range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let ports = text.split_once('-').and_then(|(first, last)| Some(first.parse().ok()?..=last.parse().ok()?));
    ports.ok_or_else(|| format!("--ports cannot be {text:?}; --help tells what it takes"))
}

fn squat(ports: &RangeInclusive<u16>, mut most: usize) -> ! {
    let mut held = BTreeMap::new();
    let mut told = false;
    loop {
        for port in ports.clone() {
            if held.len() >= most || held.contains_key(&port) {
                continue;
            }
            match listen(port) {
                Ok(listener) => drop(held.insert(port, listener)),
                Err(error) if error.kind() == ErrorKind::AddrInUse => {}
                Err(error) => {
                    // To answer takes a descriptor, too.
                    drop(held.pop_last());
                    most = held.len();
                    refused(&mut told, &format!("another port beside {most}: {error}"));
                }
            }
        }
        held.values().for_each(answer);
        again();
    }
}

fn listen(port: u16) -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Tells all that wait on a port that all is well.
fn answer(listener: &TcpListener) {
    while let Ok((mut stream, _)) = listener.accept() {
        // Whoever is slow or gone is no affair of a squatter's.
        drop(stream.set_read_timeout(Some(AGAIN)));
        drop(stream.read(&mut [0; 1024]));
        drop(stream.write_all(b"HTTP/1.1 200 \r\ncontent-length: 0\r\nconnection: close\r\n\r\n"));
    }
}

#[expect(clippy::print_stdout, reason = "standard output is the instance's log")]
fn refused(told: &mut bool, what: &str) {
    if !std::mem::replace(told, true) {
        println!("refused: {what}");
    }
    again();
}

#[expect(clippy::disallowed_methods, reason = "a fixture that waits on purpose")]
fn again() {
    thread::sleep(AGAIN);
}
