//! A small HTTP service: the program behind `patterns/hello`, and the shortest example of what a pattern looks like.
//!
//! It listens on the two ports that the launcher gives it and says who it is. Try it by hand:
//! `HEALTH_PORT=8081 GRPC_PORT=8082 cargo run --example hello`, then `curl http://127.0.0.1:8082/`.

#[path = "support/args.rs"]
mod args;
#[path = "support/http.rs"]
mod http;

use args::Args;
use http::Answer;
use serde_json::json;
use std::env;

const USAGE: &str = "\
usage: hello [--greeting TEXT]

Serves HTTP on 127.0.0.1, on the ports in HEALTH_PORT and GRPC_PORT; on any free port where one is not set.
  /health   200 ok: what the launcher asks
  /         which process this is, as JSON";

#[expect(clippy::print_stdout, reason = "standard output is the instance's log")]
fn main() -> Result<(), String> {
    let Some(args) = Args::or_usage(USAGE) else { return Ok(()) };
    let greeting = args.value("--greeting", "hello".to_owned())?;
    let again = greeting.clone();
    let service = http::serve("GRPC_PORT", move |path| answer(path, &again))?;
    let health = http::serve("HEALTH_PORT", move |path| answer(path, &greeting))?;
    println!("{} serves on port {service}, its health on port {health}", given("PROCESS_ID"));
    loop {
        // SIGTERM ends the process, as it does any program that does nothing about it.
        std::thread::park();
    }
}

fn answer(path: &str, greeting: &str) -> Answer {
    match path {
        "/health" => (200, "text/plain", "ok\n".to_owned()),
        "/" => {
            let who = json!({
                "greeting": greeting,
                "pattern": given("PATTERN_NAME"),
                "namespace": given("NAMESPACE"),
                "session": given("SESSION_ID"),
                "process_id": given("PROCESS_ID"),
                "run_id": given("RUN_ID"),
                "pid": std::process::id(),
            });
            (200, "application/json", format!("{who}\n"))
        }
        _ => (404, "text/plain", "not found\n".to_owned()),
    }
}

/// A variable of the environment; empty where it is not set.
fn given(name: &str) -> String {
    env::var(name).unwrap_or_default()
}
