//! What clients ask for while everything else happens.

use super::{Client, model};
use crate::world::World;
use pattern_launcher::api::proto::{LaunchRequest, RestartRequest, TerminateRequest};
use std::collections::BTreeSet;
use tokio::task::JoinHandle;
use tonic::{Response, Status};

/// Something that a client asked for, about one key.
#[derive(Debug, Clone)]
pub(super) enum Asked {
    /// To launch it, saying this.
    Launch { id: String, content: u32 },
    /// To end it.
    Terminate { id: String },
    /// To restart it.
    Restart,
}

/// Calls under way, at most one for each key.
pub(super) struct Calls {
    client: Client,
    open: Vec<(Asked, JoinHandle<Result<(), Status>>)>,
    busy: BTreeSet<String>,
}

impl Calls {
    pub(super) fn to(world: &World) -> Self {
        Self { client: Client::of(world), open: Vec::new(), busy: BTreeSet::new() }
    }

    /// Whether a call about this key is under way.
    pub(super) fn about(&self, id: &str) -> bool {
        self.busy.contains(id)
    }

    pub(super) fn launch(&mut self, id: &str, content: u32) {
        let mut stub = self.client.stub();
        let request = LaunchRequest {
            pattern_name: model::PATTERN.to_owned(),
            namespace: model::namespace(id).to_owned(),
            config: model::config(id, content).into_iter().collect(),
            ..Default::default()
        };
        let call = self.client.spawn(async move { stub.launch_pattern(request).await.map(drop::<Response<_>>) });
        self.busy.insert(id.to_owned());
        self.open.push((Asked::Launch { id: id.to_owned(), content }, call));
    }

    pub(super) fn terminate(&mut self, id: &str) {
        let mut stub = self.client.stub();
        let request = TerminateRequest { process_id: id.to_owned(), ..Default::default() };
        let call = self.client.spawn(async move {
            let ended = stub.terminate_pattern(request).await?.into_inner();
            if ended.success { Ok(()) } else { Err(Status::internal(ended.error)) }
        });
        self.busy.insert(id.to_owned());
        self.open.push((Asked::Terminate { id: id.to_owned() }, call));
    }

    pub(super) fn restart(&mut self, id: &str) {
        let mut stub = self.client.stub();
        let request = RestartRequest { process_id: id.to_owned(), ..Default::default() };
        let call = self.client.spawn(async move { stub.restart_pattern(request).await.map(drop::<Response<_>>) });
        self.busy.insert(id.to_owned());
        self.open.push((Asked::Restart, call));
    }

    /// Waits for what becomes of each.
    pub(super) fn end(self) -> Vec<(Asked, Result<(), Status>)> {
        let Self { client, open, busy: _ } = self;
        open.into_iter().map(|(asked, call)| (asked, client.run(call).unwrap())).collect()
    }
}
