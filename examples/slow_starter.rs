//! A service that takes its time before it is healthy: for `startup_timeout`, and for replacing one at a time.

#[path = "support/args.rs"]
mod args;
#[path = "support/http.rs"]
mod http;

use args::Args;
use std::time::Duration;

const USAGE: &str = "\
usage: slow_starter [--after-ms N]

Does nothing for N milliseconds (3000), then serves /health on HEALTH_PORT.";

#[expect(clippy::disallowed_methods, reason = "a fixture that waits on purpose")]
fn main() -> Result<(), String> {
    let Some(args) = Args::or_usage(USAGE) else { return Ok(()) };
    std::thread::sleep(Duration::from_millis(args.value("--after-ms", 3000)?));
    http::serve("HEALTH_PORT", |_| (200, "text/plain", "ok\n".to_owned()))?;
    loop {
        std::thread::park();
    }
}
