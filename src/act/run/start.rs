//! The beginning of a run: prepare, record, release. Until the record is written its child is held.

use super::{Run, Watched, cgroup_of, clear_credentials, limit, look_after, remove_traces};
use crate::act::cgroup::RunCgroup;
use crate::act::clock;
use crate::act::exit::{self, Reaping};
use crate::act::identity::ProcessStat;
use crate::act::mailbox::Orders;
use crate::act::prepare::{Paths, Ready, Refusal, prepare};
use crate::act::spawner::{HeldChild, SpawnFailure, Stage};
use crate::act::tree::{Group, SessionProof, Tree};
use crate::act::turns::Turn;
use crate::act::usage::Beginning;
use crate::error::{Code, Error};
use crate::model::{Confinement, LimitsEffective, ProcessIdentity, RunRecord};
use crate::observed::{Event, Fault};
use crate::plan::PrepareRequest;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::process::Signal;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

/// How long an exec keeps its turn: it takes a millisecond, unless the file system of the program is away.
const EXEC: Duration = Duration::from_millis(500);

/// A child before its exec, looked after already.
#[derive(Debug)]
struct Held {
    watched: Watched,
    release: OwnedFd,
    outcome: OwnedFd,
    paths: Paths,
    limits: LimitsEffective,
}

/// What of a run is left to do once it has begun.
type Begun = Option<(Run, Watched, Orders)>;

/// The whole of a run that begins.
pub(crate) async fn whole(run: Run, request: PrepareRequest) {
    // Apart, so that the task of a process that runs for months does not keep the room that its start needed.
    let begun = Box::pin(begin(run, request)).await;
    if let Some((run, watched, orders)) = begun {
        look_after(run, watched, orders).await;
    }
}

/// Begins a run; nothing is left of one that could not begin.
async fn begin(run: Run, request: PrepareRequest) -> Begun {
    let (instance, unenforced) = (Arc::clone(&request.instance), request.unenforced);
    let shared = Arc::clone(&run.shared);
    let turn = tokio::select! {
        // Cancel-safe: whoever leaves a queue has not been served.
        turn = shared.turn_to_start(run.key.namespace()) => turn,
        // Cancel-safe: a token. Nothing has been made yet.
        () = shared.leave.cancelled() => return None,
    };
    match make(&run, request).await {
        Ok(held) => {
            // It could not join what was made for it.
            if let Some(error) = held.limits.refusal(&instance, unenforced) {
                end(&run, held).await;
                fail(&run, error, Fault::Instance).await;
                return None;
            }
            if !held.limits.is_empty() {
                limit::tell(&run, held.limits.clone()).await;
            }
            let process = held.watched.identity.clone();
            run.shared.report(Event::Prepared { key: run.key.clone(), run: run.id, process }).await;
            return hold(run, held, turn).await;
        }
        Err(Refusal::PortTaken { port, holder, listening }) => {
            let key = run.key.clone();
            run.shared.report(Event::PortTaken { key, run: run.id, port, holder, listening }).await;
        }
        Err(Refusal::Failed(error, fault)) => {
            take_back(&run).await;
            fail(&run, error, fault).await;
        }
    }
    None
}

/// Removes the credentials of a run that came to nothing.
async fn take_back(run: &Run) {
    let (shared, key, id) = (Arc::clone(&run.shared), run.key.clone(), run.id);
    let work = move || clear_credentials(&shared, &key, id);
    run.shared.blocking(run.key.namespace(), work).await;
}

async fn fail(run: &Run, error: Error, fault: Fault) {
    run.shared.report(Event::StartFailed { key: run.key.clone(), run: run.id, error, fault }).await;
}

async fn make(run: &Run, request: PrepareRequest) -> Result<Held, Refusal> {
    let shared = Arc::clone(&run.shared);
    let wanted = request.instance.content.supervision.resources.clone();
    let ready = move || {
        let ready = prepare(&shared.surroundings, &request)?;
        shared.output.begin(&request.key, request.run);
        Ok(ready)
    };
    let Ready { spawn, cgroup, mut limits, confinement, paths } =
        run.shared.blocking(run.key.namespace(), ready).await?;
    let HeldChild { pid, pidfd, release, outcome, in_cgroup, joined } = match run.shared.spawner.spawn(spawn).await {
        Ok(child) => child,
        Err(failure) => {
            remove(run, cgroup).await;
            return Err(Refusal::Failed(paths.error(&run.key, failure), failure.fault()));
        }
    };
    let whole = cgroup.as_ref().is_none_or(|cgroup| in_cgroup && joined.count_ones() as usize == cgroup.limits().len());
    let cgroup = match cgroup {
        Some(unused) if !in_cgroup => {
            tracing::warn!(run = %run.id, cgroup = %unused.path().display(), "a process could not be made in its cgroup");
            remove(run, Some(unused)).await;
            None
        }
        Some(mut cgroup) => {
            cgroup.keep_limits(|number| joined & (1 << number) != 0);
            Some(cgroup)
        }
        None => None,
    };
    if !whole {
        limits = limit::enforce(run, cgroup.clone(), wanted).await;
    }
    watch(run, pid, pidfd, cgroup, confinement)
        .map(|watched| Held { watched, release, outcome, paths: paths.clone(), limits })
        .map_err(|cause| {
            // The child exits as its release has been dropped; who it was cannot be said, so it is left to a reaper.
            run.shared.known.abandon(pid);
            let errno = Errno::from_io_error(&cause).unwrap_or(Errno::IO);
            let failure = SpawnFailure { stage: Stage::HandOver, errno };
            Refusal::Failed(paths.error(&run.key, failure), failure.fault())
        })
}

/// Reads who the child is. It is held and not reaped, so that its pid is its own.
fn watch(
    run: &Run,
    pid: i32,
    pidfd: OwnedFd,
    cgroup: Option<RunCgroup>,
    confinement: Confinement,
) -> io::Result<Watched> {
    let start_time = ProcessStat::read(pid)?.start_time;
    let boot = clock::now().boot;
    let path = cgroup.as_ref().map(|cgroup| cgroup.path().to_owned());
    let identity = ProcessIdentity { pid, start_time, boot, cgroup: path, confinement };
    let tree = match cgroup {
        Some(cgroup) => Tree::Cgroup(cgroup),
        None => Tree::Group(Group { main: identity.clone(), run: run.id, proof: SessionProof::Held }),
    };
    Watched::new(identity, pidfd, tree)
}

/// Holds a child until it is said what becomes of it.
async fn hold(run: Run, held: Held, turn: Turn<'_>) -> Begun {
    tokio::select! {
        // Cancel-safe: see there.
        orders = run.mailbox.take() => {
            if let Orders { commit: Some(record), discard: false, kill: false, drop: false, limit, save, signals, sent } = orders {
                let rest = Orders { limit, save, signals, sent, ..Orders::default() };
                return commit(run, held, record, rest, turn).await;
            }
            end(&run, held).await;
            fail(&run, let_go(&run), Fault::Instance).await;
        },
        // Cancel-safe: an end stays readable.
        () = held.watched.ended() => {
            end(&run, held).await;
            fail(&run, ended_early(&run), Fault::Instance).await;
        }
        // Cancel-safe: a token.
        () = run.shared.leave.cancelled() => end(&run, held).await,
    }
    None
}

/// Writes the record, and only then releases the child.
async fn commit(run: Run, held: Held, record: Box<RunRecord>, rest: Orders, turn: Turn<'_>) -> Begun {
    let records = Arc::clone(&run.shared.records);
    let oom = record.supervision.resources.on_oom();
    if let Err(error) = run.shared.blocking(run.key.namespace(), move || records.save_run(&record)).await {
        end(&run, held).await;
        fail(&run, error, Fault::Launcher).await;
        return None;
    }
    let Held { watched, release, outcome, paths, limits: _ } = held;
    let released = rustix::io::retry_on_intr(|| rustix::io::write(&release, &[1]));
    drop(release);
    let failure = match released {
        Ok(_) => tokio::select! {
            // Dropped only when everything is.
            failure = turn.lasts(EXEC, exec_failure(&run, &watched, outcome)) => failure.map(|failure| (paths.error(&run.key, failure), failure.fault())),
            // Cancel-safe: a token. The record is written, so that the next launcher finds what becomes of it.
            () = run.shared.leave.cancelled() => return None,
        },
        Err(_) => Some((ended_early(&run), Fault::Instance)),
    };
    match failure {
        None => {
            let Watched { identity, tree, .. } = &watched;
            run.shared.meters.begin(&run.key, run.id, identity, tree, oom, Beginning::Started);
            run.shared.output.runs(&run.key, run.id, identity.pid);
            run.shared.report(Event::Started { key: run.key.clone(), run: run.id }).await;
            Some((run, watched, rest))
        }
        Some((error, fault)) => {
            let cgroup = bury(&run, watched).await;
            // Nothing was executed, so that nothing of it has to be remembered first.
            remove_traces(&run, cgroup).await;
            fail(&run, error, fault).await;
            None
        }
    }
}

/// What the child reports of its exec; nothing when that worked. It can take as long as a disk takes to answer, so a
/// kill is carried out meanwhile.
async fn exec_failure(run: &Run, watched: &Watched, outcome: OwnedFd) -> Option<SpawnFailure> {
    let read = async {
        let mut report = Vec::new();
        // What cannot be read is as if nothing had been said: whether the process lives shows on its pidfd.
        if let Ok(mut pipe) = pipe::Receiver::from_owned_fd(outcome) {
            drop(pipe.read_to_end(&mut report).await);
        }
        report
    };
    tokio::pin!(read);
    let report = tokio::select! {
        // Both are pinned or leave what they wait for in place.
        report = &mut read => report,
        () = run.mailbox.kill_ordered() => {
            watched.signal(Signal::KILL);
            read.await
        }
    };
    let (stage, errno) = report.split_first_chunk::<1>()?;
    let errno = i32::from_le_bytes(*errno.first_chunk()?);
    Some(SpawnFailure { stage: Stage::from_u8(stage[0]), errno: Errno::from_raw_os_error(errno) })
}

/// Lets go of a held child that has no record and sees it end.
async fn end(run: &Run, held: Held) {
    let Held { watched, release, .. } = held;
    drop(release);
    // It exits by itself unless somebody has stopped it.
    watched.signal(Signal::KILL);
    let cgroup = bury(run, watched).await;
    remove(run, cgroup).await;
    take_back(run).await;
}

/// Waits for the end of a child that was never executed, and reaps it.
async fn bury(run: &Run, watched: Watched) -> Option<RunCgroup> {
    watched.ended().await;
    exit::wait(watched.fd(), Reaping::Reap);
    run.shared.known.remove(watched.identity.pid);
    cgroup_of(&watched.tree)
}

async fn remove(run: &Run, cgroup: Option<RunCgroup>) {
    let Some(cgroup) = cgroup else { return };
    if let Err(error) = run.shared.blocking(run.key.namespace(), move || cgroup.remove()).await {
        // It is empty, and the next launcher removes what is.
        tracing::debug!(run = %run.id, %error, "the cgroup of a run could not be removed");
    }
}

fn let_go(run: &Run) -> Error {
    Error::new(Code::ProcessStartFailed, "The start was called off before the process was executed")
        .with("process_id", &run.key)
        .suggest("nothing needs to be done: it is started again when it is wanted")
}

fn ended_early(run: &Run) -> Error {
    Error::new(Code::ProcessStartFailed, "The process was killed before it was executed")
        .with("process_id", &run.key)
        .suggest("look for what kills processes here: dmesg | grep -i -e oom -e killed")
}
