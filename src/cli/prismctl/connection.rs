//! The connection to the daemon.

use super::address::Address;
use super::failure::{Failure, Result, Told, UNREACHABLE};
use super::trust::{self, Trust};
use crate::api::proto::pattern_launcher_client::PatternLauncherClient;
use hyper_util::rt::TokioIo;
use std::error::Error as _;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tonic::codegen::Service;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

/// How long a connection may take to come about.
const CONNECTING: Duration = Duration::from_secs(5);
/// How long the answer to a question may take, which the daemon has at hand.
const ASKING: Duration = Duration::from_secs(10);
/// How often a daemon that has nothing to say is asked whether it is alive, and how long that may take.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(20));
/// The largest answer that is read: some ten thousand processes, each with all there is to say about it.
const ANSWER: usize = 64 << 20;

/// A connection to a daemon.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    client: PatternLauncherClient<Channel>,
    address: Address,
    timeout: Option<Duration>,
}

impl Connection {
    /// Connects; `trust` is for addresses with TLS.
    pub(super) async fn open(address: Address, trust: &Trust, timeout: Option<Duration>) -> Result<Self> {
        let endpoint = endpoint(&address, trust)?
            .connect_timeout(timeout.map_or(CONNECTING, |timeout| timeout.min(CONNECTING)))
            .http2_keep_alive_interval(KEEP_ALIVE.0)
            .keep_alive_timeout(KEEP_ALIVE.1)
            .user_agent(concat!("prismctl/", env!("CARGO_PKG_VERSION")))
            .map_err(|cause| Told::new(UNREACHABLE, cause.to_string()))?;
        let channel = endpoint.connect_with_connector(Connector(address.clone())).await;
        let channel = channel.map_err(|cause| unreachable(&address, &cause))?;
        let client = PatternLauncherClient::new(channel).max_decoding_message_size(ANSWER);
        Ok(Self { client, address, timeout })
    }

    /// The generated client.
    pub(super) fn client(&self) -> PatternLauncherClient<Channel> {
        self.client.clone()
    }

    /// A request whose answer is at hand.
    pub(super) fn asking<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout.unwrap_or(ASKING));
        request
    }

    /// A request that takes as long as it takes, unless the user is in a hurry.
    pub(super) fn waiting<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(timeout) = self.timeout {
            request.set_timeout(timeout);
        }
        request
    }

    /// The answer, or what to tell about its absence.
    pub(super) fn answer<T>(&self, answer: std::result::Result<Response<T>, Status>) -> Result<T> {
        answer.map(Response::into_inner).map_err(|status| self.failed(&status))
    }

    /// What to tell about a refusal.
    pub(super) fn failed(&self, status: &Status) -> Failure {
        let told = Told::from_status(status, &self.address.to_string());
        match &self.address {
            // The first thing a daemon with TLS does with a client that has none, or shows no certificate, is hang up.
            Address::Tcp { is_encrypted, .. } if told.exit == UNREACHABLE => {
                told.suggest(trust::after_loss(&self.address, *is_encrypted)).into()
            }
            Address::Tcp { .. } | Address::Unix(_) => told.into(),
        }
    }
}

/// What is connected to; the name in it counts only where the address has TLS.
fn endpoint(address: &Address, trust: &Trust) -> Result<Endpoint> {
    match address {
        Address::Tcp { host, is_encrypted: true, .. } => {
            let tls = trust.config(host, address)?;
            let endpoint = Endpoint::from_static("https://localhost").tls_config(tls);
            Ok(endpoint.map_err(|cause| trust.unusable(&cause))?)
        }
        Address::Tcp { .. } | Address::Unix(_) => Ok(Endpoint::from_static("http://localhost")),
    }
}

fn unreachable(address: &Address, cause: &tonic::transport::Error) -> Told {
    let mut reason = io_error(cause).map_or_else(|| deepest(cause), ToString::to_string);
    let kind = io_error(cause).map(io::Error::kind);
    let suggestion = match (address, kind) {
        (Address::Unix(path), Some(io::ErrorKind::PermissionDenied)) => {
            format!("run prismctl as the daemon's user, or as a member of the group that owns {}", path.display())
        }
        (Address::Unix(_), Some(io::ErrorKind::ConnectionRefused)) => {
            reason.push_str("; the daemon that made the socket is gone");
            "start the daemon again with `pattern-launcher run`, with the settings it had".to_owned()
        }
        (Address::Tcp { is_encrypted: true, .. }, Some(io::ErrorKind::InvalidData)) => {
            trust::after_refusal(address, &reason)
        }
        _ => "see whether the daemon runs, start it with `pattern-launcher run`, or name where it listens: --address \
              unix:PATH, HOST:PORT or https://HOST:PORT, also in PRISMCTL_ADDRESS"
            .to_owned(),
    };
    Told::new(UNREACHABLE, format!("the daemon cannot be reached at {address}")).because(reason).suggest(suggestion)
}

/// The error of the operating system that is behind it, if there is one.
fn io_error(error: &tonic::transport::Error) -> Option<&io::Error> {
    let mut next = error.source();
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<io::Error>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

fn deepest(error: &tonic::transport::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = error.to_string();
        next = error.source();
    }
    text
}

/// Bytes to and from a daemon.
trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// Opens connections to one address, whatever the URI says.
struct Connector(Address);

impl Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Bytes>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let address = self.0.clone();
        Box::pin(async move {
            let stream: Box<dyn Bytes> = match address {
                Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
                Address::Tcp { host, port, .. } => {
                    let stream = TcpStream::connect((host, port)).await?;
                    stream.set_nodelay(true)?;
                    Box::new(stream)
                }
            };
            Ok(TokioIo::new(stream))
        })
    }
}
