//! Who listens on the ports of a run: its own tree, or somebody who was quicker.
//!
//! What is told is told for certain. In a cgroup whatever is not in it is a stranger; without one only what is older than
//! the run, since the rest may descend from it in ways that cannot be seen. What cannot be looked at, such as a
//! network namespace of its own or the descriptors of another user's process, is nobody's fault.

use super::cgroup::RunCgroup;
use super::identity::{ProcessStat, environment_value};
use super::shared::Shared;
use super::sockets::{self, Listener};
use crate::model::{Key, Ports, ProcessIdentity, RunId};
use crate::plan::squatting::{Owner, Reach, answers};
use crate::probe::Rightful;
use std::collections::HashSet;
use std::sync::Arc;
use tokio::runtime::Handle;

/// The processes of a run.
#[derive(Debug, Clone)]
pub(crate) struct Members {
    /// The main one.
    pub(crate) main: ProcessIdentity,
    /// Where all of them are, on a machine that has cgroups.
    pub(crate) cgroup: Option<RunCgroup>,
    /// What their environments say.
    pub(crate) run: RunId,
}

/// Asks whether it is this run that listens on its ports.
pub(super) fn rightful(shared: &Arc<Shared>, key: &Key, run: RunId, ports: Ports) -> Rightful {
    let (shared, namespace) = (Arc::clone(shared), key.namespace().to_owned());
    // Where it is asked, on the thread of the probes, nothing may block, and no thread for that may be lacking.
    let runtime = Handle::current();
    Rightful::new(move || {
        let (shared, namespace) = (Arc::clone(&shared), namespace.clone());
        let asked = runtime.spawn(async move {
            let members = shared.meters.members(run)?;
            shared.blocking(&namespace, move || squatter(&members, ports)).await
        });
        // An error is the runtime's own end.
        Box::pin(async move { asked.await.unwrap_or_default() })
    })
}

/// In words, which port of a run is answered by somebody else, and by whom; `None` when it is the run itself, nobody, or
/// cannot be told.
fn squatter(members: &Members, ports: Ports) -> Option<String> {
    let promised = [("HEALTH_PORT", ports.health), ("GRPC_PORT", ports.grpc)];
    let listeners: Vec<Listener> = promised.iter().flat_map(|(_, port)| sockets::listening(Some(*port))).collect();
    if listeners.is_empty() {
        return None;
    }
    let own: HashSet<u64> = members.pids().into_iter().filter_map(sockets::of).flatten().collect();
    for (name, port) in promised {
        let owners: Vec<(Reach, Owner)> = listeners
            .iter()
            .filter(|listener| listener.port == port)
            .filter_map(|listener| {
                let reach = listener.reach?;
                let is_own = own.contains(&listener.inode);
                Some((reach, if is_own { Owner::Own } else { members.owner(listener.inode) }))
            })
            .collect();
        match answers(&owners) {
            Some(Owner::Stranger(Some(pid))) => {
                return Some(format!("{name} {port} is held by pid {pid}, which is none of its processes"));
            }
            Some(Owner::Stranger(None)) => {
                return Some(format!("{name} {port} is held by a process that cannot be told and is none of its own"));
            }
            Some(Owner::Unknown) => tracing::debug!(port, "who listens on a port of a run cannot be told"),
            Some(Owner::Own) | None => {}
        }
    }
    None
}

impl Members {
    fn pids(&self) -> Vec<i32> {
        let listed = self.cgroup.as_ref().and_then(|cgroup| cgroup.processes().ok());
        listed.map_or_else(|| vec![self.main.pid], |pids| pids.into_iter().collect())
    }

    /// Whose a socket is that none of the members had when they were looked at.
    fn owner(&self, inode: u64) -> Owner {
        let Some(pid) = sockets::holder(|all| all.contains(&inode)) else {
            // Its holder is another user's and we may not look, or it has just closed it.
            return Owner::Unknown;
        };
        if let Some(cgroup) = &self.cgroup {
            return match cgroup.processes() {
                // It may have come to be since.
                Ok(pids) if pids.contains(&pid) => Owner::Own,
                Ok(_) => Owner::Stranger(Some(pid)),
                Err(_) => Owner::Unknown,
            };
        }
        match ProcessStat::read(pid) {
            Ok(stat) if pid == self.main.pid || stat.session == self.main.pid => Owner::Own,
            Ok(_) if environment_value(pid, "RUN_ID").is_some_and(|run| run == self.run.to_string()) => Owner::Own,
            Ok(stat) if stat.start_time < self.main.start_time => Owner::Stranger(Some(pid)),
            Ok(_) | Err(_) => Owner::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::act::clock;
    use std::net::TcpListener;

    fn members(pid: i32, start_time: u64) -> Members {
        let main = ProcessIdentity {
            pid,
            start_time,
            boot: clock::now().boot,
            cgroup: None,
            confinement: crate::model::Confinement::default(),
        };
        Members { main, cgroup: None, run: RunId::from_random(1) }
    }

    fn own_pid() -> i32 {
        rustix::process::getpid().as_raw_nonzero().get()
    }

    #[test]
    fn a_listener_of_the_run_is_its_own_and_an_older_process_is_named() {
        for address in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0", "[::ffff:127.0.0.1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                eprintln!("skipped: this machine cannot listen on {address}");
                continue;
            };
            let port = listener.local_addr().expect("an address").port();
            let ports = Ports { grpc: 1, health: port };
            assert_eq!(squatter(&members(own_pid(), 0), ports), None, "{address}");
            // Of a run whose main process is not there, and which began later than this one.
            let told = squatter(&members(i32::MAX, u64::MAX), ports).expect(address);
            assert_eq!(
                told,
                format!("HEALTH_PORT {port} is held by pid {}, which is none of its processes", own_pid())
            );
            let grpc = squatter(&members(i32::MAX, u64::MAX), Ports { grpc: port, health: 1 }).expect(address);
            assert!(grpc.starts_with(&format!("GRPC_PORT {port}")), "{grpc}");
            // What is younger may descend from it.
            assert_eq!(squatter(&members(i32::MAX, 0), ports), None, "{address}");
        }
    }

    #[test]
    fn where_nobody_listens_nobody_squats() {
        let listener = TcpListener::bind("[::1]:0");
        let port = listener.as_ref().map_or(1, |listener| listener.local_addr().expect("an address").port());
        assert_eq!(squatter(&members(i32::MAX, u64::MAX), Ports { grpc: port, health: port }), None);
    }

    /// A socket that listens on some port of ours, by what it is found under.
    fn listening() -> (TcpListener, u16, u64) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let found = sockets::listening(Some(port)).pop().expect("it is listed");
        (listener, port, found.inode)
    }

    #[test]
    fn in_a_cgroup_what_is_not_in_it_is_a_stranger_however_young_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let cgroup = RunCgroup::found(folder.path().to_owned(), crate::act::cgroup::Hierarchy::V2, Vec::new());
        let members = Members { cgroup: Some(cgroup), ..members(i32::MAX, 0) };
        let (_listener, port, inode) = listening();
        let has = |pids: &str| std::fs::write(folder.path().join("cgroup.procs"), pids).expect("written");
        has("");
        assert_eq!(members.owner(inode), Owner::Stranger(Some(own_pid())));
        let told = squatter(&members, Ports { grpc: 1, health: port }).expect("a stranger");
        assert!(told.contains(&format!("is held by pid {}", own_pid())), "{told}");
        // It has come to be since the members were looked at.
        has(&format!("{}\n", own_pid()));
        assert_eq!(members.owner(inode), Owner::Own);
        assert_eq!(squatter(&members, Ports { grpc: 1, health: port }), None);
        assert_eq!(members.owner(0), Owner::Unknown);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "whose a socket is, is told by another process that has it")]
    fn without_a_cgroup_what_shares_session_or_run_is_its_own() {
        let (listener, port, _) = listening();
        let ports = Ports { grpc: 1, health: port };
        let session = ProcessStat::read(own_pid()).expect("our own").session;
        assert_eq!(squatter(&members(session, u64::MAX), ports), None, "by session");
        let of = |n| Members { run: RunId::from_random(n), ..members(i32::MAX, u64::MAX) };
        assert!(squatter(&of(7), ports).is_some());
        // Another one has it alone.
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .env("RUN_ID", RunId::from_random(7).to_string())
            .stdin(std::os::fd::OwnedFd::from(listener))
            .spawn()
            .expect("sleep");
        let told = [squatter(&of(7), ports), squatter(&of(8), ports)];
        child.kill().expect("killed");
        child.wait().expect("reaped");
        let named = format!("HEALTH_PORT {port} is held by pid {}, which is none of its processes", child.id());
        assert_eq!(told, [None, Some(named)], "by RUN_ID");
    }
}
