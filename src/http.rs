//! `/health`, `/ready`, `/metrics` and `/metrics.json` over HTTP.
//!
//! Deliberately absent: anything that changes something. Connections are few, short and never kept open, so that no
//! client can keep another out for long.

use crate::act::clock;
use crate::error::{Code, Error, Result};
use crate::health::{Vitals, distribution};
use crate::metrics::Metrics;
use crate::model::{KeyStatus, Moment, ProcessState};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Connections served at once; a probe or two and a few people. More wait in the listener's queue.
const CONNECTIONS: usize = 64;
/// How long a client may take for its request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may last in all.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(15);
/// What can be asked for.
const PATHS: [&str; 4] = ["/health", "/ready", "/metrics", "/metrics.json"];

/// Takes the address.
///
/// # Errors
/// `INVALID_CONFIGURATION` when it cannot be listened on.
pub async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|cause| {
        Error::new(Code::InvalidConfiguration, "the HTTP address cannot be listened on")
            .with("address", address)
            .caused_by(&cause)
            .suggest(format!(
                "ss -ltnp 'sport = :{}' shows who has it; or give another --http-port, or --http-port off",
                address.port()
            ))
    })
}

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, vitals: Vitals) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let vitals = vitals.clone();
                tokio::spawn(async move {
                    connection(stream, vitals).await;
                    drop(slot);
                });
            }
            // The client went away, or no file descriptor is left: neither gets better by asking again at once.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn connection(stream: TcpStream, vitals: Vitals) {
    let service = service_fn(move |request| {
        let answer = respond(&request, &vitals, clock::now());
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // A client that breaks off or is too slow has lost its answer, which concerns nobody else.
    drop(tokio::time::timeout(CONNECTION_TIMEOUT, connection).await);
}

fn respond(request: &Request<Incoming>, vitals: &Vitals, now: Moment) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refusal = answer(StatusCode::METHOD_NOT_ALLOWED, &json!({ "error": "use GET or HEAD" }));
        refusal.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    match request.uri().path() {
        "/health" => {
            let query = request.uri().query().unwrap_or("");
            let listing = query.split('&').any(|part| matches!(part, "processes=true" | "processes=1"));
            let health = Health::of(vitals, now, if listing { Listing::Full } else { Listing::Counts });
            answer(status_of(health.healthy), &health)
        }
        "/ready" => {
            let readiness = Readiness::of(vitals);
            answer(status_of(readiness.ready), &readiness)
        }
        "/metrics" => {
            let text = vitals.measured(now, Metrics::prometheus);
            written(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text.into_bytes())
        }
        "/metrics.json" => {
            let snapshot = vitals.measured(now, Metrics::snapshot);
            written(StatusCode::OK, "application/json", snapshot.json().into_bytes())
        }
        _ => answer(StatusCode::NOT_FOUND, &json!({ "error": "no such path", "paths": PATHS })),
    }
}

const fn status_of(fine: bool) -> StatusCode {
    if fine { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn answer(status: StatusCode, body: &impl Serialize) -> Response<Full<Bytes>> {
    let mut text = serde_json::to_vec(body).unwrap_or_default();
    text.push(b'\n');
    written(status, "application/json", text)
}

fn written(status: StatusCode, kind: &'static str, text: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, hyper::header::HeaderValue::from_static("no-store"));
    response
}

/// Whether each process is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listing {
    Full,
    Counts,
}

/// How the launcher itself is doing; how a tenant's process is doing never makes it unhealthy.
#[derive(Debug, Serialize)]
struct Health {
    healthy: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
    total_processes: usize,
    running_processes: usize,
    terminating_processes: usize,
    failed_processes: usize,
    isolation_distribution: BTreeMap<&'static str, usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    processes: Option<Vec<Process>>,
    uptime_seconds: u64,
}

impl Health {
    fn of(vitals: &Vitals, now: Moment, listing: Listing) -> Self {
        let statuses = vitals.board.statuses();
        let in_state = |state| statuses.iter().filter(|status| status.state == state).count();
        let isolation_distribution = distribution(&statuses);
        let reasons = vitals.problems(now);
        let processes = (listing == Listing::Full).then(|| {
            let mut all: Vec<Process> = statuses.iter().map(|status| Process::of(status, now)).collect();
            all.sort_by(|a, b| a.id.cmp(&b.id));
            all
        });
        Self {
            healthy: reasons.is_empty(),
            reasons,
            total_processes: statuses.len(),
            running_processes: in_state(ProcessState::Running),
            terminating_processes: in_state(ProcessState::Terminating),
            failed_processes: in_state(ProcessState::Failed),
            isolation_distribution,
            processes,
            uptime_seconds: vitals.board.uptime(now).as_secs(),
        }
    }
}

/// One process, as the API lists it.
#[derive(Debug, Serialize)]
struct Process {
    pattern_name: String,
    #[serde(rename = "process_id")]
    id: String,
    state: ProcessState,
    address: String,
    healthy: bool,
    uptime_seconds: u64,
    namespace: String,
    session_id: String,
    last_error: String,
    error_count: u32,
    restart_count: u32,
    pid: i32,
}

impl Process {
    fn of(status: &KeyStatus, now: Moment) -> Self {
        Self {
            pattern_name: status.pattern_name.clone(),
            id: status.process_id.as_str().to_owned(),
            state: status.state,
            address: status.address.clone().unwrap_or_default(),
            healthy: status.healthy,
            uptime_seconds: status.uptime(now).unwrap_or_default().as_secs(),
            namespace: status.namespace.clone(),
            session_id: status.session_id.clone(),
            last_error: status.last_error.clone().unwrap_or_default(),
            error_count: status.error_count,
            restart_count: status.restart_count,
            pid: status.pid.unwrap_or(0),
        }
    }
}

/// Whether the launcher knows everything it needs to decide.
#[derive(Debug, Serialize)]
struct Readiness {
    ready: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    waiting_for: Vec<String>,
}

impl Readiness {
    fn of(vitals: &Vitals) -> Self {
        let waiting_for = vitals.waiting_for();
        Self { ready: waiting_for.is_empty(), waiting_for }
    }
}

#[cfg(test)]
mod tests;
