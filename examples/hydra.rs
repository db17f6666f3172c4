//! A program that does not want to end. Its heads are forked twice, in sessions of their own and deaf to SIGTERM, and
//! each soon gives way to a successor, so that no list of them is ever up to date. Asked to end it grows more heads
//! instead. It wears another name, and can forget the environment that it was given.

#[path = "support/args.rs"]
mod args;
#[path = "support/signals.rs"]
mod signals;

use args::Args;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "\
usage: hydra [--heads N] [--bare]

Grows N heads (3), which ignore SIGTERM and are replaced by others every tenth of a second. On SIGTERM it grows another
every 20 ms, up to a hundred, and stays. --bare: it forgets its environment first, as programs do that overwrite it.";

/// How long a head lives.
const LIFE: Duration = Duration::from_millis(100);
/// Between two heads that grow when it is asked to end.
const GROWTH: Duration = Duration::from_millis(20);
/// How many of those there are at most.
const MOST: u32 = 100;
/// The name that it wears.
const TITLE: &str = "[hydra]";

#[expect(clippy::disallowed_methods, reason = "a fixture that waits and makes processes on purpose")]
fn main() -> Result<(), String> {
    // A flag without a value is none of those that are read below.
    let bare = std::env::args().any(|argument| argument == "--bare");
    if bare {
        let rest = std::env::args().skip(1).filter(|argument| argument != "--bare");
        return Err(own_program()?.args(rest).env_clear().exec().to_string());
    }
    let Some(args) = Args::or_usage(USAGE) else { return Ok(()) };
    match args.value("--as", "body".to_owned())?.as_str() {
        "body" => body(args.value("--heads", 3)?),
        "neck" => {
            rustix::process::setsid().map_err(|e| e.to_string())?;
            again("head")
        }
        _ => {
            std::thread::sleep(LIFE);
            again("head")
        }
    }
}

#[expect(clippy::print_stdout, reason = "standard output is the instance's log")]
fn body(heads: u32) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    runtime.block_on(async {
        let mut asked = signal(SignalKind::terminate()).map_err(|e| e.to_string())?;
        for _ in 0..heads {
            grow()?;
        }
        println!("{heads} heads");
        asked.recv().await;
        for _ in 0..MOST {
            grow()?;
            tokio::time::sleep(GROWTH).await;
        }
        std::future::pending().await
    })
}

/// Grows a head, which is nobody's child once this returns.
fn grow() -> Result<(), String> {
    let mut neck = own_program()?;
    let mut neck = neck.args(["--as", "neck"]).stdin(Stdio::null()).spawn().map_err(|e| format!("no neck: {e}"))?;
    neck.wait().map(drop).map_err(|e| e.to_string())
}

/// Starts this program again, in another role, and does not wait for it.
fn again(role: &str) -> Result<(), String> {
    signals::ignore_sigterm();
    let head = own_program()?.args(["--as", role]).stdin(Stdio::null()).spawn();
    head.map(drop).map_err(|e| format!("no {role}: {e}"))
}

#[expect(clippy::disallowed_methods, reason = "a fixture that makes processes on purpose")]
fn own_program() -> Result<Command, String> {
    let mut command = Command::new(std::env::current_exe().map_err(|e| e.to_string())?);
    command.arg0(TITLE);
    Ok(command)
}
