//! Who listens on the ports of a run: its own tree, or somebody who was quicker.
//!
//! What is told is told for certain. In a cgroup whatever is not in it is a stranger; without one only what is older than
//! the run, since the rest may descend from it in ways that cannot be seen. What cannot be looked at, such as a
//! network namespace of its own or the descriptors of another user's process, is nobody's fault.

use super::cgroup::RunCgroup;
use super::identity::{ProcessStat, all_pids, environment_value};
use crate::model::{Ports, ProcessIdentity, RunId};
use crate::plan::squatting::{Owner, Reach, answers};
use std::collections::HashSet;
use std::path::Path;

/// The state of a listening socket in `/proc/net/tcp`.
pub(super) const LISTEN: &str = "0A";
/// 127.0.0.1 there, as the kernel prints its bytes, and mapped into IPv6.
const LOOPBACK: [[u8; 4]; 2] = [[127, 0, 0, 1], [0, 0, 0, 0]];

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

/// A socket that listens.
struct Listener {
    port: u16,
    reach: Reach,
    inode: String,
}

/// In words, which port of a run is answered by somebody else, and by whom; `None` when it is the run itself, nobody, or
/// cannot be told.
pub(crate) fn squatter(members: &Members, ports: Ports) -> Option<String> {
    let listeners = listeners(ports);
    if listeners.is_empty() {
        return None;
    }
    let own: HashSet<String> = members.pids().into_iter().filter_map(sockets).flatten().collect();
    for (name, port) in [("HEALTH_PORT", ports.health), ("GRPC_PORT", ports.grpc)] {
        let owners: Vec<(Reach, Owner)> = listeners
            .iter()
            .filter(|listener| listener.port == port)
            .map(|listener| {
                let is_own = own.contains(&listener.inode);
                (listener.reach, if is_own { Owner::Own } else { members.owner(&listener.inode) })
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
    fn owner(&self, inode: &str) -> Owner {
        let Some(pid) =
            all_pids().ok().into_iter().flatten().find(|pid| sockets(*pid).is_some_and(|all| all.contains(inode)))
        else {
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

/// The inodes of the sockets that a process has open; `None` where that cannot be seen.
pub(super) fn sockets(pid: i32) -> Option<HashSet<String>> {
    let inode = |link: &Path| {
        let target = std::fs::read_link(link).ok()?;
        Some(target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
    };
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    Some(entries.flatten().filter_map(|entry| inode(&entry.path())).collect())
}

fn listeners(ports: Ports) -> Vec<Listener> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| std::fs::read_to_string(table).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    lines.filter_map(listener).filter(|found| found.port == ports.health || found.port == ports.grpc).collect()
}

/// What a line of `/proc/net/tcp` or `tcp6` tells of, if that can be given connections to 127.0.0.1.
fn listener(line: &str) -> Option<Listener> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (address, port) = fields.next()?.rsplit_once(':')?;
    let (state, inode) = (fields.nth(1)?, fields.nth(5)?);
    let words: Vec<[u8; 4]> = address
        .as_bytes()
        .chunks(8)
        // Each 32 bits are printed as a number of this machine.
        .map(|word| Some(u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?.to_ne_bytes()))
        .collect::<Option<_>>()?;
    let reach = match words.as_slice() {
        [last] if *last == LOOPBACK[0] => Reach::Loopback,
        [last] if *last == LOOPBACK[1] => Reach::AnyV4,
        [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0xff, 0xff], last] if *last == LOOPBACK[0] => Reach::Loopback,
        [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0xff, 0xff] | [0, 0, 0, 0], [0, 0, 0, 0]] => Reach::AnyV6,
        _ => return None,
    };
    let port = u16::from_str_radix(port, 16).ok()?;
    (state == LISTEN).then(|| Listener { port, reach, inode: inode.to_owned() })
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
}
