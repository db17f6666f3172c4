//! A service that is healthy at first and then answers in a way that keeps whoever asks busy: for watching health probes
//! that come to no end.

#[path = "support/args.rs"]
mod args;

use args::Args;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const USAGE: &str = "\
usage: tarpit [--after-ms N] [--then silence|backlog|drip|head|body]

Serves anything on HEALTH_PORT with 200, and after N milliseconds (1000):
  silence  accepts, and says nothing; the default
  backlog  accepts nobody, and lets the queue of those who wait fill up
  drip     says one byte a second
  head     begins an answer whose head has no end
  body     answers 200, with a body that has no end";

/// An answer that has an end.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

#[expect(clippy::disallowed_methods, reason = "a fixture that waits on purpose")]
fn main() -> Result<(), String> {
    let Some(args) = Args::or_usage(USAGE) else { return Ok(()) };
    let after = Duration::from_millis(args.value("--after-ms", 1000)?);
    let then = args.value("--then", "silence".to_owned())?;
    let port: u16 = std::env::var("HEALTH_PORT").map_or(Ok(0), |port| port.parse().map_err(|_| port))?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|e| format!("cannot listen: {e}"))?;
    let turned = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&turned);
    let way = then.clone();
    let again = listener.try_clone().map_err(|e| e.to_string())?;
    thread::spawn(move || {
        for stream in again.incoming().flatten() {
            let way = if seen.load(Ordering::Relaxed) { way.clone() } else { String::new() };
            if way == "backlog" {
                // This one was in `accept` when it turned; nobody is accepted any more.
                loop {
                    thread::park();
                }
            }
            // A client that went away, or a thread that could not be had, concerns nobody else.
            drop(thread::Builder::new().spawn(move || answer(stream, &way)));
        }
    });
    thread::sleep(after);
    turned.store(true, Ordering::Relaxed);
    if then == "backlog" {
        // A queue of one. Whoever else knocks gets no answer from the kernel.
        rustix::net::listen(&listener, 0).map_err(|e| e.to_string())?;
        let address = listener.local_addr().map_err(|e| e.to_string())?;
        let _waiting: Vec<TcpStream> =
            (0..4).filter_map(|_| TcpStream::connect_timeout(&address, after).ok()).collect();
        loop {
            thread::park();
        }
    }
    loop {
        thread::park();
    }
}

#[expect(clippy::disallowed_methods, reason = "a fixture that waits on purpose")]
fn answer(mut stream: TcpStream, way: &str) -> std::io::Result<()> {
    // Whatever is asked; a connection that is closed at once, as a tcp probe does, asks nothing.
    if stream.read(&mut [0; 1024])? == 0 {
        return Ok(());
    }
    match way {
        "" => return stream.write_all(ANSWER),
        "drip" => {
            for byte in ANSWER {
                stream.write_all(&[*byte])?;
                thread::sleep(Duration::from_secs(1));
            }
        }
        "head" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
            loop {
                stream.write_all(b"x-more: x\r\n")?;
                thread::sleep(Duration::from_millis(10));
            }
        }
        "body" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
            loop {
                stream.write_all(b"1\r\nx\r\n")?;
                thread::sleep(Duration::from_millis(1));
            }
        }
        _ => {}
    }
    // Until whoever asks has had enough.
    std::io::copy(&mut stream, &mut std::io::sink()).map(drop)
}
