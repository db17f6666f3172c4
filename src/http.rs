//! `/health`, `/ready`, `/metrics` and `/metrics.json` over HTTP, on TCP and on a unix socket.
//!
//! Deliberately absent: anything that changes something, and anything that a tenant configured or printed. Connections
//! are few, short and never kept open, so that no client can keep another out for long.

mod answer;
mod body;
mod hosts;

use crate::act::clock;
use crate::error::{Code, Error, Result};
use crate::health::Vitals;
use crate::metrics::Metrics;
use crate::socket::Door;
use answer::{Health, Listing, Readiness};
use body::{Encoding, Page};
use bytes::Bytes;
use hosts::{Hosts, Refusal};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::ALLOW;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use std::convert::Infallible;
use std::fs::File;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// The limits of each listener, so that clients of the one cannot keep out those of the other.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Connections served at once; a probe or two and a few people. More wait in the listener's queue.
    connections: usize,
    /// How long a client may take for its request's head.
    head: Duration,
    /// How long a connection may last in all.
    whole: Duration,
}

const LIMITS: Limits = Limits { connections: 64, head: Duration::from_secs(5), whole: Duration::from_secs(15) };
/// The largest head of a request; Prometheus sends some 300 bytes.
const HEAD_BYTES: usize = 16 << 10;
/// Headers of a request; a browser sends some twenty.
const HEADERS: usize = 64;
/// Answers that are as large as there are instances and are made at once: each takes a core for some time and megabytes
/// of memory.
const LARGE_AT_ONCE: usize = 2;
/// Between two attempts to accept when no file descriptor is left.
const PAUSE: Duration = Duration::from_millis(50);
/// What can be asked for.
const PATHS: [&str; 4] = ["/health", "/ready", "/metrics", "/metrics.json"];

/// What is listened on; dropping it closes.
#[derive(Debug)]
pub struct Listeners {
    tcp: Option<(TcpListener, SocketAddr)>,
    unix: Option<Arc<Door>>,
}

impl Listeners {
    /// Takes the address and the socket. The state lock must be held: a socket that is there is taken to be a dead
    /// launcher's.
    ///
    /// # Errors
    /// `INVALID_CONFIGURATION` when one of them cannot be listened on.
    pub async fn open(tcp: Option<SocketAddr>, socket: Option<PathBuf>) -> Result<Self> {
        let tcp = match tcp {
            Some(address) => Some(listen(address).await?),
            None => None,
        };
        let unix = match socket {
            Some(path) => Some(Arc::new(Door::open(path, "the socket for /metrics and /health cannot be made")?)),
            None => None,
        };
        Ok(Self { tcp, unix })
    }

    /// The unix socket.
    pub(crate) fn door(&self) -> Option<Arc<Door>> {
        self.unix.clone()
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr)> {
    let listening = async {
        let listener = TcpListener::bind(address).await?;
        let bound = listener.local_addr()?;
        Ok::<_, std::io::Error>((listener, bound))
    };
    listening.await.map_err(|cause| {
        Error::new(Code::InvalidConfiguration, "the HTTP address cannot be listened on")
            .with("address", address)
            .caused_by(&cause)
            .suggest(format!(
                "ss -ltnp 'sport = :{}' shows who has it; or give another --http-port, or --http-port off",
                address.port()
            ))
    })
}

/// The server. Dropping it ends it; [`Http::shutdown`] also removes its socket.
#[derive(Debug)]
pub struct Http {
    address: Option<SocketAddr>,
    door: Option<Arc<Door>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Http {
    /// Serves. `hosts` are names under which it may be asked for on a loopback address, in lower case.
    pub fn serve(listeners: Listeners, vitals: &Vitals, hosts: &[String]) -> Self {
        Self::serve_within(LIMITS, listeners, vitals, hosts)
    }

    fn serve_within(limits: Limits, listeners: Listeners, vitals: &Vitals, hosts: &[String]) -> Self {
        let Listeners { tcp, unix } = listeners;
        let large = Arc::new(Semaphore::new(LARGE_AT_ONCE));
        let desk = |hosts| Desk { vitals: vitals.clone(), hosts, large: Arc::clone(&large) };
        let address = tcp.as_ref().map(|(_, address)| *address);
        let door = unix.clone();
        let over_tcp = tcp.map(|(listener, address)| {
            let desk = Arc::new(desk(Hosts::of(address, hosts)));
            tokio::spawn(accept(limits, desk, async move || listener.accept().await.map(|(stream, _)| stream)))
        });
        let over_unix = unix.map(|door| {
            // No web page leads there.
            let desk = Arc::new(desk(None));
            tokio::spawn(accept(limits, desk, async move || door.accept().await))
        });
        Self { address, door, tasks: over_tcp.into_iter().chain(over_unix).collect() }
    }

    /// Where it listens on TCP.
    pub const fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Where its socket is.
    pub fn socket(&self) -> Option<&Path> {
        self.door.as_ref().map(|door| door.path())
    }

    /// Ends it without waiting for anybody.
    pub fn shutdown(self) {
        if let Some(door) = &self.door {
            door.remove();
        }
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// What answers are made from.
struct Desk {
    vitals: Vitals,
    /// Names that count; `None` when any does.
    hosts: Option<Hosts>,
    /// Who makes a large answer.
    large: Arc<Semaphore>,
}

async fn accept<S>(limits: Limits, desk: Arc<Desk>, mut next: impl AsyncFnMut() -> std::io::Result<S>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(limits.connections));
    let mut spare = Spare::open();
    loop {
        spare.renew();
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match next().await {
            Ok(stream) => {
                let desk = Arc::clone(&desk);
                tokio::spawn(async move {
                    connection(limits, stream, desk).await;
                    drop(slot);
                });
            }
            Err(error) if spare.is_needed(&error) => {
                // One after the other, so that whoever asks what is wrong hears it also now.
                spare.give_up();
                // The kernel says so also where nobody waits. What was given up is then taken back before it is another's.
                let mut waiting = pin!(next());
                let waits = poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context))).await;
                if let Poll::Ready(Ok(stream)) = waits {
                    connection(limits, stream, Arc::clone(&desk)).await;
                }
            }
            // The client went away, or no file descriptor is left: neither gets better by asking again at once.
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// A file descriptor that is kept for when none is left.
struct Spare(Option<File>);

impl Spare {
    fn open() -> Self {
        Self(File::open("/dev/null").ok())
    }

    /// Takes another one where somebody else was given it.
    fn renew(&mut self) {
        if self.0.is_none() {
            *self = Self::open();
        }
    }

    fn is_needed(&self, error: &std::io::Error) -> bool {
        self.0.is_some() && matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
    }

    fn give_up(&mut self) {
        drop(self.0.take());
    }
}

async fn connection(limits: Limits, stream: impl AsyncRead + AsyncWrite + Unpin, desk: Arc<Desk>) {
    let service = service_fn(move |request| {
        let desk = Arc::clone(&desk);
        async move { Ok::<_, Infallible>(respond(&request, &desk).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // A client that breaks off or is too slow has lost its answer, which concerns nobody else.
    drop(tokio::time::timeout(limits.whole, connection).await);
}

async fn respond(request: &Request<Incoming>, desk: &Desk) -> Response<Full<Bytes>> {
    let encoding = Encoding::accepted(request.headers());
    if let Some(Err(refusal)) = desk.hosts.as_ref().map(|hosts| hosts.check(request)) {
        return refused(&refusal).answer(encoding);
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let page = Page::json(StatusCode::METHOD_NOT_ALLOWED, &json!({ "error": "use GET or HEAD" }));
        return page.with(ALLOW, "GET, HEAD").answer(encoding);
    }
    match request.uri().path() {
        "/health" => {
            let query = request.uri().query().unwrap_or("");
            if query.split('&').any(|part| matches!(part, "processes=true" | "processes=1")) {
                return desk.large(encoding, |vitals| health(vitals, Listing::Full)).await;
            }
            health(&desk.vitals, Listing::Counts).answer(encoding)
        }
        "/ready" => {
            let readiness = Readiness::of(&desk.vitals);
            Page::json(status_of(readiness.ready), &readiness).answer(encoding)
        }
        "/metrics" => {
            let page = |vitals: &Vitals| {
                let text = vitals.measured(clock::now(), Metrics::prometheus);
                Page::new(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text.into_bytes())
            };
            desk.large(encoding, page).await
        }
        "/metrics.json" => {
            let page = |vitals: &Vitals| {
                let text = vitals.measured(clock::now(), Metrics::json);
                Page::new(StatusCode::OK, "application/json", text.into_bytes())
            };
            desk.large(encoding, page).await
        }
        _ => Page::json(StatusCode::NOT_FOUND, &json!({ "error": "no such path", "paths": PATHS })).answer(encoding),
    }
}

impl Desk {
    /// Makes an answer that is as large as there are instances, away from the tasks of the runtime.
    async fn large(&self, encoding: Encoding, page: fn(&Vitals) -> Page) -> Response<Full<Bytes>> {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.large).acquire_owned().await;
        let vitals = self.vitals.clone();
        let made = tokio::task::spawn_blocking(move || {
            let response = page(&vitals).answer(encoding);
            drop(permit);
            response
        });
        match made.await {
            Ok(response) => response,
            Err(_) => {
                Page::json(StatusCode::INTERNAL_SERVER_ERROR, &json!({ "error": "the answer could not be made" }))
                    .answer(encoding)
            }
        }
    }
}

fn health(vitals: &Vitals, listing: Listing) -> Page {
    let health = Health::of(vitals, clock::now(), listing);
    Page::json(status_of(health.healthy), &health)
}

fn refused(refusal: &Refusal) -> Page {
    match refusal {
        Refusal::Unclear => Page::json(
            StatusCode::BAD_REQUEST,
            &json!({ "error": "say once, in the header Host, by which name you ask" }),
        ),
        Refusal::Stranger(name) => Page::json(
            StatusCode::MISDIRECTED_REQUEST,
            &json!({
                "error": format!("'{}' is not a name of this server", Error::echo(name)),
                "suggestion": "ask by localhost or 127.0.0.1, or add the name to http_hosts in the launcher's configuration",
            }),
        ),
    }
}

const fn status_of(fine: bool) -> StatusCode {
    if fine { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

#[cfg(test)]
mod tests;
