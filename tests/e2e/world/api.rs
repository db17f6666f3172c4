//! A client of the daemon's gRPC API.

use super::World;
use super::wait::SOON;
use pattern_launcher::api::proto;
use pattern_launcher::api::proto::pattern_launcher_client::PatternLauncherClient;
use std::path::Path;
use std::time::Duration;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt as _;

/// One connection, used from a test that is not asynchronous itself.
pub(crate) struct Client {
    runtime: Runtime,
    channel: Channel,
}

impl Client {
    /// Over the unix socket of a world's daemon.
    pub(crate) fn of(world: &World) -> Self {
        Self::to(&world.state().join("api.sock"))
    }

    /// Over a unix socket.
    pub(crate) fn to(socket: &Path) -> Self {
        Self::at(&format!("unix:{}", socket.display()))
    }

    /// Over whatever the address says.
    pub(crate) fn at(address: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let endpoint = Endpoint::from_shared(address.to_owned()).unwrap();
        let channel = runtime.block_on(endpoint.connect()).unwrap();
        Self { runtime, channel }
    }

    /// The connection itself, for other services.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// The generated client.
    pub(crate) fn stub(&self) -> PatternLauncherClient<Channel> {
        PatternLauncherClient::new(self.channel.clone())
    }

    /// Waits for something that must not take long.
    pub(crate) fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(async { tokio::time::timeout(SOON, work).await.expect("an answer in time") })
    }

    /// Lets something go on beside the test.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        let _entered = self.runtime.enter();
        tokio::spawn(work)
    }

    /// Launches, and waits.
    pub(crate) fn launch(&self, request: proto::LaunchRequest) -> Result<proto::LaunchResponse, Status> {
        let mut stub = self.stub();
        self.run(stub.launch_pattern(request)).map(Response::into_inner)
    }

    /// Launches with a deadline.
    pub(crate) fn launch_within(
        &self,
        limit: Duration,
        request: proto::LaunchRequest,
    ) -> Result<proto::LaunchResponse, Status> {
        let mut request = Request::new(request);
        request.set_timeout(limit);
        let mut stub = self.stub();
        self.run(stub.launch_pattern(request)).map(Response::into_inner)
    }

    /// Terminates with the instance's own grace period.
    pub(crate) fn terminate(&self, id: &str) -> Result<proto::TerminateResponse, Status> {
        let request = proto::TerminateRequest { process_id: id.to_owned(), ..Default::default() };
        let mut stub = self.stub();
        self.run(stub.terminate_pattern(request)).map(Response::into_inner)
    }

    /// Where a process stands; `None` when it is not found.
    pub(crate) fn status(&self, id: &str) -> Option<proto::PatternInfo> {
        let mut stub = self.stub();
        let request = proto::GetProcessStatusRequest { process_id: id.to_owned() };
        let response = self.run(stub.get_process_status(request)).unwrap().into_inner();
        assert_eq!(response.not_found, response.process.is_none());
        response.process
    }

    /// Lists what fits.
    pub(crate) fn list(&self, request: proto::ListPatternsRequest) -> proto::ListPatternsResponse {
        let mut stub = self.stub();
        self.run(stub.list_patterns(request)).unwrap().into_inner()
    }

    /// How the launcher is doing, with its processes.
    pub(crate) fn health(&self) -> proto::HealthResponse {
        let mut stub = self.stub();
        self.run(stub.health(proto::HealthRequest { include_processes: true })).unwrap().into_inner()
    }
}

/// A launch of a pattern for a namespace, at the manifest's level.
pub(crate) fn tenant(pattern: &str, namespace: &str) -> proto::LaunchRequest {
    proto::LaunchRequest { pattern_name: pattern.to_owned(), namespace: namespace.to_owned(), ..Default::default() }
}

/// Checks that a status is the launcher's own: its code, its reason, every part of its message, safe to print; gives its
/// suggestion.
pub(crate) fn refused(status: &Status, code: Code, reason: &str) -> String {
    let message = status.message();
    assert_eq!(status.code(), code, "{status:?}");
    assert!(message.starts_with(&format!("[{reason}] ")), "{message}");
    assert!(!message.chars().any(|c| c.is_control() && c != '\n'), "{message:?}");
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no details: {message}"));
    assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason, "pattern-launcher"));
    let suggestion = info.metadata.get("suggestion").unwrap_or_else(|| panic!("no suggestion: {message}"));
    assert!(message.contains(&format!("Suggestion: {suggestion}")), "{message}");
    suggestion.clone()
}
