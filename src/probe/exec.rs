//! A command in the instance's environment and folder: healthy at exit code 0.
//!
//! Guarantees: whatever the command leaves in its process group is killed when it ends, is too slow, or is not waited
//! for any more; no process group is signalled whose leader has been reaped, since its number may be another's by then.
//! Caveat: a command runs beside its instance, not in the instance's cgroup, and what leaves its process group is lost
//! sight of.

use super::target::is_our_lack;
use crate::act::spawner::confined;
use crate::model::{Confinement, Environment, Instance, Mask};
use crate::observed::ProbeOutcome;
use rustix::fd::OwnedFd;
use rustix::fs::{Access, access};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process_group, pidfd_open, waitid,
};
use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;

/// How much of a command's output is kept: its end.
const OUTPUT_KEPT: usize = 1_024;
/// How much of it an outcome shows, in characters: the end of its last line.
const OUTPUT_SHOWN: usize = 200;

/// The processes of exec probes. They are children of this process: whoever reaps orphans must leave these alone.
#[derive(Debug, Default)]
pub struct ProbeChildren {
    pids: Mutex<BTreeSet<i32>>,
}

impl ProbeChildren {
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Whether this child is waited for here. Asked about one that is being made, it answers once that is done.
    pub fn contains(&self, pid: i32) -> bool {
        self.lock().contains(&pid)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<i32>> {
        // A set is whole whatever panicked while it was held.
        self.pids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A command, ready to be run any number of times.
#[derive(Debug)]
pub(super) struct Command {
    /// The program and its arguments, `$(NAME)` replaced.
    pub(super) words: Vec<String>,
    pub(super) environment: Environment,
    pub(super) instance: Arc<Instance>,
    pub(super) confinement: Confinement,
    pub(super) children: Arc<ProbeChildren>,
    /// What an outcome must not show.
    pub(super) mask: Mask,
}

impl Command {
    /// What it is called in an outcome; arguments may be secret.
    pub(super) fn name(&self) -> &str {
        self.words.first().map_or("the command", String::as_str)
    }

    /// Runs the command once. When this is dropped, the command is killed.
    pub(super) async fn ask(&self) -> ProbeOutcome {
        let (child, output) = match self.start() {
            Ok(started) => started,
            Err(error) if is_our_lack(&error) => {
                return ProbeOutcome::Error(format!("{} cannot be started: {error}", self.name()));
            }
            Err(error) => return ProbeOutcome::Failure(format!("{} cannot be started: {error}", self.name())),
        };
        let (answer, answered) = oneshot::channel();
        // A task of its own, since a child must be killed and reaped also when nobody waits for the probe any more.
        drop(tokio::spawn(attend(child, output, answer)));
        match answered.await {
            Ok(Ok((status, _))) if status.exit_status() == Some(0) => ProbeOutcome::Success,
            Ok(Ok((status, output))) => {
                ProbeOutcome::Failure(format!("{} {}", self.name(), describe(&status, &output, &self.mask)))
            }
            Ok(Err(error)) => ProbeOutcome::Error(format!("{} cannot be waited for: {error}", self.name())),
            Err(_) => ProbeOutcome::Error(format!("{} was not waited for", self.name())),
        }
    }

    /// Starts the command. Nothing is set that would make the standard library fork instead of using `posix_spawn`:
    /// no user, no hook before exec, and a program that has been looked up already.
    fn start(&self) -> io::Result<(Child, pipe::Receiver)> {
        let folder = std::path::absolute(&self.instance.content.launch.pattern.folder)?;
        let program = self.words.first().ok_or_else(|| io::Error::other("the command is empty"))?;
        let search = self.environment.0.get("PATH").map_or("", String::as_str);
        let program = look_up(program, &folder, search)?;
        let (reader, writer) = io::pipe()?;
        // Its user is changed by a program that becomes it, since to change it here would be a fork.
        let words = confined(&self.confinement);
        let mut words = words.into_iter().flatten().chain([program.into_os_string()]);
        let first = words.next().unwrap_or_default();
        #[expect(clippy::disallowed_methods, reason = "an exec probe is a process of the launcher's own")]
        let mut command = std::process::Command::new(first);
        command
            .args(words)
            .args(self.words.iter().skip(1))
            .env_clear()
            .envs(&self.environment.0)
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .process_group(0);
        let output = pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?;
        Ok((Child::spawn(&mut command, Arc::clone(&self.children))?, output))
    }
}

/// Waits for a command until it ends or nobody waits for its answer, and leaves nothing of it behind.
async fn attend(
    mut child: Child,
    output: pipe::Receiver,
    mut answer: oneshot::Sender<io::Result<(WaitIdStatus, Vec<u8>)>>,
) {
    let mut kept = Vec::new();
    // Each of the three can be dropped: they only wait, and what was read is in `kept`.
    let waited = tokio::select! {
        waited = child.ended() => waited,
        never = keep_reading(&output, &mut kept) => match never {},
        () = answer.closed() => Ok(()),
    };
    child.kill_group();
    let status = match waited.and(child.ended().await) {
        Ok(()) => child.reap(),
        Err(error) => Err(error),
    };
    read_available(&output, &mut kept);
    // Nobody waits for it when the probe was given up.
    drop(answer.send(status.map(|status| (status, kept))));
}

/// A child that leads a process group, and is reaped only after its group has been killed.
#[derive(Debug)]
struct Child {
    pid: Pid,
    pidfd: AsyncFd<OwnedFd>,
    children: Arc<ProbeChildren>,
    reaped: bool,
}

impl Child {
    fn spawn(command: &mut std::process::Command, children: Arc<ProbeChildren>) -> io::Result<Self> {
        let mut pids = children.lock();
        let mut spawned = command.spawn()?;
        let pid = Pid::from_child(&spawned);
        let opened = pidfd_open(pid, PidfdFlags::NONBLOCK).map_err(io::Error::from).and_then(watch);
        let pidfd = match opened {
            Ok(pidfd) => pidfd,
            Err(error) => {
                kill_process_group(pid, Signal::KILL).ok();
                // It has been killed, so that this wait is short.
                spawned.wait().ok();
                return Err(error);
            }
        };
        pids.insert(pid.as_raw_nonzero().get());
        drop(pids);
        Ok(Self { pid, pidfd, children, reaped: false })
    }

    /// Waits for the end of the child, which then is a zombie.
    async fn ended(&self) -> io::Result<()> {
        self.pidfd.readable().await.map(drop)
    }

    /// Kills what there is of the group. Its number is its leader's, which is not another's until it is reaped.
    fn kill_group(&self) {
        if !self.reaped {
            // Fails when nothing of the group is left, which is the aim.
            kill_process_group(self.pid, Signal::KILL).ok();
        }
    }

    fn reap(&mut self) -> io::Result<WaitIdStatus> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let status = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(self.pidfd.as_fd()), options));
        // Also when it failed: then somebody else has reaped it, and its number may be another's.
        self.reaped = true;
        self.children.lock().remove(&self.pid.as_raw_nonzero().get());
        status?.ok_or_else(|| io::Error::other("it ended and is not waitable"))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Only when the runtime itself ends: the launcher's own end reaps it.
        self.kill_group();
    }
}

/// Registers a pidfd with the runtime.
#[expect(unsafe_code, reason = "the library has no safe way to register a descriptor")]
fn watch(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned, so it is open and the same until it is dropped, which happens only after it has
    // been taken out of the runtime again.
    Ok(unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?)
}

/// Reads for ever and keeps the end; a command whose output is full would block.
async fn keep_reading(output: &pipe::Receiver, kept: &mut Vec<u8>) -> std::convert::Infallible {
    loop {
        if output.readable().await.is_err() || !read_available(output, kept) {
            std::future::pending::<()>().await;
        }
    }
}

/// Reads what is there without waiting and keeps the end. Returns whether more may come.
fn read_available(output: &pipe::Receiver, kept: &mut Vec<u8>) -> bool {
    let mut buffer = [0; OUTPUT_KEPT];
    // So much in one turn, and the command gets its next turn: one that floods its output must not keep a thread.
    for _ in 0..64 {
        match output.try_read(&mut buffer) {
            Ok(0) => return false,
            Ok(count) => {
                kept.extend_from_slice(&buffer[..count]);
                kept.drain(..kept.len().saturating_sub(OUTPUT_KEPT));
            }
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        }
    }
    true
}

fn describe(status: &WaitIdStatus, output: &[u8], mask: &Mask) -> String {
    let ended = match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    };
    let text = mask.applied_to_cut(&String::from_utf8_lossy(output));
    match text.lines().map(str::trim).rfind(|line| !line.is_empty()) {
        Some(line) => {
            let from = line.char_indices().rev().nth(OUTPUT_SHOWN - 1).map_or(0, |(at, _)| at);
            format!("{ended}: {}", line[from..].escape_debug())
        }
        None => ended,
    }
}

/// Finds the program as a shell in `folder` would, so that `exec` need not search.
fn look_up(program: &str, folder: &Path, search: &str) -> io::Result<PathBuf> {
    if program.contains('/') {
        return Ok(folder.join(program));
    }
    let candidates = std::env::split_paths(search).map(|place| folder.join(place).join(program));
    let mut runnable = candidates.filter(|path| path.is_file() && access(path, Access::EXEC_OK).is_ok());
    runnable.next().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it is not found on PATH"))
}
