//! The launcher's end: asks the spawner for children, several at a time, and starts another spawner when one dies.

use super::protocol::{REPLY_FDS, REPLY_LEN, Reply, SpawnRequest, Stage};
use super::{SUBCOMMAND, plain, was_entered};
use crate::act::known::KnownPids;
use crate::error::{Code, Error, Result};
use crate::observed::Fault;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

/// Requests that are under way at once. It keeps the spawner busy while replies travel; their descriptors in flight,
/// three each, stay far below any limit of open files, which is what the kernel holds them against.
const WINDOW: usize = 32;
/// How often a request is made: when a spawner dies over it, once more with the next.
const TRIES: u8 = 2;

/// A child before its exec. Dropping it lets go of the child, which then exits.
#[derive(Debug)]
pub(crate) struct HeldChild {
    /// Its pid.
    pub(crate) pid: i32,
    /// What it is owned by.
    pub(crate) pidfd: OwnedFd,
    /// One byte written here releases it.
    pub(crate) release: OwnedFd,
    /// Ends without a word when the exec worked, else says a [`Stage`] and an errno.
    pub(crate) outcome: OwnedFd,
    /// Whether it is in the cgroup that was asked for.
    pub(crate) in_cgroup: bool,
    /// Which of the others it is in: a bit for each, from the lowest.
    pub(crate) joined: u8,
}

/// Why there is no child, or none that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SpawnFailure {
    /// What did not work.
    pub(crate) stage: Stage,
    /// The kernel's reason.
    pub(crate) errno: Errno,
}

impl SpawnFailure {
    /// Who is to blame: the launcher where it lacks what every start needs.
    pub(crate) const fn fault(self) -> Fault {
        match (self.stage, self.errno) {
            (_, Errno::TOOBIG) => Fault::Instance,
            (_, Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::AGAIN)
            | (Stage::Request | Stage::Log | Stage::Pipes | Stage::Clone | Stage::HandOver, _) => Fault::Launcher,
            (
                Stage::SetUp
                | Stage::Folder
                | Stage::Exec
                | Stage::Limit
                | Stage::Nice
                | Stage::OomScore
                | Stage::Capabilities
                | Stage::User,
                _,
            ) => Fault::Instance,
        }
    }
}

/// What is run again as the spawner.
static EXECUTABLE: OnceLock<PathBuf> = OnceLock::new();

/// What is run again as the spawner, or to become confined.
pub(super) fn executable() -> PathBuf {
    EXECUTABLE.get().cloned().unwrap_or_else(|| PathBuf::from("/proc/self/exe"))
}

type Answer = std::result::Result<HeldChild, SpawnFailure>;

/// A request that is waiting for its reply.
struct Ask {
    frame: Vec<u8>,
    answer: oneshot::Sender<Answer>,
    tries: u8,
}

/// Makes children.
#[derive(Debug)]
pub(crate) enum Client {
    /// Asks the spawner for them. The spawner ends when this is dropped.
    Spawner(Asks),
    /// Makes them itself, see [`plain`].
    Plain(Arc<KnownPids>),
}

/// Requests on their way to the spawner.
#[derive(Debug)]
pub(crate) struct Asks(mpsc::Sender<Ask>);

impl Client {
    /// Starts a spawner from `exe`, or from this very executable; does without one where that is no spawner.
    pub(crate) fn start(exe: Option<PathBuf>, known: Arc<KnownPids>) -> Result<Self> {
        if exe.is_none() && !was_entered() {
            return Ok(Self::Plain(known));
        }
        let exe = exe.unwrap_or_else(|| PathBuf::from("/proc/self/exe"));
        // All launchers of a program are given the same.
        EXECUTABLE.get_or_init(|| exe.clone());
        let first = Connection::open(&exe, &known).map_err(|cause| {
            Error::new(Code::InternalError, "The process that starts processes cannot be started")
                .with("executable", exe.display())
                .caused_by(&cause)
                .suggest("check the limits on processes and open files: ulimit -u -n")
        })?;
        let (asks, requests) = mpsc::channel(WINDOW);
        tokio::spawn(serve(exe, known, first, requests));
        Ok(Self::Spawner(Asks(asks)))
    }

    /// Asks for a child, which is then held.
    pub(crate) async fn spawn(&self, request: SpawnRequest) -> Answer {
        let gone = SpawnFailure { stage: Stage::HandOver, errno: Errno::PIPE };
        match self {
            Self::Spawner(Asks(asks)) => {
                let (answer, child) = oneshot::channel();
                asks.send(Ask { frame: request.encode(), answer, tries: 0 }).await.map_err(|_| gone)?;
                child.await.map_err(|_| gone)?
            }
            Self::Plain(known) => {
                let known = Arc::clone(known);
                // When nobody waits any more the child, being dropped, exits.
                tokio::task::spawn_blocking(move || plain::spawn(request, &known)).await.map_err(|_| gone)?
            }
        }
    }

    /// Whether there is a spawner.
    pub(crate) const fn has_spawner(&self) -> bool {
        matches!(self, Self::Spawner(_))
    }
}

/// One spawner and the socket to it.
struct Connection {
    process: Child,
    stream: UnixStream,
    known: Arc<KnownPids>,
    bytes: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
}

impl Connection {
    fn open(exe: &Path, known: &Arc<KnownPids>) -> std::io::Result<Self> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        #[expect(clippy::disallowed_methods, reason = "the spawner is the process that makes the others")]
        let process = Command::new(exe)
            .arg(SUBCOMMAND)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()?;
        known.add(process.id().cast_signed());
        let stream = UnixStream::from_std(ours)?;
        Ok(Self { process, stream, known: Arc::clone(known), bytes: Vec::new(), descriptors: VecDeque::new() })
    }

    /// Reads what has come, without waiting. An end of the stream is an error.
    fn receive(&mut self) -> std::io::Result<()> {
        let mut buffer = [0; WINDOW * REPLY_LEN];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(REPLY_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let stream = &self.stream;
        let received = stream.try_io(Interest::READABLE, || {
            let mut slices = [IoSliceMut::new(&mut buffer)];
            Ok(recvmsg(stream, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC)?)
        });
        match received {
            Ok(message) if message.bytes == 0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(message) => {
                self.bytes.extend_from_slice(&buffer[..message.bytes]);
                for part in control.drain() {
                    if let RecvAncillaryMessage::ScmRights(descriptors) = part {
                        self.descriptors.extend(descriptors);
                    }
                }
                Ok(())
            }
            Err(nothing) if nothing.kind() == std::io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The next reply that has come whole.
    fn next_reply(&mut self) -> Option<Answer> {
        let reply = Reply::decode(*self.bytes.first_chunk::<REPLY_LEN>()?);
        self.bytes.drain(..REPLY_LEN);
        Some(match reply {
            Reply::Failed { stage, errno } => Err(SpawnFailure { stage, errno: Errno::from_raw_os_error(errno) }),
            Reply::Made { pid, in_cgroup, joined } => {
                self.known.add(pid);
                let mut take = || self.descriptors.pop_front();
                if let (Some(pidfd), Some(release), Some(outcome)) = (take(), take(), take()) {
                    Ok(HeldChild { pid, pidfd, release, outcome, in_cgroup, joined })
                } else {
                    // This process has no descriptors left. The kernel closed those that did not fit, among them an
                    // end that holds the child, which therefore exits.
                    self.descriptors.clear();
                    self.known.abandon(pid);
                    Err(SpawnFailure { stage: Stage::HandOver, errno: Errno::MFILE })
                }
            }
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // It keeps nothing, so that killing it is as good as closing its socket, and cannot take long.
        drop(self.process.kill());
        drop(self.process.wait());
        self.known.remove(self.process.id().cast_signed());
    }
}

async fn serve(exe: PathBuf, known: Arc<KnownPids>, first: Connection, mut requests: mpsc::Receiver<Ask>) {
    let mut connection = Some(first);
    let mut open: VecDeque<Ask> = VecDeque::new();
    loop {
        let Some(current) = &mut connection else {
            // One that dies at once, again and again, must not be started without need.
            if open.is_empty() {
                let Some(ask) = requests.recv().await else { return };
                open.push_back(ask);
            }
            connection = reopen(&exe, &known, &mut open).await;
            continue;
        };
        let outcome = tokio::select! {
            // Cancel-safe: a request that is not taken stays in the channel.
            ask = requests.recv(), if open.len() < WINDOW => match ask {
                Some(ask) => send(current, &mut open, ask).await,
                None => return,
            },
            // Cancel-safe: readiness takes nothing.
            ready = current.stream.readable() => ready.and_then(|()| current.receive()),
        };
        while let Some(answer) = current.next_reply() {
            if let Some(ask) = open.pop_front() {
                // Nobody waits any more when the host is shut down; the child, being dropped, exits.
                drop(ask.answer.send(answer));
            }
        }
        if let Err(error) = outcome {
            tracing::warn!(%error, "the spawner died and is started again");
            connection = None;
        }
    }
}

async fn send(connection: &mut Connection, open: &mut VecDeque<Ask>, mut ask: Ask) -> std::io::Result<()> {
    ask.tries += 1;
    open.push_back(ask);
    match open.back() {
        // The spawner reads while it waits for nothing else: its replies fit into its socket's buffer.
        Some(ask) => connection.stream.write_all(&ask.frame).await,
        None => Ok(()),
    }
}

/// Starts another spawner and repeats what the last one left unanswered: children it had made exit with it.
async fn reopen(exe: &Path, known: &Arc<KnownPids>, open: &mut VecDeque<Ask>) -> Option<Connection> {
    let errno = match Connection::open(exe, known) {
        Ok(mut connection) => {
            for ask in std::mem::take(open) {
                if ask.tries >= TRIES {
                    refuse(ask, Errno::PIPE);
                } else {
                    // That this one is dead as well shows when its reply is read.
                    drop(send(&mut connection, open, ask).await);
                }
            }
            return Some(connection);
        }
        Err(error) => Errno::from_io_error(&error).unwrap_or(Errno::IO),
    };
    for ask in open.drain(..) {
        refuse(ask, errno);
    }
    None
}

fn refuse(ask: Ask, errno: Errno) {
    drop(ask.answer.send(Err(SpawnFailure { stage: Stage::HandOver, errno })));
}
