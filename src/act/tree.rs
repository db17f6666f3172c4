//! The processes of one run: whether any lives, and killing them all.
//!
//! With a cgroup nothing escapes. Without one the tree is what shares the session of the main process, descends from
//! it, or carries its `RUN_ID`; a process that leaves all three behind escapes.

use super::census::{Census, Machine};
use super::cgroup::RunCgroup;
use super::identity::ProcessStat;
use super::shared::Shared;
use crate::model::{OomKill, ProcessIdentity, RunId};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::collections::BTreeSet;
use std::io;

/// How often one killing looks again for what was forked meanwhile.
const ROUNDS: usize = 8;

/// By what the processes of a run are found.
#[derive(Debug, Clone)]
pub(crate) enum Tree {
    /// By its cgroup.
    Cgroup(RunCgroup),
    /// By session, ancestry and `RUN_ID`.
    Group(Group),
}

/// What is known of a tree without a cgroup.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    /// Its main process, whose pid is the number of the session.
    pub(crate) main: ProcessIdentity,
    /// Which run it is.
    pub(crate) run: RunId,
    /// What the number of the session proves.
    pub(crate) proof: SessionProof,
}

/// Whether a process in a session of the right number is one of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionProof {
    /// It is: the pid has been held since the main process lived, as a process or a zombie of ours or as a pidfd.
    Held,
    /// The main process had ended before anybody looked, so that its pid can have been given to a stranger, who can
    /// have made a session of it. `RUN_ID` must confirm it.
    Hearsay,
}

/// What lives of a tree, apart from its main process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rest {
    /// Nothing.
    Gone,
    /// Only what is ending at this moment.
    Vanishing,
    /// These processes.
    Lives(BTreeSet<i32>),
    /// These processes, which may be strangers.
    Unclear(BTreeSet<i32>),
}

impl Tree {
    /// What lives of it, apart from its main process.
    pub(crate) async fn rest(&self, main: i32, shared: &Shared) -> io::Result<Rest> {
        match self {
            // The kernel answers this from memory: going to another thread would take longer, on the way to a restart.
            Self::Cgroup(cgroup) => cgroup_rest(cgroup, main),
            Self::Group(group) => Ok(group.rest(&*shared.census.take().await?)),
        }
    }

    /// Whether the kernel has killed something of it for want of memory, where a cgroup tells.
    pub(crate) fn oom(&self) -> Option<OomKill> {
        match self {
            Self::Cgroup(cgroup) => cgroup.oom(),
            Self::Group(_) => None,
        }
    }

    /// Kills what can be found of it, main process included, without waiting for its end.
    pub(crate) async fn kill(&self, namespace: &str, shared: &Shared) -> io::Result<()> {
        match self {
            Self::Cgroup(cgroup) => {
                let cgroup = cgroup.clone();
                shared.blocking(namespace, move || cgroup.kill()).await
            }
            Self::Group(group) => group.kill(&shared.census).await,
        }
    }
}

/// What lives in the cgroup of a run, apart from its main process.
pub(crate) fn cgroup_rest(cgroup: &RunCgroup, main: i32) -> io::Result<Rest> {
    if !cgroup.is_populated()? {
        return Ok(Rest::Gone);
    }
    let mut processes = cgroup.processes()?;
    processes.remove(&main);
    Ok(if processes.is_empty() { Rest::Vanishing } else { Rest::Lives(processes) })
}

impl Group {
    /// What lives of it in this list, apart from its main process.
    pub(crate) fn rest(&self, machine: &Machine) -> Rest {
        let (members, unclear) = self.members(&machine.processes, |pid, run| machine.carries(pid, run));
        let members: BTreeSet<i32> = members.iter().map(|stat| stat.pid).filter(|pid| *pid != self.main.pid).collect();
        match (members.is_empty(), unclear.is_empty()) {
            (true, true) if !machine.is_whole => Rest::Vanishing,
            (true, true) => Rest::Gone,
            (_, false) => Rest::Unclear(unclear),
            (false, true) => Rest::Lives(members),
        }
    }

    /// The living processes of the tree, and those of which it cannot be said whether they are.
    fn members<'a>(
        &self,
        all: &'a [ProcessStat],
        carries: impl Fn(i32, &str) -> bool,
    ) -> (Vec<&'a ProcessStat>, BTreeSet<i32>) {
        let marker = self.run.to_string();
        let own = rustix::process::getpid().as_raw_nonzero().get();
        // A stranger that was given the pid makes the session its own.
        let stolen = all.iter().any(|stat| stat.pid == self.main.pid && !stat.is(&self.main));
        let mut members = BTreeSet::new();
        let mut unclear = BTreeSet::new();
        for stat in all.iter().filter(|stat| stat.pid > 1 && stat.pid != own && stat.start_time >= self.main.start_time)
        {
            let in_session = stat.session == self.main.pid && !stolen;
            if stat.is(&self.main) || (in_session && self.proof == SessionProof::Held) || carries(stat.pid, &marker) {
                members.insert(stat.pid);
            } else if in_session && !stat.has_ended() {
                unclear.insert(stat.pid);
            }
        }
        loop {
            let descendants: Vec<i32> = all
                .iter()
                .filter(|stat| members.contains(&stat.parent) && !members.contains(&stat.pid))
                .map(|stat| stat.pid)
                .collect();
            if descendants.is_empty() {
                break;
            }
            members.extend(descendants);
        }
        unclear.retain(|pid| !members.contains(pid));
        let living = all.iter().filter(|stat| members.contains(&stat.pid) && !stat.has_ended()).collect();
        (living, unclear)
    }

    async fn kill(&self, census: &Census) -> io::Result<()> {
        let mut killed = BTreeSet::new();
        for _ in 0..ROUNDS {
            let machine = census.take().await?;
            let (members, _) = self.members(&machine.processes, |pid, run| machine.carries(pid, run));
            let fresh: Vec<_> = members.into_iter().filter(|stat| !killed.contains(&stat.pid)).collect();
            if fresh.is_empty() {
                break;
            }
            for stat in fresh {
                kill_exactly(stat);
                killed.insert(stat.pid);
            }
        }
        Ok(())
    }
}

/// Kills a process unless its pid has been given to another since it was looked at.
fn kill_exactly(seen: &ProcessStat) {
    let Some(pid) = Pid::from_raw(seen.pid) else { return };
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if ProcessStat::read(seen.pid).is_ok_and(|now| now.start_time == seen.start_time) {
        // It can have ended by itself.
        let _ = pidfd_send_signal(&pidfd, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BootId, Confinement};

    const BOOT: BootId = BootId::from_u128(1);

    fn group(proof: SessionProof) -> Group {
        let main = ProcessIdentity {
            pid: 2_000_000_100,
            start_time: 50,
            boot: BOOT,
            cgroup: None,
            confinement: Confinement::default(),
        };
        Group { main, run: RunId::from_random(1), proof }
    }

    fn process(pid: i32, parent: i32, session: i32, start_time: u64) -> ProcessStat {
        let (pid, parent, session) = (2_000_000_000 + pid, 2_000_000_000 + parent, 2_000_000_000 + session);
        ProcessStat { pid, state: b'S', parent, group: session, session, threads: 1, start_time, exit_status: 0 }
    }

    fn found(group: &Group, all: &[ProcessStat], marked: &[i32]) -> (Vec<i32>, Vec<i32>) {
        let (members, unclear) = group.members(all, |pid, _| marked.contains(&(pid - 2_000_000_000)));
        let short = |pid: i32| pid - 2_000_000_000;
        (members.iter().map(|stat| short(stat.pid)).collect(), unclear.into_iter().map(short).collect())
    }

    #[test]
    fn a_tree_is_its_session_its_descendants_and_what_carries_its_run() {
        let all = [
            process(100, 1, 100, 50),
            process(101, 100, 100, 51),
            process(102, 101, 102, 52),
            process(103, 1, 103, 53),
            process(104, 1, 104, 54),
            process(105, 103, 105, 55),
        ];
        assert_eq!(found(&group(SessionProof::Held), &all, &[103]), (vec![100, 101, 102, 103, 105], vec![]));
    }

    #[test]
    fn what_is_older_than_the_main_process_is_none_of_it() {
        let all = [process(90, 1, 100, 49), process(91, 1, 91, 10)];
        assert_eq!(found(&group(SessionProof::Held), &all, &[90, 91]), (vec![], vec![]));
    }

    #[test]
    fn a_session_that_is_only_heard_of_proves_nothing() {
        let all = [process(101, 1, 100, 51), process(102, 1, 100, 52)];
        assert_eq!(found(&group(SessionProof::Hearsay), &all, &[101]), (vec![101], vec![102]));
    }

    #[test]
    fn the_session_of_a_stranger_who_was_given_the_pid_is_left_alone() {
        let all = [process(100, 1, 100, 60), process(101, 100, 100, 61)];
        for proof in [SessionProof::Held, SessionProof::Hearsay] {
            assert_eq!(found(&group(proof), &all, &[]), (vec![], vec![]));
        }
    }

    #[test]
    fn a_zombie_is_dead_unless_other_threads_of_it_run() {
        let mut all = [process(101, 1, 100, 51), process(102, 1, 100, 52)];
        all[0].state = b'Z';
        all[1].state = b'Z';
        all[1].threads = 3;
        assert_eq!(found(&group(SessionProof::Held), &all, &[]), (vec![102], vec![]));
    }
}
