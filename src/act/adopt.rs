//! Taking over what the last launcher left: each recorded process is verified before anything else is done with it.
//!
//! The pidfd is opened first and the start time read after, so that what is verified is what is held.

use super::census::Machine;
use super::cgroup::{Beside, RunCgroup, recorded};
use super::exit::{self, Reaping, Waited};
use super::identity::ProcessStat;
use super::run::Watched;
use super::spawner::SUBCOMMAND;
use super::tree::{Group, Rest, SessionProof, Tree, cgroup_rest};
use crate::error::{Code, Error};
use crate::model::{BootId, ExitReason, OomKill, RunRecord};
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How long a child that was still held when its launcher died is given to notice, in milliseconds.
const HELD_TRIES: u32 = 200;

/// What a record turned out to be about.
pub(super) enum Found {
    /// A process of an earlier boot.
    Rebooted,
    /// The process, which lives.
    Alive(Watched),
    /// It has ended.
    Ended {
        /// How, as far as the kernel tells.
        exit: ExitReason,
        /// Whether the kernel has killed something of it for want of memory.
        oom: Option<OomKill>,
        /// What belonged to it.
        tree: Tree,
        /// Whether nothing of that lives.
        tree_gone: bool,
    },
    /// It cannot be said.
    Unverifiable(Error),
}

/// Verifies recorded processes. The list of all processes is read at most once.
pub(super) struct Verifier {
    state_dir: PathBuf,
    beside: Beside,
    boot: BootId,
    machine: OnceLock<Machine>,
}

/// Between two attempts to verify what could not be seen for want of something.
const LACKING_PAUSE: Duration = Duration::from_millis(100);

/// Why it cannot be said what a record is about.
enum Unseen {
    /// This launcher has no descriptors or no memory left to look.
    Lacking(String),
    /// It has looked.
    Unclear(String),
}

impl Unseen {
    /// What could not be done, and why.
    fn because(what: &str, error: &io::Error) -> Self {
        let told = format!("{what}: {error}");
        match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM) => Self::Lacking(told),
            _ => Self::Unclear(told),
        }
    }
}

/// What the kernel says of the process that a record names.
enum Process {
    Alive(OwnedFd),
    Ended(ExitReason),
}

impl Verifier {
    /// For the records of a state folder.
    pub(super) fn new(state_dir: PathBuf, boot: BootId) -> Self {
        Self { beside: Beside::of(&state_dir), state_dir, boot, machine: OnceLock::new() }
    }

    /// Finds out what records are about, on all threads of the runtime: a thousand of them are a thousand times six
    /// system calls, and nothing is started before the last is verified.
    pub(super) async fn verify_all(self, records: Vec<RunRecord>) -> Vec<(RunRecord, Found)> {
        let threads = tokio::runtime::Handle::current().metrics().num_workers();
        let share = records.len().div_ceil(threads).max(1);
        let verifier = Arc::new(self);
        let mut rest = records.into_iter().peekable();
        let mut tasks = Vec::with_capacity(threads);
        while rest.peek().is_some() {
            let records: Vec<RunRecord> = rest.by_ref().take(share).collect();
            let verifier = Arc::clone(&verifier);
            tasks.push(tokio::spawn(async move {
                let mut verified = Vec::with_capacity(records.len());
                for record in records {
                    let found = verifier.verify(&record).await;
                    verified.push((record, found));
                }
                verified
            }));
        }
        let mut verified = Vec::new();
        for task in tasks {
            match task.await {
                Ok(found) => verified.extend(found),
                // A defect: without its records nothing may be started.
                Err(broken) => std::panic::resume_unwind(broken.into_panic()),
            }
        }
        verified
    }

    /// Finds out what a record is about.
    pub(super) async fn verify(&self, record: &RunRecord) -> Found {
        if record.process.boot != self.boot {
            return Found::Rebooted;
        }
        let mut told = false;
        loop {
            match self.look(record).await {
                Ok(found) => return found,
                Err(Unseen::Unclear(cause)) => return Found::Unverifiable(unverifiable(record, &cause)),
                // Nothing is begun before everything is taken over, so that this waits rather than giving up one.
                Err(Unseen::Lacking(cause)) => {
                    if !told {
                        tracing::error!(
                            process_id = %record.key,
                            cause,
                            "what runs cannot be taken over yet; raise the limit of open files: prlimit --nofile, or LimitNOFILE= in the unit"
                        );
                    }
                    told = true;
                    tokio::time::sleep(LACKING_PAUSE).await;
                }
            }
        }
    }

    async fn look(&self, record: &RunRecord) -> Result<Found, Unseen> {
        let identity = &record.process;
        let cgroup = identity
            .cgroup
            .as_deref()
            .map(|path| recorded(&self.state_dir, &self.beside, path, &record.key, record.run))
            .transpose()
            .map_err(Unseen::Unclear)?;
        let process = find(record).await?;
        let proof = if matches!(process, Process::Alive(_)) { SessionProof::Held } else { SessionProof::Hearsay };
        let tree = Self::tree(record, cgroup, proof);
        match process {
            Process::Alive(pidfd) => Watched::new(identity.clone(), pidfd, tree)
                .map(Found::Alive)
                .map_err(|error| Unseen::because("it cannot be watched", &error)),
            Process::Ended(exit) => {
                let unseen = |error: io::Error| Unseen::because("what is left of it cannot be seen", &error);
                let rest = match &tree {
                    Tree::Cgroup(cgroup) => cgroup_rest(cgroup, identity.pid).map_err(unseen)?,
                    Tree::Group(group) => group.rest(self.machine().map_err(unseen)?),
                };
                match rest {
                    Rest::Unclear(pids) => Err(Unseen::Unclear(format!(
                        "its main process has ended, and processes {pids:?} may be its children or strangers"
                    ))),
                    Rest::Gone => Ok(Found::Ended { exit, oom: tree.oom(), tree, tree_gone: true }),
                    Rest::Vanishing | Rest::Lives(_) => {
                        Ok(Found::Ended { exit, oom: tree.oom(), tree, tree_gone: false })
                    }
                }
            }
        }
    }

    fn tree(record: &RunRecord, cgroup: Option<RunCgroup>, proof: SessionProof) -> Tree {
        match cgroup {
            Some(cgroup) => Tree::Cgroup(cgroup),
            None => Tree::Group(Group { main: record.process.clone(), run: record.run, proof }),
        }
    }

    fn machine(&self) -> io::Result<&Machine> {
        if let Some(machine) = self.machine.get() {
            return Ok(machine);
        }
        let machine = Machine::read()?;
        Ok(self.machine.get_or_init(|| machine))
    }
}

async fn find(record: &RunRecord) -> Result<Process, Unseen> {
    let identity = &record.process;
    let invalid = || Unseen::Unclear("it has no valid pid".to_owned());
    let pid = Pid::from_raw(identity.pid).filter(|_| identity.pid > 1).ok_or_else(invalid)?;
    let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => pidfd,
        Err(Errno::SRCH) => return Ok(Process::Ended(ExitReason::Unknown)),
        Err(errno) => return Err(Unseen::because(&format!("process {pid} cannot be opened"), &errno.into())),
    };
    for _ in 0..HELD_TRIES {
        let stat = match ProcessStat::read(identity.pid) {
            Ok(stat) => stat,
            // Either it has been reaped in this moment, or it is hidden from this user.
            Err(error) => match exit::has_ended(pidfd.as_fd()) {
                Ok(true) => return Ok(Process::Ended(exit_of(&pidfd, record))),
                _ => return Err(Unseen::because(&format!("process {pid} cannot be read"), &error)),
            },
        };
        if !stat.is(identity) {
            // The pid belongs to another now, who is left alone.
            return Ok(Process::Ended(ExitReason::Unknown));
        }
        if stat.has_ended() {
            return Ok(Process::Ended(exit_of(&pidfd, record)));
        }
        if record.executed || !is_held(identity.pid) {
            return Ok(Process::Alive(pidfd));
        }
        // Its launcher died between record and release: it is about to notice.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(Process::Alive(pidfd))
}

fn exit_of(pidfd: &OwnedFd, record: &RunRecord) -> ExitReason {
    match exit::wait(pidfd.as_fd(), Reaping::Reap) {
        Waited::Ended(exit) => exit,
        Waited::Running => ExitReason::Unknown,
        Waited::NotOurs => exit::of_stranger(pidfd.as_fd(), &record.process).unwrap_or(ExitReason::Unknown),
    }
}

/// Whether it is a child of a spawner that has not been executed: it still bears the spawner's command line.
fn is_held(pid: i32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|line| line.split(|byte| *byte == 0).nth(1) == Some(SUBCOMMAND.as_bytes()))
}

fn unverifiable(record: &RunRecord, cause: &str) -> Error {
    let pid = record.process.pid;
    Error::new(
        Code::TerminationFailed,
        "A process that was recorded cannot be verified, so it is neither used nor ended",
    )
    .with("process_id", &record.key)
    .with("pid", pid)
    .with("run", record.run)
    .because(cause)
    .suggest(format!("look at it with ps -o pid,lstart,user,args -p {pid}, and end it if it is still {}", record.key))
}
