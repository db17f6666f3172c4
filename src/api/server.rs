//! The gRPC server over all listeners: its limits, its health and reflection services, and its end.

use super::listen::{Connection, Listeners};
use super::proto;
use super::proto::pattern_launcher_server::PatternLauncherServer;
use super::service::Service;
use crate::error::{Code, Error, Result};
use crate::health::Vitals;
use crate::socket::Door;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::Router;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// Connections served at once by each listener, so that clients of the one cannot keep out those of the other. A client
/// holds one; more wait in the listener's queue. Their file descriptors are a quarter of the usual limit of 1,024.
const CONNECTIONS: usize = 256;
/// Calls under way on one connection; more wait with the client.
const STREAMS: u32 = 1024;
/// The largest request: config and slots have at most 28 KiB each, and 4 MiB is what clients can send by default.
const REQUEST_BYTES: usize = 4 << 20;
/// The largest answer: ten thousand instances are some 6 MiB.
const ANSWER_BYTES: usize = 16 << 20;
/// What the headers of a request may take; a few hundred bytes are usual.
const HEADER_BYTES: u32 = 16 << 10;
/// After this long a client is asked to connect anew; what is under way goes on.
const AGE: Duration = Duration::from_secs(3_600);
/// How often a connection on which nothing is heard is tried, and how long it may be silent then.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// How often the health services look whether the launcher is ready.
const HEALTH_INTERVAL: Duration = Duration::from_millis(250);
/// How long answers may take to reach their clients at the end, before connections are cut.
const GOODBYE: Duration = Duration::from_secs(2);
/// Between two attempts to accept when no file descriptor is left.
const PAUSE: Duration = Duration::from_millis(50);
/// The service's name, as health probes ask for it.
const NAME: &str = "prism.launcher.PatternLauncher";

/// Where the API is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses {
    /// The unix socket.
    pub socket: Option<PathBuf>,
    /// TCP.
    pub tcp: Option<SocketAddr>,
}

/// The API, being served. Dropping it ends it without waiting for anything.
#[derive(Debug)]
pub struct Api {
    addresses: Addresses,
    door: Option<Arc<Door>>,
    closing: CancellationToken,
    cut: CancellationToken,
    watching: JoinHandle<()>,
    served: JoinHandle<()>,
}

/// Serves `service` on `listeners`, until that is ended or the launcher begins to end.
///
/// # Errors
/// `INTERNAL_ERROR` when the description of the API that is built in cannot be read, `INVALID_CONFIGURATION` when the
/// certificate cannot be used.
pub async fn serve(listeners: Listeners, service: Service, vitals: Vitals) -> Result<Api> {
    let Listeners { unix, tcp, tls } = listeners;
    let addresses = Addresses {
        socket: unix.as_ref().map(|door| door.path().to_owned()),
        tcp: tcp.as_ref().map(|(_, address)| *address),
    };
    let closing = service.closing().clone();
    let cut = CancellationToken::new();
    let (reporter, health) = tonic_health::server::health_reporter();
    report(&reporter, ServingStatus::NotServing).await;
    let (v1, v1alpha) = (reflection().build_v1(), reflection().build_v1alpha());
    let launcher = PatternLauncherServer::new(service)
        .max_decoding_message_size(REQUEST_BYTES)
        .max_encoding_message_size(ANSWER_BYTES);
    let routes = Routes::new(launcher)
        .add_service(health)
        .add_service(v1.map_err(|cause| undescribed(&cause))?)
        .add_service(v1alpha.map_err(|cause| undescribed(&cause))?);
    // Each listener has a server of its own, since only what comes over TCP is encrypted.
    let mut over_network = match tls {
        Some(tls) => limited().tls_config(tls).map_err(|cause| unencrypted(&cause))?,
        None => limited(),
    };

    // Connections are handed on one at a time: a queue here would only hide the listener's.
    let (over_unix, from_unix) = mpsc::channel(1);
    let (over_tcp, from_tcp) = mpsc::channel(1);
    let door = unix.clone();
    if let Some(door) = unix {
        tokio::spawn(until(closing.clone(), accept_unix(door, over_unix, cut.clone())));
    }
    if let Some((listener, _)) = tcp {
        tokio::spawn(until(closing.clone(), accept_tcp(listener, over_tcp, cut.clone())));
    }
    let unix = answer(limited().add_routes(routes.clone()), from_unix, closing.clone());
    let tcp = answer(over_network.add_routes(routes), from_tcp, closing.clone());
    let served = tokio::spawn(async move {
        tokio::join!(unix, tcp);
    });
    let watching = tokio::spawn(watch(reporter, vitals, closing.clone()));
    Ok(Api { addresses, door, closing, cut, watching, served })
}

impl Api {
    /// Where it is reached.
    pub const fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Refuses what is new, ends what waits with UNAVAILABLE, and returns when every client has its answer or has had
    /// time for it.
    pub async fn shutdown(mut self) {
        self.closing.cancel();
        if tokio::time::timeout(GOODBYE, &mut self.served).await.is_err() {
            self.cut.cancel();
            drop(tokio::time::timeout(GOODBYE, &mut self.served).await);
        }
        self.watching.abort();
        if let Some(door) = &self.door {
            door.remove();
        }
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.closing.cancel();
        self.cut.cancel();
    }
}

/// A server with the limits of every listener.
fn limited() -> Server {
    Server::builder()
        .max_concurrent_streams(STREAMS)
        .max_connection_age(AGE)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_header_list_size(HEADER_BYTES)
}

/// Serves what comes in until the end, or until nothing can come any more.
async fn answer(router: Router, incoming: mpsc::Receiver<Accepted>, closing: CancellationToken) {
    let (connections, signal) = (ReceiverStream::new(incoming), closing.cancelled_owned());
    if let Err(error) = router.serve_with_incoming_shutdown(connections, signal).await {
        tracing::error!(%error, "the gRPC API has ended, which is a defect");
    }
}

async fn until(end: CancellationToken, work: impl Future<Output = ()>) {
    tokio::select! {
        // Cancel-safe: a cancelled token stays cancelled.
        () = end.cancelled() => {}
        // A connection that is being accepted is lost, and its client connects to nobody.
        () = work => {}
    }
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTOR)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

fn undescribed(cause: &dyn std::error::Error) -> Error {
    Error::new(Code::InternalError, "the description of the API cannot be read")
        .caused_by(cause)
        .suggest("build the launcher anew from unchanged sources")
}

fn unencrypted(cause: &dyn std::error::Error) -> Error {
    Error::new(Code::InvalidConfiguration, "the certificate of the gRPC API cannot be used")
        .with("setting", "grpc_tls_cert")
        .caused_by(cause)
        .suggest("give grpc_tls_cert and grpc_tls_key a certificate and its key, as PEM files")
}

async fn report(reporter: &HealthReporter, status: ServingStatus) {
    for name in ["", NAME] {
        reporter.set_service_status(name, status).await;
    }
}

/// Keeps the health services at what `/ready` says, until the end; then those who watch them are told and let go.
async fn watch(mut reporter: HealthReporter, vitals: Vitals, closing: CancellationToken) {
    let mut told = ServingStatus::NotServing;
    let mut interval = tokio::time::interval(HEALTH_INTERVAL);
    while !closing.is_cancelled() {
        let ready = vitals.waiting_for().is_empty();
        let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        if status != told {
            report(&reporter, status).await;
            told = status;
        }
        tokio::select! {
            // An interval keeps its next tick when it is not waited for.
            _ = interval.tick() => {}
            // Cancel-safe: a cancelled token stays cancelled.
            () = closing.cancelled() => {}
        }
    }
    report(&reporter, ServingStatus::NotServing).await;
    // A stream that is let go sends what it has been told before it ends.
    for name in ["", NAME] {
        reporter.clear_service_status(name).await;
    }
}

type Accepted = std::io::Result<Connection>;

async fn accept_unix(door: Arc<Door>, to: mpsc::Sender<Accepted>, cut: CancellationToken) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    while let Some(slot) = vacancy(&slots).await {
        let accepted = match door.accept().await {
            Ok(stream) => Connection::unix(stream, slot, cut.clone()),
            Err(error) => Err(error),
        };
        if pass_on(accepted, &to).await.is_err() {
            return;
        }
    }
}

async fn accept_tcp(listener: TcpListener, to: mpsc::Sender<Accepted>, cut: CancellationToken) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    while let Some(slot) = vacancy(&slots).await {
        let accepted = match listener.accept().await {
            Ok((stream, from)) => Connection::tcp(stream, from, slot, cut.clone()),
            Err(error) => Err(error),
        };
        if pass_on(accepted, &to).await.is_err() {
            return;
        }
    }
}

async fn vacancy(slots: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    Arc::clone(slots).acquire_owned().await.ok()
}

/// Hands a connection to the server, which may have ended. A client that went away at once concerns nobody, and when
/// no file descriptor is left, asking again at once makes nothing better.
async fn pass_on(accepted: Accepted, to: &mpsc::Sender<Accepted>) -> Result<(), mpsc::error::SendError<Accepted>> {
    if accepted.is_err() {
        tokio::time::sleep(PAUSE).await;
        return Ok(());
    }
    to.send(accepted).await
}
