//! What happens when the machine is in trouble: nothing that runs is ended, it can be seen, and it heals by itself.

mod clock;
mod descriptors;
mod disk;
mod pids;
mod probes;
mod reuse;
mod sleep;
mod spawner;

use crate::world::api::Client;
use crate::world::{Daemon, wait_for};
use pattern_launcher::api::proto::ProcessState;

/// Waits until `/health` answers 503 and says `what`.
fn unhealthy(daemon: &Daemon, what: &str) {
    wait_for(&format!("/health says '{what}'"), || {
        daemon.get("/health").filter(|(code, body)| *code == 503 && body.contains(what)).map(drop)
    });
}

/// Waits until `/health` answers 200.
fn healthy(daemon: &Daemon) {
    wait_for("/health is 200 again", || daemon.get("/health").filter(|(code, _)| *code == 200));
}

/// Waits until a start is put off for want of something that is named by `what`, and checks that it counts as nothing.
/// The status file may be the very thing that cannot be written, so the API is asked.
fn put_off(client: &Client, id: &str, what: &str) {
    wait_for(&format!("the start of {id} is put off for '{what}'"), || {
        let status = client.status(id)?;
        assert!(!status.last_error.contains("MAX_ERRORS_EXCEEDED"), "{}", status.last_error);
        (status.state() == ProcessState::StateStarting && status.last_error.contains(what)).then_some(())
    });
}
