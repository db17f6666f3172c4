//! What one probe asks, put together once for a run.

use super::exec::{Command, ProbeChildren};
use super::{Probed, grpc, http, tcp};
use crate::model::units::format_duration;
use crate::model::{Environment, Mask, ProbeTarget, RunId, expand};
use crate::observed::ProbeOutcome;
use rustix::io::Errno;
use std::error::Error;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// Whom to ask, and how.
#[derive(Debug)]
pub(super) enum Target {
    Http { port: u16, path: String, target: String, mask: Mask },
    Tcp { port: u16 },
    Grpc { port: u16 },
    Exec(Command),
}

impl Target {
    pub(super) fn new(target: &ProbeTarget, probed: Probed, run: RunId, children: Arc<ProbeChildren>) -> Self {
        let Probed { instance, ports, inherited, confinement, mask, rightful: _ } = probed;
        let port = ports.health;
        match target {
            ProbeTarget::Http { path } => {
                Self::Http { port, path: path.clone(), target: http::request_target(path), mask }
            }
            ProbeTarget::Tcp => Self::Tcp { port },
            ProbeTarget::Grpc => Self::Grpc { port },
            ProbeTarget::Exec { command } => {
                let environment = Environment::of(&inherited, &instance, ports, run);
                let words = command.iter().map(|word| expand(word, &environment)).collect();
                Self::Exec(Command { words, environment, instance, confinement, children, mask })
            }
        }
    }

    /// Asks once. No answer within `timeout` is a failure.
    pub(super) async fn ask(&self, timeout: Duration) -> ProbeOutcome {
        let answer = pin!(async {
            match self {
                Self::Http { port, path, target, mask } => http::ask(*port, path, target, mask).await,
                Self::Tcp { port } => tcp::ask(*port).await,
                Self::Grpc { port } => grpc::ask(*port).await,
                Self::Exec(command) => command.ask().await,
            }
        });
        match tokio::time::timeout(timeout, answer).await {
            Ok(outcome) => outcome,
            Err(_) => ProbeOutcome::Failure(format!("{self} did not answer within {}", format_duration(timeout))),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Http { path, .. } => write!(f, "GET {path}"),
            Self::Tcp { port } => write!(f, "port {port}"),
            Self::Grpc { port } => write!(f, "grpc.health.v1 on port {port}"),
            Self::Exec(command) => write!(f, "{}", command.name()),
        }
    }
}

/// The outcome of a probe that came to no answer: an error when it is we who lack something, else a failure.
pub(super) fn unanswered(asked: &str, error: &(dyn Error + 'static)) -> ProbeOutcome {
    let mut causes = std::iter::successors(Some(error), |error| (*error).source());
    let io = causes.find_map(|cause| cause.downcast_ref::<io::Error>());
    match io {
        Some(io) if is_our_lack(io) => ProbeOutcome::Error(format!("{asked}: {io}")),
        Some(io) if io.kind() == io::ErrorKind::ConnectionRefused => {
            ProbeOutcome::Failure(format!("{asked}: connection refused"))
        }
        Some(io) => ProbeOutcome::Failure(format!("{asked}: {io}")),
        None => ProbeOutcome::Failure(format!("{asked}: {}", innermost(error))),
    }
}

/// Whether what failed is for want of descriptors, memory, processes or local ports of our own.
pub(super) fn is_our_lack(error: &io::Error) -> bool {
    let lacks = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS, Errno::AGAIN, Errno::ADDRNOTAVAIL];
    Errno::from_io_error(error).is_some_and(|errno| lacks.contains(&errno))
}

fn innermost(error: &(dyn Error + 'static)) -> String {
    let last = std::iter::successors(Some(error), |error| (*error).source()).last();
    last.map_or_else(String::new, ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_lack_of_something_is_no_failure_of_the_process() {
        let emfile = io::Error::other(io::Error::from(Errno::MFILE));
        let nested = crate::error::Error::new(crate::Code::InternalError, "x");
        assert!(matches!(unanswered("a", emfile.get_ref().expect("it has one")), ProbeOutcome::Error(_)));
        assert!(matches!(unanswered("a", &io::Error::from(Errno::CONNREFUSED)), ProbeOutcome::Failure(_)));
        assert!(matches!(unanswered("a", &nested), ProbeOutcome::Failure(_)));
    }
}
