//! A gRPC server that answers what was prepared.

use crate::api::proto::pattern_launcher_server::{PatternLauncher, PatternLauncherServer};
use crate::api::proto::*;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tokio_stream::{Stream, iter};
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

type Answer<T> = Result<Response<T>, Status>;
type Listener = mpsc::Sender<Result<WatchEventsResponse, Status>>;

/// What the server knows and was asked.
#[derive(Debug, Default)]
struct Known {
    launches: Mutex<Vec<LaunchRequest>>,
    updates: Mutex<Vec<UpdateRequest>>,
    more: Mutex<Vec<String>>,
    lists: AtomicUsize,
    listeners: Mutex<Vec<Listener>>,
}

/// A server that ends with its test.
pub(super) struct Daemon {
    known: Arc<Known>,
    /// Where it listens.
    pub(super) address: String,
    _folder: tempfile::TempDir,
}

impl Daemon {
    pub(super) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("api.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let known = Arc::new(Known::default());
        let service = PatternLauncherServer::new(Service(Arc::clone(&known)));
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
        Self { known, address: format!("unix:{}", socket.display()), _folder: folder }
    }

    pub(super) fn launches(&self) -> Vec<LaunchRequest> {
        self.known.launches.lock().unwrap().clone()
    }

    pub(super) fn updates(&self) -> Vec<UpdateRequest> {
        self.known.updates.lock().unwrap().clone()
    }

    /// Waits until somebody listens to events.
    pub(super) async fn has_listeners(&self, count: usize) {
        let waiting = async {
            while self.known.listeners.lock().unwrap().len() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap();
    }

    /// Waits until it was asked for a list so many times.
    pub(super) async fn has_listed(&self, count: usize) {
        let waiting = async {
            while self.known.lists.load(Ordering::Relaxed) < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap();
    }

    pub(super) fn happen(&self, message: &str, missed: u64) {
        let event = Event {
            process_id: "ns:a:consumer".to_owned(),
            message: message.to_owned(),
            reason: "why".to_owned(),
            level: "info".to_owned(),
            time: "2026-01-01T00:00:00Z".to_owned(),
            ..Event::default()
        };
        for listener in self.known.listeners.lock().unwrap().iter() {
            listener.try_send(Ok(WatchEventsResponse { event: Some(event.clone()), missed })).unwrap();
        }
    }

    pub(super) fn end_streams(&self) {
        for listener in self.known.listeners.lock().unwrap().drain(..) {
            listener.try_send(Err(Status::unavailable("the launcher is ending"))).unwrap();
        }
    }

    pub(super) fn add_process(&self, pattern: &str) {
        self.known.more.lock().unwrap().push(pattern.to_owned());
    }
}

struct Service(Arc<Known>);

fn process(id: &str) -> PatternInfo {
    let pattern = id.rsplit(':').next().unwrap_or_default();
    PatternInfo {
        pattern_name: pattern.to_owned(),
        process_id: id.to_owned(),
        state: ProcessState::StateRunning.into(),
        healthy: pattern != "sick",
        pid: 4242,
        uptime_seconds: 61,
        isolation: IsolationLevel::IsolationNamespace.into(),
        ..PatternInfo::default()
    }
}

async fn slowly(id: &str) {
    if id.ends_with("slow") {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
}

#[tonic::async_trait]
impl PatternLauncher for Service {
    async fn launch_pattern(&self, request: Request<LaunchRequest>) -> Answer<LaunchResponse> {
        let request = request.into_inner();
        self.0.launches.lock().unwrap().push(request.clone());
        slowly(&request.pattern_name).await;
        if request.pattern_name == "unknown" {
            let metadata = [("patterns_dir", "./patterns"), ("pattern_name", "unknown")];
            let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned()));
            let details = ErrorDetails::with_error_info("PATTERN_NOT_FOUND", "prism.launcher", metadata);
            let text = "[PATTERN_NOT_FOUND] Pattern 'unknown' not found; Context: pattern_name=unknown, \
                        patterns_dir=./patterns; Suggestion: ls ./patterns";
            return Err(Status::with_error_details(Code::NotFound, text, details));
        }
        let healthy = request.pattern_name != "sick";
        Ok(Response::new(LaunchResponse {
            process_id: format!("ns:{}:{}", request.namespace, request.pattern_name),
            state: ProcessState::StateRunning.into(),
            address: "127.0.0.1:15000".to_owned(),
            healthy,
            error: String::new(),
            created: healthy,
            config_differs: !healthy,
        }))
    }

    async fn list_patterns(&self, request: Request<ListPatternsRequest>) -> Answer<ListPatternsResponse> {
        let state = request.into_inner().state;
        self.0.lists.fetch_add(1, Ordering::Relaxed);
        let more = self.0.more.lock().unwrap().clone();
        let names = ["consumer".to_owned(), "sick".to_owned()].into_iter().chain(more);
        let patterns: Vec<_> = names.map(|name| process(&format!("ns:a:{name}"))).collect();
        let total_count = i32::try_from(patterns.len()).unwrap();
        let wanted = patterns.into_iter().filter(|process| state == 0 || process.state == state).collect();
        Ok(Response::new(ListPatternsResponse { patterns: wanted, total_count }))
    }

    async fn terminate_pattern(&self, request: Request<TerminateRequest>) -> Answer<TerminateResponse> {
        let success = !request.into_inner().process_id.ends_with("stubborn");
        let error = "[TERMINATION_FAILED] its tree is still there; Suggestion: look at it";
        Ok(Response::new(TerminateResponse { success, error: if success { String::new() } else { error.to_owned() } }))
    }

    async fn health(&self, request: Request<HealthRequest>) -> Answer<HealthResponse> {
        let processes = if request.into_inner().include_processes { vec![process("ns:a:consumer")] } else { vec![] };
        let problems = vec!["the disk is full".to_owned()];
        Ok(Response::new(HealthResponse { processes, problems, total_processes: 1, ..HealthResponse::default() }))
    }

    async fn get_process_status(&self, request: Request<GetProcessStatusRequest>) -> Answer<GetProcessStatusResponse> {
        let id = request.into_inner().process_id;
        let not_found = id.ends_with("nobody");
        Ok(Response::new(GetProcessStatusResponse {
            process: (!not_found).then(|| process(&id)),
            not_found,
            last_lines: vec![],
        }))
    }

    async fn restart_pattern(&self, request: Request<RestartRequest>) -> Answer<RestartResponse> {
        let id = request.into_inner().process_id;
        slowly(&id).await;
        Ok(Response::new(RestartResponse { process: Some(process(&id)) }))
    }

    async fn reset_pattern(&self, request: Request<ResetRequest>) -> Answer<ResetResponse> {
        Ok(Response::new(ResetResponse { process: Some(process(&request.into_inner().process_id)) }))
    }

    async fn suspend_pattern(&self, request: Request<SuspendRequest>) -> Answer<SuspendResponse> {
        Ok(Response::new(SuspendResponse { process: Some(process(&request.into_inner().process_id)) }))
    }

    async fn resume_pattern(&self, request: Request<ResumeRequest>) -> Answer<ResumeResponse> {
        Ok(Response::new(ResumeResponse { process: Some(process(&request.into_inner().process_id)) }))
    }

    async fn update_pattern(&self, request: Request<UpdateRequest>) -> Answer<UpdateResponse> {
        let request = request.into_inner();
        let process = process(&request.process_id);
        self.0.updates.lock().unwrap().push(request);
        Ok(Response::new(UpdateResponse { process: Some(process) }))
    }

    async fn abandon_pattern(&self, _: Request<AbandonRequest>) -> Answer<AbandonResponse> {
        Ok(Response::new(AbandonResponse { abandoned: "pid 4242".to_owned() }))
    }

    async fn list_manifests(&self, request: Request<ListManifestsRequest>) -> Answer<ListManifestsResponse> {
        let wanted = request.into_inner().pattern_name;
        let consumer = Manifest {
            name: "consumer".to_owned(),
            version: "1.0.0".to_owned(),
            isolation: IsolationLevel::IsolationNamespace.into(),
            restart: "always".to_owned(),
            slots: vec![Slot { name: "storage".to_owned(), r#type: "postgres".to_owned(), required: true }],
            usable: true,
            ..Manifest::default()
        };
        let manifests = [consumer].into_iter().filter(|m| wanted.is_empty() || m.name == wanted).collect();
        Ok(Response::new(ListManifestsResponse { manifests }))
    }

    async fn explain_pattern(&self, request: Request<ExplainRequest>) -> Answer<ExplainResponse> {
        if request.into_inner().process_id.ends_with("nobody") {
            let line = "[PROCESS_NOT_FOUND] it is not there; Suggestion: prismctl pattern list".to_owned();
            return Ok(Response::new(ExplainResponse { lines: vec![line], ..ExplainResponse::default() }));
        }
        Err(Status::unimplemented(""))
    }

    type WatchEventsStream = ReceiverStream<Result<WatchEventsResponse, Status>>;

    async fn watch_events(&self, _: Request<WatchEventsRequest>) -> Answer<Self::WatchEventsStream> {
        let (sender, receiver) = mpsc::channel(16);
        self.0.listeners.lock().unwrap().push(sender);
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    type StreamLogsStream = Pin<Box<dyn Stream<Item = Result<StreamLogsResponse, Status>> + Send>>;

    async fn stream_logs(&self, _: Request<StreamLogsRequest>) -> Answer<Self::StreamLogsStream> {
        let parts = [b"one\n".to_vec(), b"\x1b[2Jtwo\xff\n".to_vec()];
        let parts = parts.into_iter().map(|data| Ok(StreamLogsResponse { data, missed: 0 }));
        Ok(Response::new(Box::pin(iter(parts))))
    }

    async fn plan(&self, request: Request<PlanRequest>) -> Answer<PlanResponse> {
        let action = |process_id: &str, action: &str| PlannedAction {
            process_id: process_id.to_owned(),
            action: action.to_owned(),
            reason: "because".to_owned(),
            differences: Vec::new(),
        };
        let mut actions = vec![action("ns:a:consumer", "none")];
        if request.into_inner().namespace != "calm" {
            actions.push(action("ns:a:new", "launch"));
        }
        Ok(Response::new(PlanResponse { actions }))
    }
}
