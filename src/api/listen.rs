//! Where clients reach the API: a unix socket in the state folder, and TCP where it is configured.

use super::tls;
use crate::config::TlsFiles;
use crate::error::{Code, Error, Result};
use crate::model::Caller;
use crate::socket::Door;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::ServerTlsConfig;
use tonic::transport::server::Connected;

/// How long a client may take for its first byte. HTTP/2 clients speak first.
const FIRST_BYTE: Duration = Duration::from_secs(10);
/// How long a connection lasts in all; it was asked to close by [`super::server`] long before.
const LIFETIME: Duration = Duration::from_secs(2 * 3_600);

/// Listens; dropping it closes.
#[derive(Debug)]
pub struct Listeners {
    pub(super) unix: Option<Arc<Door>>,
    pub(super) tcp: Option<(TcpListener, SocketAddr)>,
    /// What TCP is encrypted with; the unix socket needs nothing.
    pub(super) tls: Option<ServerTlsConfig>,
}

impl Listeners {
    /// Takes the socket and the address. The state lock must be held: a socket that is there is taken to be a dead
    /// launcher's. `files` are for TCP.
    ///
    /// # Errors
    /// `INVALID_CONFIGURATION` when one of them cannot be listened on, or `files` cannot be used.
    pub async fn open(socket: Option<PathBuf>, tcp: Option<SocketAddr>, files: Option<&TlsFiles>) -> Result<Self> {
        let tls = files.filter(|_| tcp.is_some()).map(tls::load).transpose()?;
        let tcp = match tcp {
            Some(address) => Some(listen_tcp(address).await?),
            None => None,
        };
        let unix = match socket {
            Some(path) => Some(Arc::new(Door::open(path, "the API's socket cannot be made")?)),
            None => None,
        };
        Ok(Self { unix, tcp, tls })
    }

    /// The unix socket.
    pub(crate) fn door(&self) -> Option<Arc<Door>> {
        self.unix.clone()
    }

    /// Whether nothing is listened on.
    pub const fn is_empty(&self) -> bool {
        self.unix.is_none() && self.tcp.is_none()
    }
}

async fn listen_tcp(address: SocketAddr) -> Result<(TcpListener, SocketAddr)> {
    let listening = async {
        let listener = TcpListener::bind(address).await?;
        let bound = listener.local_addr()?;
        Ok::<_, std::io::Error>((listener, bound))
    };
    listening.await.map_err(|cause| {
        Error::new(Code::InvalidConfiguration, "the gRPC address cannot be listened on")
            .with("address", address)
            .caused_by(&cause)
            .suggest(format!(
                "ss -ltnp 'sport = :{}' shows who has it; or give another --grpc-port, or --grpc-port off",
                address.port()
            ))
    })
}

/// Either kind of connection.
#[derive(Debug)]
enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// A client's connection. It holds a slot, and breaks off when its time is over or all are cut.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    caller: Caller,
    time: Pin<Box<Sleep>>,
    has_spoken: bool,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    _slot: OwnedSemaphorePermit,
}

impl Connection {
    /// A connection over the unix socket; the kernel says who it is.
    pub(super) fn unix(
        stream: UnixStream,
        slot: OwnedSemaphorePermit,
        cut: CancellationToken,
    ) -> std::io::Result<Self> {
        let peer = stream.peer_cred()?;
        let caller = Caller::Peer { uid: peer.uid(), pid: peer.pid() };
        Ok(Self::new(Stream::Unix(stream), caller, slot, cut))
    }

    /// A connection over TCP, encrypted or not.
    pub(super) fn tcp(
        stream: TcpStream,
        from: SocketAddr,
        slot: OwnedSemaphorePermit,
        cut: CancellationToken,
    ) -> std::io::Result<Self> {
        // Answers are small and awaited.
        stream.set_nodelay(true)?;
        Ok(Self::new(Stream::Tcp(stream), Caller::Remote(from), slot, cut))
    }

    fn new(stream: Stream, caller: Caller, slot: OwnedSemaphorePermit, cut: CancellationToken) -> Self {
        Self {
            stream,
            caller,
            time: Box::pin(tokio::time::sleep(FIRST_BYTE)),
            has_spoken: false,
            cut: Box::pin(cut.cancelled_owned()),
            _slot: slot,
        }
    }

    /// Why the connection breaks off now, if it does.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Error> {
        if self.cut.as_mut().poll(cx).is_ready() || self.time.as_mut().poll(cx).is_ready() {
            return Poll::Ready(std::io::ErrorKind::ConnectionAborted.into());
        }
        Poll::Pending
    }

    fn note_spoken(&mut self, bytes: usize) {
        if bytes > 0 && !self.has_spoken {
            self.has_spoken = true;
            self.time = Box::pin(tokio::time::sleep(LIFETIME));
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        if let Poll::Ready(error) = self.poll_end(cx) {
            return Poll::Ready(Err(error));
        }
        let before = buf.filled().len();
        let read = match &mut self.stream {
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        self.note_spoken(buf.filled().len() - before);
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        match &mut self.stream {
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        match &mut self.stream {
            Stream::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match &mut self.stream {
            Stream::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match &mut self.stream {
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_is_taken_is_refused_by_name() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let error = Listeners::open(None, Some(address), None).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidConfiguration);
        assert_eq!(error.context_value("address"), Some(address.to_string().as_str()));
    }
}
