//! The service: every method checks and converts what it is sent, asks [`Control`], and converts the answer.

mod fixed;
mod ours;
mod streams;

use super::proto::pattern_launcher_server::PatternLauncher;
use super::{proto, status};
use crate::control::Control;
use crate::error::{Code, Error};
use crate::health::Vitals;
use crate::model::{Caller, Key};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// Calls under way at once, most of them waiting for a process: each costs a few kilobytes.
const CALLS: usize = 4096;
/// Clients that watch events at once: people, and a few programs.
const WATCHERS: usize = 64;
/// Clients that read logs at once: each holds a file open, and a thread while it is read.
const READERS: usize = 32;
/// A call answers this much before its deadline, or a tenth of it, so that the client has the answer in time.
const MARGIN: Duration = Duration::from_millis(100);
/// No deadline is later; a client that wants to wait for longer asks again.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3_600);

/// What methods answer.
type Outcome<T> = Result<T, Status>;
type Answer<T> = Outcome<Response<T>>;
type Sent<T> = ReceiverStream<Outcome<T>>;

/// The launcher's service.
#[derive(Debug)]
pub struct Service {
    office: Arc<Office>,
}

/// What all calls have in common.
#[derive(Debug)]
struct Office {
    control: Control,
    vitals: Vitals,
    closing: CancellationToken,
    calls: Semaphore,
    watchers: Arc<Semaphore>,
    readers: Arc<Semaphore>,
}

impl Service {
    /// A service that asks `control`.
    pub fn new(control: Control, vitals: Vitals) -> Self {
        let closing = control.closing().child_token();
        let office = Office {
            control,
            vitals,
            closing,
            calls: Semaphore::new(CALLS),
            watchers: Arc::new(Semaphore::new(WATCHERS)),
            readers: Arc::new(Semaphore::new(READERS)),
        };
        Self { office: Arc::new(office) }
    }

    /// Done when calls are not served any more.
    pub(super) fn closing(&self) -> &CancellationToken {
        &self.office.closing
    }

    /// Serves one call. A client that goes away drops it, wherever it is waiting.
    async fn serve<Q, A, F>(&self, request: Request<Q>, method: impl FnOnce(Call, Q) -> F) -> Answer<A>
    where
        F: Future<Output = Outcome<A>>,
    {
        let closing = &self.office.closing;
        if closing.is_cancelled() {
            return Err(status::closing());
        }
        let Ok(_slot) = self.office.calls.try_acquire() else { return Err(status::crowded("calls", CALLS)) };
        let call = Call::new(Arc::clone(&self.office), &request)?;
        tokio::select! {
            biased;
            // Dropping a call ends its waiting and nothing else: what it asked for is the store's and the loop's.
            answer = method(call, request.into_inner()) => answer.map(Response::new),
            // Cancel-safe: a cancelled token stays cancelled.
            () = closing.cancelled() => Err(status::closing()),
        }
    }
}

/// One call.
#[derive(Debug)]
struct Call {
    office: Arc<Office>,
    caller: Caller,
    /// How long its client waits.
    left: Option<Duration>,
}

impl Call {
    fn new<Q>(office: Arc<Office>, request: &Request<Q>) -> Outcome<Self> {
        let Some(caller) = request.extensions().get::<Caller>().cloned() else {
            let error = Error::new(Code::InternalError, "a connection does not say whose it is");
            return Err(error.suggest("connect again").into());
        };
        let timeout = request.metadata().get("grpc-timeout").and_then(|value| value.to_str().ok());
        Ok(Self { office, caller, left: timeout.and_then(parse_timeout) })
    }

    fn control(&self) -> &Control {
        &self.office.control
    }

    /// The last lines of the run that failed last. A log that cannot be read must not hide the rest of an answer.
    async fn last_lines(&self, key: &Key) -> Vec<String> {
        self.control().last_lines(key).await.unwrap_or_default()
    }

    /// Does `work` for as long as the client waits; then says where the key stands, which is only then asked for.
    async fn in_time<T>(
        &self,
        key: impl FnOnce() -> Option<Key>,
        code: Code,
        work: impl Future<Output = Outcome<T>>,
    ) -> Outcome<T> {
        let Some(left) = self.left else { return work.await };
        let left = left.saturating_sub(MARGIN.min(left / 10));
        tokio::time::timeout(left, work).await.unwrap_or_else(|_| Err(self.late(key().as_ref(), code)))
    }

    fn late(&self, key: Option<&Key>, code: Code) -> Status {
        let status = key.and_then(|key| self.control().status(key));
        let error = match (key, &status) {
            (Some(key), Some(status)) => {
                let reached = status.state.as_str();
                let error = Error::new(code, format!("the deadline has passed, and '{key}' is {reached}"))
                    .with("process_id", key)
                    .with("state", reached);
                let error = match &status.last_error {
                    Some(last) => error.because(last.clone()),
                    None => error.because(status.verdict.reason.clone()),
                };
                let id = Error::word(key.as_str());
                error.suggest(format!("it goes on: prismctl pattern status {id}; give the call a later deadline"))
            }
            _ => Error::new(code, "the deadline has passed")
                .suggest("what was asked for goes on; ask again, with a later deadline"),
        };
        status::with_code(&error, tonic::Code::DeadlineExceeded)
    }
}

/// Reads a `grpc-timeout`: up to eight digits and a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let digits = text.len().checked_sub(1).filter(|digits| (1..=8).contains(digits) && text.is_ascii())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let timeout = match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    };
    Some(timeout.min(LONGEST_WAIT))
}

#[tonic::async_trait]
impl PatternLauncher for Service {
    type WatchEventsStream = Sent<proto::WatchEventsResponse>;
    type StreamLogsStream = Sent<proto::StreamLogsResponse>;

    async fn launch_pattern(&self, request: Request<proto::LaunchRequest>) -> Answer<proto::LaunchResponse> {
        self.serve(request, fixed::launch).await
    }

    async fn list_patterns(&self, request: Request<proto::ListPatternsRequest>) -> Answer<proto::ListPatternsResponse> {
        self.serve(request, fixed::list).await
    }

    async fn terminate_pattern(&self, request: Request<proto::TerminateRequest>) -> Answer<proto::TerminateResponse> {
        self.serve(request, fixed::terminate).await
    }

    async fn health(&self, request: Request<proto::HealthRequest>) -> Answer<proto::HealthResponse> {
        self.serve(request, fixed::health).await
    }

    async fn get_process_status(
        &self,
        request: Request<proto::GetProcessStatusRequest>,
    ) -> Answer<proto::GetProcessStatusResponse> {
        self.serve(request, fixed::process_status).await
    }

    async fn restart_pattern(&self, request: Request<proto::RestartRequest>) -> Answer<proto::RestartResponse> {
        self.serve(request, ours::restart).await
    }

    async fn reset_pattern(&self, request: Request<proto::ResetRequest>) -> Answer<proto::ResetResponse> {
        self.serve(request, ours::reset).await
    }

    async fn suspend_pattern(&self, request: Request<proto::SuspendRequest>) -> Answer<proto::SuspendResponse> {
        self.serve(request, ours::suspend).await
    }

    async fn resume_pattern(&self, request: Request<proto::ResumeRequest>) -> Answer<proto::ResumeResponse> {
        self.serve(request, ours::resume).await
    }

    async fn update_pattern(&self, request: Request<proto::UpdateRequest>) -> Answer<proto::UpdateResponse> {
        self.serve(request, ours::update).await
    }

    async fn abandon_pattern(&self, request: Request<proto::AbandonRequest>) -> Answer<proto::AbandonResponse> {
        self.serve(request, ours::abandon).await
    }

    async fn list_manifests(
        &self,
        request: Request<proto::ListManifestsRequest>,
    ) -> Answer<proto::ListManifestsResponse> {
        self.serve(request, ours::manifests).await
    }

    async fn explain_pattern(&self, request: Request<proto::ExplainRequest>) -> Answer<proto::ExplainResponse> {
        self.serve(request, ours::explain).await
    }

    async fn watch_events(&self, request: Request<proto::WatchEventsRequest>) -> Answer<Self::WatchEventsStream> {
        self.serve(request, streams::watch_events).await
    }

    async fn stream_logs(&self, request: Request<proto::StreamLogsRequest>) -> Answer<Self::StreamLogsStream> {
        self.serve(request, streams::stream_logs).await
    }

    async fn plan(&self, request: Request<proto::PlanRequest>) -> Answer<proto::PlanResponse> {
        self.serve(request, ours::plan).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        for (text, expected) in [
            ("5S", Some(Duration::from_secs(5))),
            ("250m", Some(Duration::from_millis(250))),
            ("1H", Some(Duration::from_secs(3_600))),
            ("99999999H", Some(LONGEST_WAIT)),
            ("7u", Some(Duration::from_micros(7))),
            ("0n", Some(Duration::ZERO)),
            ("", None),
            ("S", None),
            ("5", None),
            ("-5S", None),
            ("123456789S", None),
            ("5ß", None),
        ] {
            assert_eq!(parse_timeout(text), expected, "{text}");
        }
    }
}
