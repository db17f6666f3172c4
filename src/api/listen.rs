//! Where clients reach the API: a unix socket in the state folder, and TCP where it is configured.

use super::tls;
use crate::config::TlsFiles;
use crate::error::{Code, Error, Result};
use crate::model::Caller;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::ServerTlsConfig;
use tonic::transport::server::Connected;

/// What the socket is called until it is ready; as long as `api.sock`, so that the one path is as good as the other.
const UNREADY: &str = ".api.new";
/// The owner and the group may connect.
const MODE: u32 = 0o660;
/// The longest path of a socket: `sun_path` without its final NUL.
const PATH_LIMIT: usize = 107;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;
/// How long a client may take for its first byte. HTTP/2 clients speak first.
const FIRST_BYTE: Duration = Duration::from_secs(10);
/// How long a connection lasts in all; it was asked to close by [`super::server`] long before.
const LIFETIME: Duration = Duration::from_secs(2 * 3_600);

/// Listens; dropping it closes.
#[derive(Debug)]
pub struct Listeners {
    pub(super) unix: Option<(UnixListener, PathBuf)>,
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
            Some(path) => Some((listen_unix(&path)?, path)),
            None => None,
        };
        Ok(Self { unix, tcp, tls })
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

fn listen_unix(path: &Path) -> Result<UnixListener> {
    let shown = path.display();
    let unusable = || Error::new(Code::InvalidConfiguration, "the API's socket cannot be made").with("path", shown);
    if path.as_os_str().len() > PATH_LIMIT {
        let length = path.as_os_str().len();
        return Err(unusable()
            .because(format!("the path has {length} bytes, and the kernel allows {PATH_LIMIT}"))
            .suggest("give --state-dir a shorter path; a relative one counts as it is written"));
    }
    bind(path).map_err(|cause| {
        unusable().caused_by(&cause).suggest(format!(
            "the launcher must be able to write in {}, on a file system that has sockets",
            path.parent().unwrap_or(path).display()
        ))
    })
}

/// Nobody can connect before the mode is set: until it listens, the kernel refuses.
fn bind(path: &Path) -> std::io::Result<UnixListener> {
    let unready = path.with_file_name(UNREADY);
    match std::fs::remove_file(&unready) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(&unready)?)?;
    std::fs::set_permissions(&unready, std::fs::Permissions::from_mode(MODE))?;
    rustix::net::listen(&socket, BACKLOG)?;
    std::fs::rename(&unready, path)?;
    UnixListener::from_std(StdUnixListener::from(socket))
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
    use crate::config::SOCKET;
    use std::os::unix::fs::FileTypeExt as _;

    #[tokio::test]
    async fn the_socket_is_for_owner_and_group_and_replaces_one_that_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(SOCKET);
        drop(listen_unix(&path).unwrap());
        assert!(UnixStream::connect(&path).await.is_err(), "nobody listens any more");
        let listeners = Listeners::open(Some(path.clone()), None, None).await.unwrap();
        let metadata = std::fs::metadata(&path).unwrap();
        assert!(metadata.file_type().is_socket());
        assert_eq!(metadata.permissions().mode() & 0o777, MODE);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let (listener, _) = listeners.unix.as_ref().unwrap();
        let (client, accepted) = tokio::join!(UnixStream::connect(&path), listener.accept());
        let _client = client.unwrap();
        assert_eq!(accepted.unwrap().0.peer_cred().unwrap().uid(), rustix::process::getuid().as_raw());
    }

    #[tokio::test]
    async fn a_path_that_is_too_long_is_refused_with_the_way_out() {
        let folder = tempfile::tempdir().unwrap().path().join("x".repeat(100));
        let error = Listeners::open(Some(folder.join(SOCKET)), None, None).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidConfiguration);
        assert!(error.suggestion().unwrap().contains("--state-dir"), "{error}");
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_refused_by_name() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let error = Listeners::open(None, Some(address), None).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidConfiguration);
        assert_eq!(error.context_value("address"), Some(address.to_string().as_str()));
    }
}
