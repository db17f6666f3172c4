//! A connection that is accepted is healthy.

use super::target::unanswered;
use crate::observed::ProbeOutcome;
use std::io;
use std::net::Ipv4Addr;
use tokio::net::TcpStream;

pub(super) async fn ask(port: u16) -> ProbeOutcome {
    match connect(port).await {
        Ok(_) => ProbeOutcome::Success,
        Err(error) => unanswered(&format!("port {port}"), &error),
    }
}

/// Connects to a port of this machine.
pub(super) async fn connect(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    // A port of the ephemeral range that nobody listens on can be given to the connection itself, which then reaches
    // itself.
    if stream.local_addr()?.port() == port {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}
