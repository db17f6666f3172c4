//! The smallest HTTP server that a health probe and a browser are content with: `GET`, one answer per connection.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// The longest request head that is read.
const HEAD_LIMIT: usize = 8 * 1024;
/// How long a client may take to send its head, or to read its answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A status code, a content type and a body.
pub(crate) type Answer = (u16, &'static str, String);

/// Listens on the port that the environment variable `variable` names, on 127.0.0.1; any free port without it.
/// Answers each request with what `answer` says to its path, from now on, in threads of its own. Returns the port.
pub(crate) fn serve(variable: &str, answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Result<u16, String> {
    let wanted = std::env::var(variable).unwrap_or_else(|_| "0".to_owned());
    let port: u16 = wanted.parse().map_err(|_| format!("{variable} is no port: {wanted:?}"))?;
    let listener = TcpListener::bind(("127.0.0.1", port)).map_err(|e| format!("cannot listen on {port}: {e}"))?;
    let port = listener.local_addr().map_err(|e| e.to_string())?.port();
    let answer = Arc::new(answer);
    thread::spawn(move || {
        // One thread per connection, so that a client that dawdles does not keep the health probe waiting.
        for stream in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            // A client that went away, or a thread that could not be had, concerns nobody else.
            drop(thread::Builder::new().spawn(move || reply(stream, answer.as_ref())));
        }
    });
    Ok(port)
}

/// Reads one request head and answers it.
fn reply(mut stream: TcpStream, answer: &dyn Fn(&str) -> Answer) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut head = Vec::new();
    let mut chunk = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let count = stream.read(&mut chunk)?;
        if count == 0 || head.len() + count > HEAD_LIMIT {
            return Ok(());
        }
        head.extend_from_slice(chunk.get(..count).unwrap_or_default());
    }
    let head = String::from_utf8_lossy(&head);
    let path = head.split_whitespace().nth(1).unwrap_or("/");
    let (status, kind, body) = answer(path);
    write!(
        stream,
        "HTTP/1.1 {status} \r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}
