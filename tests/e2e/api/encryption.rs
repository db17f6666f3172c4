//! TLS on the TCP listener: who gets in, who does not, and what either is told.

use crate::world::command::{finished, program};
use crate::world::{Daemon, Launch, Prismctl, World};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

/// Makes a certificate for itself, of `localhost` and 127.0.0.1, and gives it and its key; `None` without `openssl`.
fn certificate(world: &World, name: &str) -> Option<(String, String)> {
    let path = |end: &str| world.root().join(format!("{name}.{end}")).to_str().unwrap().to_owned();
    let (cert, key) = (path("cert.pem"), path("key.pem"));
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let openssl: Option<PathBuf> =
        std::env::split_paths(&paths).map(|folder| folder.join("openssl")).find(|path| path.exists());
    let Some(openssl) = openssl else {
        eprintln!("skipped: certificates are made by openssl, which is not here");
        return None;
    };
    let words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
                 -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE";
    let mut command = program(openssl);
    command
        .args(words.split_whitespace())
        .arg("-subj")
        .arg(format!("/CN={name}"))
        .args(["-keyout", &key, "-out", &cert]);
    let made = finished(&mut command, &world.root());
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Some((cert, key))
}

/// A daemon with TLS that is about to be started.
fn with_tls<'a>(world: &'a World, (cert, key): &(String, String)) -> Launch<'a> {
    world.launch().flag("--grpc-port", "0").flag("--grpc-tls-cert", cert).flag("--grpc-tls-key", key)
}

/// Where the daemon says it listens on TCP.
fn address(daemon: &Daemon) -> String {
    let log = daemon.log();
    let address = log.split("grpc=").nth(1).and_then(|rest| rest.split_whitespace().next());
    address.unwrap_or_else(|| panic!("no address: {log}")).trim_matches('"').to_owned()
}

#[test]
fn a_daemon_with_a_certificate_is_believed_by_whoever_knows_it() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    let (Some(own), Some(other)) = (certificate(&world, "own"), certificate(&world, "other")) else { return };
    let daemon = with_tls(&world, &own).start();
    let address = address(&daemon);
    let port = address.strip_prefix("https://127.0.0.1:").unwrap();
    let prismctl = Prismctl::at(&world, &address);

    prismctl.done(&format!("pattern launch sleeper --namespace a --ca {}", own.0));
    let status = prismctl.json(&format!("pattern status ns:a:sleeper --ca {}", own.0));
    assert!(status["asked_by"].as_str().unwrap().starts_with("127.0.0.1:"), "{status}");
    let named = Prismctl::at(&world, &format!("https://localhost:{port}"));
    named.done(&format!("health --ca {}", own.0));

    let unnamed = prismctl.refused("health", 4);
    assert!(unnamed.err.contains("--ca FILE"), "{}", unnamed.err);
    let wrong = prismctl.refused(&format!("health --ca {}", other.0), 4);
    assert!(wrong.err.contains("UnknownIssuer") && wrong.err.contains("give --ca"), "{}", wrong.err);
    let absent = prismctl.refused("health --ca absent.pem", 2);
    assert!(absent.err.contains("file: absent.pem"), "{}", absent.err);

    let plain = Prismctl::at(&world, &format!("127.0.0.1:{port}")).refused("health", 4);
    assert!(plain.err.contains(&format!("--address https://127.0.0.1:{port}")), "{}", plain.err);
    // The socket is as it was: the kernel says who is there.
    Prismctl::of(&world).done("health");
    assert!(daemon.stop().success());
}

#[test]
fn who_says_nothing_or_nonsense_holds_nobody_up() {
    let world = World::new();
    let Some(own) = certificate(&world, "own") else { return };
    let daemon = with_tls(&world, &own).start();
    let address = address(&daemon);
    let connect = || TcpStream::connect(address.strip_prefix("https://").unwrap()).unwrap();
    let silent: Vec<TcpStream> = (0..20).map(|_| connect()).collect();
    // The beginning of a handshake that does not go on.
    let mut halves: Vec<TcpStream> = (0..20).map(|_| connect()).collect();
    for half in &mut halves {
        half.write_all(&[0x16, 3, 1, 2, 0, 1]).unwrap();
    }
    let mut plain = connect();
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    plain.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut said = Vec::new();
    // It may be reset before all was read.
    drop(plain.read_to_end(&mut said));
    assert!(said.first().is_none_or(|kind| *kind == 0x15), "only an alert of TLS: {said:?}");
    Prismctl::at(&world, &address).done(&format!("health --ca {}", own.0));
    assert!(daemon.stop().success());
    drop((silent, halves));
}

#[test]
fn only_clients_with_a_certificate_get_in_where_that_is_asked() {
    let world = World::new();
    let (Some(own), Some(client)) = (certificate(&world, "own"), certificate(&world, "client")) else { return };
    let daemon = with_tls(&world, &own).flag("--grpc-tls-client-ca", &client.0).start();
    let prismctl = Prismctl::at(&world, &address(&daemon));
    prismctl.done(&format!("health --ca {} --cert {} --key {}", own.0, client.0, client.1));
    let without = prismctl.refused(&format!("health --ca {}", own.0), 4);
    assert!(without.err.contains("--cert and --key"), "{}", without.err);
    let another = prismctl.refused(&format!("health --ca {} --cert {} --key {}", own.0, own.0, own.1), 4);
    assert!(another.err.contains("--cert and --key"), "{}", another.err);
    let half = prismctl.refused(&format!("health --ca {} --cert {}", own.0, client.0), 2);
    assert!(half.err.contains("PRISMCTL_KEY"), "{}", half.err);
}

#[test]
fn tls_opens_a_network_and_wrong_files_open_nothing() {
    let world = World::new();
    let (Some(own), Some(other)) = (certificate(&world, "own"), certificate(&world, "other")) else { return };
    let daemon = with_tls(&world, &own).flag("--grpc-listen", "0.0.0.0").start();
    let port = address(&daemon).strip_prefix("https://0.0.0.0:").unwrap().to_owned();
    let reached = Prismctl::at(&world, &format!("https://127.0.0.1:{port}"));
    reached.done(&format!("health --ca {}", own.0));
    // An address that the certificate is not for.
    let wrong =
        Prismctl::at(&world, &format!("https://127.0.0.2:{port}")).refused(&format!("health --ca {}", own.0), 4);
    assert!(wrong.err.contains("subjectAltName"), "{}", wrong.err);
    assert!(daemon.stop().success());

    let refused = |files: (String, String), wanted: &[&str]| {
        let output = with_tls(&world, &files).output(&["run"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("INVALID_CONFIGURATION"), "{said}");
        assert!(wanted.iter().all(|wanted| said.contains(wanted)), "{said}");
    };
    refused((own.0.clone(), other.1), &["grpc_tls_cert, grpc_tls_key", "-pubkey"]);
    refused((own.0.clone(), own.0.clone()), &["grpc_tls_key", &own.0]);
    refused(("absent.pem".to_owned(), own.1), &["grpc_tls_cert", "absent.pem"]);
}
