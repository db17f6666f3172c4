//! What the examples of the library launch: this very example, run again as a small HTTP service.

use crate::http;
use serde_json::json;
use std::env;
use std::path::{Path, PathBuf};

/// The name of the pattern.
pub(crate) const PATTERN: &str = "greeter";
/// The argument that makes an example the service.
const SERVE: &str = "--serve";

/// Serves, and does not return, if this process is the service. Else whether the example is to be run: not when it was
/// asked for its usage, which is printed then.
#[expect(clippy::print_stdout, reason = "the usage text is what was asked for")]
pub(crate) fn is_wanted(usage: &str) -> bool {
    match env::args().nth(1).as_deref() {
        Some(SERVE) => serve(),
        Some(_) => println!("{usage}"),
        None => return true,
    }
    false
}

fn serve() {
    let answer = |path: &str| match path {
        "/health" => (200, "text/plain", "ok\n".to_owned()),
        _ => (
            200,
            "application/json",
            format!("{}\n", json!({ "for": given("PROCESS_ID"), "greeting": given("GREETING") })),
        ),
    };
    let served = ["GRPC_PORT", "HEALTH_PORT"].into_iter().try_for_each(|port| http::serve(port, answer).map(drop));
    assert_eq!(served, Ok(()), "the launcher gives ports that are free");
    loop {
        std::thread::park();
    }
}

/// Makes a folder of patterns below `folder`, with the one pattern [`PATTERN`].
pub(crate) fn patterns(folder: &Path) -> std::io::Result<PathBuf> {
    let patterns = folder.join("patterns");
    let own = patterns.join(PATTERN);
    std::fs::create_dir_all(&own)?;
    let executable = env::current_exe()?;
    std::fs::write(
        own.join("manifest.yaml"),
        format!(
            "name: {PATTERN}\nversion: 1.0.0\nexecutable: {}\nargs: [{SERVE}]\n\
             healthcheck: {{ type: http, path: /health, interval: 1s }}\n\
             environment: {{ GREETING: hello }}\nlifecycle: {{ grace_period: 2s }}\n",
            json!(executable)
        ),
    )?;
    Ok(patterns)
}

fn given(name: &str) -> String {
    env::var(name).unwrap_or_default()
}
