//! The host: carries out effects on this machine and reports what happens as events.

use super::adopt::{Found, Verifier};
use super::cgroup::{Base, CgroupRung, Hierarchy, Process, tidy};
use super::clock;
use super::credentials::{CredentialSource, Credentials};
use super::known::KnownPids;
use super::lock::lock_cgroups;
use super::mailbox::Orders;
use super::orphans::watch;
use super::output::{LogLimits, Output};
use super::prepare::Surroundings;
use super::privileges::Rights;
use super::reaper::{Owned, reap_orphans};
use super::records::Records;
use super::run::stop::Killing;
use super::run::{Remains, Run, Watched, clear_away, forget, limit, look_after, start};
use super::shared::Shared;
use super::spawner::Client;
use super::squatter::rightful;
use super::state_folder::{Presence, make_private};
use super::sweep::{Orphans, strays};
use super::tenants::Tenants;
use super::usage::{self, Beginning, Meters};
use crate::error::{Code, Error, Result};
use crate::metrics::Metrics;
use crate::model::{Ceilings, IsolationLevel, Key, Protection, RunId, RunRecord, TenantUsers};
use crate::observed::{Event, RestoredRun};
use crate::plan::{Effect, Note, NoteLevel};
use crate::probe::{Probed, Prober};
use rustix::process::{Resource, Rlimit, getpid, getrlimit, set_child_subreaper, setrlimit};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::Instrument as _;

/// What the host needs to know of the configuration.
#[derive(Debug, Clone)]
pub struct HostSettings {
    /// The state folder; its path is part of the name of our cgroup.
    pub state_dir: PathBuf,
    /// Where the output of instances goes: one append-only file per key.
    pub log_dir: PathBuf,
    /// How much of it is kept.
    pub log_limits: LogLimits,
    /// Where the cgroups of runs are made.
    pub cgroup: CgroupChoice,
    /// What of the launcher's own environment processes inherit.
    pub inherited_env: BTreeMap<String, String>,
    /// The program that is run as the spawner: one whose `main` begins with [`super::spawner::run_if_spawner`].
    /// This very program when `None`.
    pub spawner_exe: Option<PathBuf>,
    /// Whether orphans of runs become children of this process, which then reaps them. It concerns the whole process,
    /// so only the daemon sets it.
    pub subreaper: Subreaper,
    /// What becomes of processes in our cgroups that have no record.
    pub orphans: Orphans,
    /// How often they are looked for.
    pub orphan_interval: Duration,
    /// Whether tenants get users of their own, unless a manifest says otherwise.
    pub tenant_users: TenantUsers,
    /// The users that they get, both ends included.
    pub tenant_uids: (u32, u32),
    /// No process is started without these.
    pub required_protections: BTreeSet<Protection>,
    /// What the groups of namespaces are held to.
    pub ceilings: Ceilings,
    /// The folders whose files instances may name as their credentials.
    pub credentials: Vec<CredentialSource>,
    /// What runs use is told to these.
    pub metrics: Arc<Metrics>,
}

/// Whether this process adopts the orphans of its runs: whether it is the launcher's own, so that it may also be moved
/// into a cgroup where others can have controllers beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subreaper {
    /// It does, and reaps them.
    On,
    /// They go to the machine's own reaper.
    Off,
}

/// Where the cgroups of runs are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CgroupChoice {
    /// Below the launcher's own cgroup: of the v2 hierarchy, if that is writable, else of the v1 freezer; else none.
    Auto,
    /// Below this cgroup of either, given as a path of the file system; it is an error if that is not possible.
    Under(PathBuf),
    /// Below the launcher's own cgroup, and killed like this; else none.
    On(CgroupRung),
    /// None are made.
    Off,
}

/// By what the tree of a run is tracked and killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tracking {
    /// By a v2 cgroup of its own below this one: nothing escapes.
    Cgroup(PathBuf),
    /// By a cgroup of its own below this one of the v1 freezer: nothing escapes.
    V1Freezer(PathBuf),
    /// By session, ancestry and `RUN_ID`: a process that leaves all three behind escapes. Says why.
    ProcessGroup(String),
}

/// What the host keeps in the state folder, besides records.
#[derive(Debug, Clone)]
pub struct HostFiles(Arc<Surroundings>);

impl HostFiles {
    /// Makes the folder of logs again where somebody has removed it. What runs goes on writing into the file that it has:
    /// that has no name any more until the next start.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE` when it cannot be made.
    pub fn mend_logs(&self) -> Result<Presence> {
        let folder = &self.0.log_dir;
        if folder.is_dir() {
            return Ok(Presence::Whole);
        }
        make_private(folder).map_err(|cause| no_logs(folder, &cause))?;
        Ok(Presence::Made)
    }

    /// Notes down once more which users tenants have, where that was removed or replaced.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE` when it cannot be written.
    pub fn mend_tenants(&self) -> Result<Presence> {
        self.0.tenants.mend()
    }

    /// Notes down once more which cgroups are in use, where that was removed.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`, also when the state folder has come to be at another real path.
    pub fn mend_cgroups(&self) -> Result<Presence> {
        self.0.cgroups.as_ref().map_or(Ok(Presence::Whole), Base::mend)
    }
}

/// Carries out effects. Dropping it, like [`Host::shutdown`], leaves every process as it is.
#[derive(Debug)]
pub struct Host {
    shared: Arc<Shared>,
    prober: Prober,
    tracking: Tracking,
    state_dir: PathBuf,
    orphans: Orphans,
    /// Keeps others away from our cgroups.
    cgroups: Option<File>,
}

impl Host {
    /// Starts the spawner, finds out how trees can be tracked, and is then ready. Within a tokio runtime; the state
    /// folder is locked and exists.
    pub fn start(settings: HostSettings, records: Arc<Records>, events: mpsc::Sender<Event>) -> Result<Self> {
        clock::boot()?;
        let HostSettings {
            state_dir,
            log_dir,
            log_limits,
            cgroup,
            inherited_env,
            spawner_exe,
            subreaper,
            orphans,
            orphan_interval,
            tenant_users,
            tenant_uids,
            required_protections,
            ceilings,
            credentials,
            metrics,
        } = settings;
        make_private(&log_dir).map_err(|cause| no_logs(&log_dir, &cause))?;
        let log_dir = std::fs::canonicalize(&log_dir).map_err(|cause| no_logs(&log_dir, &cause))?;
        let process = match subreaper {
            Subreaper::On => Process::Ours,
            Subreaper::Off => Process::Embedding,
        };
        let (cgroups, tracking) = match Base::set_up(&cgroup, process, &state_dir)? {
            Ok(base) => {
                base.set_ceilings(ceilings);
                base.hold_tenants();
                let tracking = match base.hierarchy() {
                    Hierarchy::V2 => Tracking::Cgroup(base.path().to_owned()),
                    Hierarchy::Freezer | Hierarchy::Limits => Tracking::V1Freezer(base.path().to_owned()),
                };
                (Some(base), tracking)
            }
            Err(reason) => (None, Tracking::ProcessGroup(reason)),
        };
        let known = Arc::new(KnownPids::default());
        let spawner = Client::start(spawner_exe, Arc::clone(&known))?;
        if !spawner.has_spawner() {
            tracing::warn!(
                "main does not begin with pattern_launcher::run_if_spawner(), so processes are started through a shell: \
                 that an exec failed shows only as exit code 126 or 127, and their first argument is their path"
            );
        }
        let open_files = raise_open_files();
        let prober = Prober::new(events.clone(), clock::now)?;
        let rights = Rights::of_this_process(spawner.has_spawner(), tenant_users, required_protections);
        if tenant_users == TenantUsers::On && !rights.root {
            tracing::warn!("tenants run as the launcher's own user: only root can give them users of their own");
        }
        let tenants = Tenants::new(records.state_folder(), tenant_uids);
        let output = Arc::new(Output::start(&log_dir, log_limits)?);
        let credentials = Credentials::new(credentials, &state_dir, output.masks());
        let surroundings = Surroundings { inherited_env, log_dir, cgroups, open_files, rights, tenants, credentials };
        let shared = Arc::new(Shared::new(surroundings, records, output, spawner, known, Meters::new(metrics), events));
        drop(tokio::spawn(read_meters(Arc::clone(&shared))));
        if subreaper == Subreaper::On {
            match set_child_subreaper(Some(getpid())) {
                Ok(()) => {
                    let owned = Owned { runs: Arc::clone(&shared.known), probes: prober.children() };
                    drop(tokio::spawn(reap_orphans(owned, shared.leave.clone())));
                }
                Err(errno) => tracing::warn!(%errno, "orphans of processes go to the machine's own reaper"),
            }
        }
        let looking = watch(Arc::clone(&shared), state_dir.clone(), orphans, orphan_interval);
        drop(shared.tasks.spawn(looking));
        Ok(Self { shared, prober, tracking, state_dir, orphans, cgroups: None })
    }

    /// Keeps other launchers with this state folder away from its cgroups; before [`Host::restore`], which ends what is in
    /// them without a record. The lock of the state folder does the same, and may be gone with the folder.
    ///
    /// # Errors
    /// `ALREADY_RUNNING` with the pid of the holder; `INVALID_CONFIGURATION` when that is this program.
    pub fn hold_cgroups(&mut self) -> Result<()> {
        if let Some(base) = &self.shared.surroundings.cgroups {
            self.cgroups = lock_cgroups(base.path())?;
        }
        Ok(())
    }

    /// Verifies what the last launcher left, watches what lives, and ends what is in our cgroups without a record.
    /// `damaged` are the file names of the keys whose records cannot be read: their cgroups are left alone. What is
    /// returned besides the records are keys of processes that have none and cannot be ended.
    pub async fn restore(&self, records: Vec<RunRecord>, damaged: &[String]) -> Vec<RestoredRun> {
        let recorded: BTreeSet<PathBuf> = records.iter().filter_map(|record| record.process.cgroup.clone()).collect();
        self.shared.surroundings.credentials.retain(records.iter().map(|record| (&record.key, record.run)), damaged);
        let stray = strays(&self.state_dir, &recorded, &damaged.iter().cloned().collect());
        let verified = Verifier::new(self.state_dir.clone(), clock::now().boot).verify_all(records).await;
        // Only now: each new task would wake a thread of the runtime, which costs as much as the verifying.
        let mut restored: Vec<_> = verified.into_iter().map(|(record, found)| self.take_over(record, found)).collect();
        let left = self.orphans.deal(stray).await;
        tidy(&self.state_dir, |run| self.shared.has_task(run));
        self.shared.set_orphans(left.iter().map(|(cgroup, _)| cgroup.clone()).collect());
        restored.extend(
            left.into_iter().map(|(cgroup, error)| RestoredRun::Orphan { file_name: cgroup.key_file_name(), error }),
        );
        restored
    }

    /// Removes the folders of sessions other than these, which were forgotten while no launcher ran.
    pub fn keep_sessions<'a>(&self, keys: impl Iterator<Item = &'a Key>) {
        let sessions = keys.filter(|key| key.level() == IsolationLevel::Session).map(Key::file_name).collect();
        self.shared.surroundings.tenants.retain(&sessions);
        self.sweep_tenants();
    }

    fn take_over(&self, record: RunRecord, found: Found) -> RestoredRun {
        match found {
            Found::Rebooted => RestoredRun::Rebooted(record),
            Found::Unverifiable(error) => RestoredRun::Unverifiable { file_name: record.key.file_name(), error },
            Found::Alive(watched) => {
                self.shared.known.add(record.process.pid);
                self.shared.surroundings.credentials.adopt(&record.key, record.run);
                let run = self.run(&record.key, record.run);
                let Watched { identity, tree, .. } = &watched;
                let oom = record.supervision.resources.on_oom();
                self.shared.meters.begin(&record.key, record.run, identity, tree, oom, Beginning::Adopted);
                self.shared.output.runs(&record.key, record.run, identity.pid);
                // A launcher that has died may have recorded a limit and not set it; and what is in force is to be told.
                let limit = limit::due(&record, tree, self.shared.surroundings.cgroups.as_ref());
                self.spawn(&record.key, record.run, look_after(run, watched, Orders { limit, ..Orders::default() }));
                RestoredRun::Alive(record)
            }
            Found::Ended { exit, oom, tree, tree_gone } => {
                let run = self.run(&record.key, record.run);
                let remains = Remains { identity: record.process.clone(), pidfd: None, tree };
                self.spawn(&record.key, record.run, clear_away(run, remains, tree_gone, Killing::default(), false));
                RestoredRun::Ended { record, exit, oom, tree_gone }
            }
        }
    }

    /// Begins to carry out an effect; never waits. Effects of one run happen in the order in which they are given.
    pub fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::SaveMemory(memory) => self.shared.records.save_memory(*memory),
            Effect::DropMemory(key) => self.drop_memory(key),
            Effect::Prepare(request) => {
                let run = self.run(&request.key, request.run);
                let key = request.key.clone();
                self.spawn(&key, request.run, start::whole(run, request));
            }
            Effect::Commit(record) => self.tell(record.run, |orders| orders.commit = Some(record)),
            Effect::Discard { run, .. } => self.tell(run, |orders| orders.discard = true),
            Effect::SaveRun(record) => self.tell(record.run, |orders| orders.save(record)),
            Effect::Signal { run, signal, .. } => self.tell(run, |orders| orders.signal(signal)),
            Effect::KillTree { run, .. } => self.tell(run, |orders| orders.kill = true),
            Effect::Limit { run, resources, .. } => self.tell(run, |orders| orders.limit = Some(resources)),
            Effect::HoldTo(ceilings) => self.hold_to(ceilings),
            Effect::DropRun { key, run } => self.drop_run(&key, run),
            Effect::Probe { key, run, check, instance, ports, confinement } => {
                let inherited = self.shared.surroundings.inherited_by(&instance, run, &confinement);
                let mask = self.shared.output.mask(&instance);
                let rightful = rightful(&self.shared, &key, run, ports);
                self.prober.begin(key, run, check, Probed { instance, ports, inherited, confinement, mask, rightful });
            }
            Effect::StopProbe { key, run } => self.prober.end(&key, run),
            Effect::Abandon { file_name, except } => self.abandon(file_name, except),
            // These are for the store and for the metrics, and the loop has told them.
            Effect::Expire { .. } | Effect::Failed { .. } => {}
            Effect::Note(note) => print(&note),
        }
    }

    /// What is kept in the state folder, for whoever looks after that.
    pub fn files(&self) -> HostFiles {
        HostFiles(Arc::clone(&self.shared.surroundings))
    }

    /// What instances print.
    pub fn output(&self) -> Arc<Output> {
        Arc::clone(&self.shared.output)
    }

    /// By what trees are tracked and killed here.
    pub const fn tracking(&self) -> &Tracking {
        &self.tracking
    }

    /// Stops looking after the runs and leaves every process as it is; children that are still held are let go of.
    pub async fn shutdown(self) {
        self.shared.leave.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    fn drop_memory(&self, key: Key) {
        if self.shared.surroundings.tenants.release(&key) {
            self.sweep_tenants();
        }
        self.shared.output.gone(&key);
        self.shared.records.drop_memory(key);
    }

    /// Removes the folders of sessions that are declared no more.
    fn sweep_tenants(&self) {
        let shared = Arc::clone(&self.shared);
        drop(self.shared.tasks.spawn(async move {
            let surroundings = Arc::clone(&shared.surroundings);
            if let Err(error) = shared.blocking("", move || surroundings.tenants.sweep()).await {
                tracing::warn!(%error, "the folders of a session that is gone cannot be removed");
            }
        }));
    }

    fn hold_to(&self, ceilings: Ceilings) {
        let surroundings = Arc::clone(&self.shared.surroundings);
        let Some(base) = &surroundings.cgroups else { return };
        base.set_ceilings(ceilings);
        let shared = Arc::clone(&self.shared);
        drop(self.shared.tasks.spawn(async move {
            let surroundings = Arc::clone(&shared.surroundings);
            shared.blocking("", move || surroundings.cgroups.as_ref().map(Base::hold_tenants)).await;
        }));
    }

    fn abandon(&self, file_name: String, except: Option<RunId>) {
        let shared = Arc::clone(&self.shared);
        drop(self.shared.tasks.spawn(async move {
            let records = Arc::clone(&shared.records);
            let aside = shared.blocking("", move || records.abandon_runs(&file_name, except)).await;
            if let Err(error) = aside {
                tracing::error!(%error, "a record that was given up could not be set aside; it blocks its key again after a restart");
            }
        }));
    }

    fn run(&self, key: &Key, run: RunId) -> Run {
        Run { shared: Arc::clone(&self.shared), key: key.clone(), id: run, mailbox: self.shared.open_mailbox(run) }
    }

    fn spawn(&self, key: &Key, run: RunId, task: impl Future<Output = ()> + Send + 'static) {
        let shared = Arc::clone(&self.shared);
        // Whatever the level is now, it may be changed later, and then what is logged should say what it is about.
        let span = tracing::error_span!("run", %key, %run);
        // On the heap, or the block below would hold it twice: as what it captures, and as what it awaits.
        let task = Box::pin(task.instrument(span));
        // Its handle is not needed: the tracker knows when it is done.
        drop(self.shared.tasks.spawn(async move {
            task.await;
            shared.close_mailbox(run);
        }));
    }

    fn tell(&self, run: RunId, add: impl FnOnce(&mut Orders)) {
        if let Some(mailbox) = self.shared.mailbox(run) {
            mailbox.tell(add);
        } else {
            // It has failed to start, or is gone: the event that says so is on its way to the loop.
            tracing::debug!(%run, "an effect came after the end of its run");
        }
    }

    /// A record can outlive its task: of another boot, for example.
    fn drop_run(&self, key: &Key, id: RunId) {
        if let Some(mailbox) = self.shared.mailbox(id) {
            return mailbox.tell(|orders| orders.drop = true);
        }
        let run = self.run(key, id);
        self.spawn(key, id, async move { forget(&run, None).await });
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.shared.leave.cancel();
        if let Some(base) = &self.shared.surroundings.cgroups {
            base.remove_if_empty();
        }
        self.shared.surroundings.credentials.remove_if_empty();
    }
}

fn no_logs(folder: &Path, cause: &std::io::Error) -> Error {
    Error::new(Code::StoreUnavailable, "The folder for logs cannot be used")
        .with("log_dir", folder.display())
        .caused_by(cause)
        .suggest(format!("make {} writable for this user", folder.display()))
}

/// Reads what runs use, for as long as they are looked after.
async fn read_meters(shared: Arc<Shared>) {
    loop {
        tokio::select! {
            // Cancel-safe: a sleep.
            () = tokio::time::sleep(usage::INTERVAL) => {}
            // Cancel-safe: a token.
            () = shared.leave.cancelled() => return,
        }
        let reading = Arc::clone(&shared);
        let broken = shared.blocking("", move || reading.meters.read_some()).await;
        for run in broken {
            if let Some(mailbox) = shared.mailbox(run) {
                tracing::warn!(%run, "a process was killed for want of memory, and the rest of its instance is killed too");
                mailbox.tell(|orders| orders.kill = true);
            }
        }
    }
}

/// The soft limit of open files that this process was started with.
static OPEN_FILES: OnceLock<u64> = OnceLock::new();

/// Raises the launcher's limit of open files as far as it goes, since each run takes one and a start takes three.
/// Returns the limit before, which is what processes get: some close or allot for every possible descriptor.
fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let before = *OPEN_FILES.get_or_init(|| limit.current.unwrap_or(u64::MAX));
    if let Err(errno) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::warn!(%errno, "the limit of open files could not be raised");
    }
    before
}

/// The one place where what the loop says becomes a log line.
fn print(note: &Note) {
    let Note { level, key, run, message, reason, by } = note;
    let (run, by) = (run.map(tracing::field::display), by.as_ref().map(tracing::field::display));
    match level {
        NoteLevel::Info => tracing::info!(%key, run, reason, by, "{message}"),
        NoteLevel::Warn => tracing::warn!(%key, run, reason, by, "{message}"),
        NoteLevel::Error => tracing::error!(%key, run, reason, by, "{message}"),
    }
}
