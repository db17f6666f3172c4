//! Clients in other languages, generated from the contract alone.

use crate::world::World;
use std::process::{Command, Stdio};

/// Names a Python with grpcio, grpcio-tools and grpcio-reflection; `python3` is tried without it.
const PYTHON: &str = "PATTERN_LAUNCHER_TEST_PYTHON";

#[test]
#[expect(clippy::disallowed_methods, reason = "the client is a program of its own")]
fn a_client_in_python_lives_the_whole_life() {
    let python = std::env::var(PYTHON).unwrap_or_else(|_| "python3".to_owned());
    let has_grpc = Command::new(&python)
        .args(["-c", "import grpc, grpc_tools, grpc_reflection"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !has_grpc {
        let hint = "pip install grpcio grpcio-tools grpcio-reflection";
        // Where it is named it has to work: a test that is always left out proves nothing.
        assert!(std::env::var(PYTHON).is_err(), "{python} has no grpcio: {hint}");
        eprintln!("skipped: {python} has no grpcio, see {PYTHON}: {hint}");
        return;
    }
    let world = World::new();
    world.pattern("greeter", "hello", "healthcheck: { path: /health, interval: 1s }");
    let daemon = world.launch().flag("--grpc-port", "0").start();
    let log = daemon.log();
    let address = log
        .split("grpc=")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next())
        .expect("its address")
        .trim_matches('"');
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/life.py");
    let life = Command::new(&python)
        .args(["-B", script, address, "greeter"])
        .stdin(Stdio::null())
        .output()
        .expect("python can be run");
    let said = format!("{}{}", String::from_utf8_lossy(&life.stdout), String::from_utf8_lossy(&life.stderr));
    assert!(life.status.success(), "{said}\n{}", daemon.log());
    assert!(daemon.stop().success());
}
