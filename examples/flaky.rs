//! A service that is healthy at first and then fails, in the way it is told to: for watching restarts, backoff and the
//! circuit breaker.

#[path = "support/args.rs"]
mod args;
#[path = "support/http.rs"]
mod http;

use args::Args;
use rustix::process::{Signal, getpid, kill_process};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const USAGE: &str = "\
usage: flaky [--after-ms N] [--then exit|crash|unhealthy|hang] [--code N]

Serves /health on HEALTH_PORT with 200, and after N milliseconds (1000):
  exit        ends with --code (1); the default
  crash       ends by SIGKILL of its own
  unhealthy   goes on, and answers /health with 500
  hang        goes on, and answers nothing at all";

#[expect(clippy::disallowed_methods, reason = "a fixture that waits on purpose")]
fn main() -> Result<ExitCode, String> {
    let Some(args) = Args::or_usage(USAGE) else { return Ok(ExitCode::SUCCESS) };
    let after = Duration::from_millis(args.value("--after-ms", 1000)?);
    let then = args.value("--then", "exit".to_owned())?;
    let code: u8 = args.value("--code", 1)?;

    let sick = Arc::new(AtomicBool::new(false));
    let hung = then == "hang";
    let seen = Arc::clone(&sick);
    http::serve("HEALTH_PORT", move |_| match seen.load(Ordering::Relaxed) {
        false => (200, "text/plain", "ok\n".to_owned()),
        true if hung => loop {
            std::thread::park();
        },
        true => (500, "text/plain", "sick\n".to_owned()),
    })?;
    std::thread::sleep(after);
    match then.as_str() {
        "exit" => Ok(ExitCode::from(code)),
        "crash" => {
            kill_process(getpid(), Signal::KILL).map_err(|e| e.to_string())?;
            Err("still alive after SIGKILL".to_owned())
        }
        "unhealthy" | "hang" => {
            sick.store(true, Ordering::Relaxed);
            loop {
                std::thread::park();
            }
        }
        other => Err(format!("--then cannot be {other:?}; --help tells what it takes")),
    }
}
