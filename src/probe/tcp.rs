//! A connection that is accepted is healthy.

use super::target::unanswered;
use crate::observed::ProbeOutcome;
use std::net::Ipv4Addr;
use tokio::net::TcpStream;

pub(super) async fn ask(port: u16) -> ProbeOutcome {
    let asked = format!("port {port}");
    match TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
        // A port of the ephemeral range that nobody listens on can be given to the connection itself, which then
        // reaches itself.
        Ok(stream) if stream.local_addr().ok() == stream.peer_addr().ok() => {
            ProbeOutcome::Failure(format!("{asked}: connection refused"))
        }
        Ok(_) => ProbeOutcome::Success,
        Err(error) => unanswered(&asked, &error),
    }
}
