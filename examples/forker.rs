//! A program that leaves daemons behind: each is forked twice, in a session of its own, and ignores SIGTERM. Killing
//! the process group does not reach them; killing the whole tree must.

#[path = "support/args.rs"]
mod args;
#[path = "support/signals.rs"]
mod signals;

use args::Args;
use std::process::{Command, Stdio};
use std::time::Duration;

const USAGE: &str = "\
usage: forker [--daemons N] [--seconds N]

Leaves N daemons (1) behind and stays itself for N seconds (86400); 0 seconds: it ends as soon as they run.
The daemons ignore SIGTERM and stay for a day.";

/// How long a daemon stays.
const DAY: Duration = Duration::from_secs(86_400);

#[expect(clippy::disallowed_methods, reason = "a fixture that waits and makes processes on purpose")]
#[expect(clippy::print_stdout, reason = "standard output is the instance's log")]
fn main() -> Result<(), String> {
    let Some(args) = Args::or_usage(USAGE) else { return Ok(()) };
    match args.value("--as", "main".to_owned())?.as_str() {
        "main" => {
            for _ in 0..args.value("--daemons", 1)? {
                // Waiting for the one between makes the daemon an orphan before this goes on.
                again("between")?.wait().map_err(|e| e.to_string())?;
            }
            println!("the daemons run");
            std::thread::sleep(Duration::from_secs(args.value("--seconds", 86_400)?));
        }
        "between" => {
            rustix::process::setsid().map_err(|e| e.to_string())?;
            signals::ignore_sigterm();
            again("daemon")?;
        }
        _ => std::thread::sleep(DAY),
    }
    Ok(())
}

/// Starts this program again, in another role.
#[expect(clippy::disallowed_methods, reason = "a fixture that makes processes on purpose")]
fn again(role: &str) -> Result<std::process::Child, String> {
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let child = Command::new(program).args(["--as", role]).stdin(Stdio::null()).spawn();
    child.map_err(|e| format!("cannot start the {role}: {e}"))
}
