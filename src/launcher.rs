//! The composition root: what has to be started, in which order, and what has to be wound up.
//!
//! The state folder is locked before anything is read, records are read before anything is adopted, survivors are
//! adopted before the desired directories are read, and only then does the loop turn. Signals are not handled here: a
//! program that embeds a launcher has its own.

mod ask;
mod builder;
mod launch_dir;
mod reboot;
mod roots;
mod translate;
mod upkeep;

pub use builder::Builder;
pub use translate::{log_dir, offline_settings, store_settings};

use crate::act::records::Loaded as LoadedRecords;
use crate::act::{Host, LauncherLocks, Records, StateFolder, StatusWriter, Tracking, clock};
use crate::api::{self, Addresses, Api, Listeners, Service};
use crate::config::{Config, OnExit};
use crate::control::Control;
use crate::desired::root::RootLock;
use crate::desired::store::{self, StoreHandle};
use crate::error::{Code, Error, Result};
use crate::health::Vitals;
use crate::http::{self, Http};
use crate::metrics::Metrics;
use crate::observed::{Restored, RestoredRun};
use crate::reconciler::engine::Engine;
use crate::reconciler::{Board, Reconciler, Remains, Request, SystemDice};
use crate::telemetry;
use launch_dir::{make_launch_dir, provide_launch_dir};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};
use tokio_util::sync::CancellationToken;
use translate::{host_settings, needing_restart};
use upkeep::{Belongings, Upkeep};

/// Events on their way to the loop: a thousand runs may each have a few. A run that finds the queue full waits.
const EVENTS: usize = 4096;
/// Changes of the desired set on their way to the loop; the store waits when it is ahead.
const CHANGES: usize = 16;
/// Requests on their way to the loop: as many as one turn takes. A caller that finds the queue full waits.
const REQUESTS: usize = 256;

/// The wait, after every process has been ordered to be killed, for what cannot be killed.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// A launcher that runs. Dropping it leaves every process as it is.
///
/// Several may live in one program, each with a state folder of its own. The methods here ask in the name of this
/// program; [`Control`] asks in anybody's.
#[derive(Debug)]
pub struct Launcher {
    config: Config,
    control: Control,
    http: Http,
    api: Option<Api>,
    store: StoreHandle,
    /// The task that makes the launch folder as soon as that is possible.
    launch_dir: Option<AbortHandle>,
    records: Arc<Records>,
    requests: mpsc::Sender<Request>,
    task: JoinHandle<Remains>,
    held: Held,
    _scratch: Option<TempDir>,
}

/// The state folder. It is let go of with the launcher, so that nothing of it is made anew afterwards.
#[derive(Debug)]
struct Held {
    folder: Arc<StateFolder>,
    watching: Option<AbortHandle>,
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(watching) = &self.watching {
            watching.abort();
        }
        self.folder.let_go();
    }
}

/// In what a launcher runs.
#[derive(Debug)]
enum Role {
    /// In a process of its own.
    Daemon,
    /// In somebody's program.
    Embedded(
        /// What goes with it.
        Option<TempDir>,
    ),
}

/// A launcher for trying things: the development profile, everything but the patterns in a temporary folder, nothing
/// listened on. Processes end with [`Launcher::shutdown`]; if the program dies before, nobody takes them over.
///
/// ```no_run
/// # async fn f() -> pattern_launcher::Result<()> {
/// let launcher = pattern_launcher::quick_start("./patterns").await?;
/// launcher.shutdown(std::time::Duration::from_secs(30)).await
/// # }
/// ```
///
/// # Errors
/// As for [`Builder::build`].
pub async fn quick_start(patterns_dir: impl Into<PathBuf>) -> Result<Launcher> {
    let scratch = tempfile::Builder::new().prefix("pattern-launcher-").tempdir().map_err(|cause| {
        Error::new(Code::StoreUnavailable, "a temporary folder cannot be made")
            .caused_by(&cause)
            .suggest("set TMPDIR to a folder that can be written, or use Launcher::builder() with a state_dir")
    })?;
    Launcher::builder().patterns_dir(patterns_dir).in_scratch(scratch).build().await
}

impl Launcher {
    /// Begins to build a launcher into this program.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Takes over what the last launcher left, and begins, as the daemon does. Within a multi-threaded tokio runtime.
    ///
    /// # Errors
    /// `ALREADY_RUNNING` when another launcher holds the state folder or a desired root, `STORE_UNAVAILABLE` when the
    /// state folder cannot be used, `INVALID_CONFIGURATION` when an address or the cgroup cannot be used.
    pub async fn start(config: Config) -> Result<Self> {
        Self::begin(config, Role::Daemon).await
    }

    async fn begin(config: Config, role: Role) -> Result<Self> {
        let boot = clock::boot()?;
        let folder = StateFolder::acquire(&config.state_dir)?;
        let mut held = Held { folder: Arc::clone(&folder), watching: None };
        roots::refuse_held(&config).await?;
        // Before anything is touched: a launcher that cannot answer should not begin.
        let http = http::Listeners::open(config.http, config.http_socket.clone()).await?;
        let listeners = Listeners::open(config.socket.clone(), config.grpc, config.grpc_tls.as_ref()).await?;
        let (records, mut loaded) = Records::open_in(&folder, boot)?;
        let boots = reboot::after_reboot(&config, boot, &records, &mut loaded).await?;
        let records = Arc::new(records);
        let board = Arc::new(Board::new(clock::now()));
        board.chronicle().go_on(std::mem::take(&mut loaded.events), records.events());
        board.chronicle().audit_in(records.audit());
        let metrics = Arc::new(Metrics::new(config.metrics_labels));
        let upkeep = Upkeep::of(&folder, &records);
        let vitals = vitals(&board, &upkeep, &metrics);
        let doors = http.door().into_iter().chain(listeners.door()).collect();
        let http = Http::serve(http, &vitals, &config.http_hosts);
        let (event_sender, events) = mpsc::channel(EVENTS);
        let mut host = Host::start(host_settings(&config, &role, &metrics), Arc::clone(&records), event_sender)?;
        roots::hold_cgroups(&mut host).await?;
        tell_tracking(host.tracking());
        let output = host.output();
        let (delivery_sender, desired) = mpsc::channel(CHANGES);
        let declared = loaded.memories.iter().map(|memory| Arc::clone(&memory.instance)).collect();
        let mut engine = Engine::new(config.policy.clone());
        engine.restore(adopt(&host, loaded).await, clock::now(), &mut SystemDice);
        let made = make_launch_dir(&config.launch_dir);
        let store = store::spawn(store_settings(&config, Some(locks(&folder))), declared, clock::now, delivery_sender);

        let status = StatusWriter::spawn(&folder, std::process::id(), telemetry::wall_time);
        let belongings =
            Belongings { status: status.file(), board: Arc::clone(&board), boots, host: host.files(), doors };
        held.watching = Some(upkeep.begin(belongings, store.clone()));
        let (requests, asked) = mpsc::channel(REQUESTS);
        let resync = config.resync_interval;
        let reconciler = Reconciler {
            engine,
            host,
            board: Arc::clone(&board),
            status,
            events,
            desired,
            store: store.clone(),
            metrics: Arc::clone(&metrics),
            wall_time: telemetry::wall_time,
            resync,
        };
        let closing = CancellationToken::new();
        let control =
            Control::new(board, store.clone(), requests.clone(), Arc::clone(&records), output, metrics, closing);
        let service = Service::new(control.clone(), vitals.clone());
        let api = if listeners.is_empty() { None } else { Some(api::serve(listeners, service, vitals).await?) };
        let task = tokio::spawn(reconciler.run(asked));
        let launch_dir = provide_launch_dir(&config, &store, made);
        let scratch = match role {
            Role::Daemon => None,
            Role::Embedded(scratch) => scratch,
        };
        Ok(Self { config, control, http, api, store, launch_dir, records, requests, task, held, _scratch: scratch })
    }

    /// What can be asked of it, in anybody's name.
    pub const fn control(&self) -> &Control {
        &self.control
    }

    /// What it runs with.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Where `/metrics`, `/health` and `/ready` are on TCP.
    pub const fn http_address(&self) -> Option<SocketAddr> {
        self.http.address()
    }

    /// The unix socket that they are on.
    pub fn http_socket(&self) -> Option<&Path> {
        self.http.socket()
    }

    /// Where the gRPC API is.
    pub fn api_addresses(&self) -> Addresses {
        self.api.as_ref().map(|api| api.addresses().clone()).unwrap_or_default()
    }

    /// Looks at the desired directories now.
    pub fn look(&self) {
        self.store.poke();
    }

    /// Takes over another configuration as far as a running launcher can, looks at the desired directories, and gives
    /// back the settings that changed and need a restart.
    pub async fn reload(&mut self, config: Config) -> Vec<&'static str> {
        let fixed = needing_restart(&self.config, &config);
        let (policy, resync) = (config.policy.clone(), config.resync_interval);
        // The state folder stays, so what is kept in it stays there, too.
        let next = Config { state_dir: self.config.state_dir.clone(), ..config };
        let made = make_launch_dir(&next.launch_dir);
        self.control.output().retune(next.log_limits);
        self.store.reconfigure(store_settings(&next, Some(locks(&self.held.folder)))).await;
        self.request(Request::Retune { policy, resync }).await;
        self.abort_launch_dir();
        self.launch_dir = provide_launch_dir(&next, &self.store, made);
        self.config = next;
        fixed
    }

    fn abort_launch_dir(&self) {
        if let Some(task) = &self.launch_dir {
            task.abort();
        }
    }

    /// Begins to end as the configuration says. While processes are being ended, asking again ends them at once, and a
    /// third time leaves what will not end.
    pub async fn stop(&self) {
        self.control.closing().cancel();
        self.request(match self.config.on_exit {
            OnExit::Terminate => Request::Terminate,
            OnExit::Detach => Request::Detach,
        })
        .await;
    }

    async fn request(&self, request: Request) {
        // The loop that would be asked may just have ended, which is what [`Launcher::ended`] says.
        drop(self.requests.send(request).await);
    }

    /// Waits until it has ended. Cancel-safe; not to be called again once it has returned.
    ///
    /// # Errors
    /// `INTERNAL_ERROR` when the loop broke.
    pub async fn ended(&mut self) -> Result<Remains> {
        (&mut self.task).await.map_err(|cause| internal("the loop broke").caused_by(&cause))
    }

    /// Ends it as [`Builder::on_exit`] says: by default every process with its own grace period, all at once, and what
    /// still lives after `within` at once. Calls that wait for something end with `STORE_UNAVAILABLE`.
    ///
    /// # Errors
    /// As for [`Launcher::wind_up`].
    pub async fn shutdown(mut self, within: Duration) -> Result<()> {
        self.stop().await;
        let mut patience = within;
        let remains = loop {
            match tokio::time::timeout(patience, self.ended()).await {
                Ok(remains) => break remains?,
                Err(_) => self.stop().await,
            }
            patience = LAST_WAIT;
        };
        self.wind_up(remains).await
    }

    /// Writes the last records and the last status, and lets go of everything.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE` when they cannot be written, `INTERNAL_ERROR` when it was a defect that ended the loop.
    pub async fn wind_up(self, remains: Remains) -> Result<()> {
        let Remains { host, status, silent } = remains;
        self.abort_launch_dir();
        if let Some(api) = self.api {
            api.shutdown().await;
        }
        host.shutdown().await;
        self.http.shutdown();
        let remembered = self.records.flush().await;
        let told = status.finish().await;
        let asked =
            silent.map_or(Ok(()), |who| Err(internal("the loop ended without being asked to").with("silent", who)));
        asked.and(remembered).and(told)
    }
}

fn vitals(board: &Arc<Board>, upkeep: &Arc<Upkeep>, metrics: &Arc<Metrics>) -> Vitals {
    let upkeep = Arc::clone(upkeep);
    Vitals { board: Arc::clone(board), metrics: Arc::clone(metrics), store: Arc::new(move || upkeep.problems()) }
}

fn locks(folder: &Arc<StateFolder>) -> Arc<dyn RootLock> {
    Arc::new(LauncherLocks(Arc::clone(folder)))
}

fn tell_tracking(tracking: &Tracking) {
    match tracking {
        Tracking::Cgroup(folder) => {
            tracing::info!(cgroup = %folder.display(), "process trees are tracked and killed by cgroup");
        }
        Tracking::V1Freezer(folder) => {
            tracing::info!(cgroup = %folder.display(), "process trees are tracked and killed by cgroups of the v1 freezer");
        }
        Tracking::ProcessGroup(reason) => {
            tracing::warn!(reason, "process trees are tracked by process group, which a process can leave");
        }
    }
}

/// Verifies what the records say and has the host watch what lives.
async fn adopt(host: &Host, loaded: LoadedRecords) -> Restored {
    let LoadedRecords { memories, runs, damaged, notices, events: _ } = loaded;
    for notice in notices {
        tracing::warn!(error = %notice, "records were not as they should be");
    }
    host.output().declare(memories.iter().map(|memory| &memory.instance.key));
    let names: Vec<String> = damaged.iter().map(|(file_name, _)| file_name.clone()).collect();
    host.keep_sessions(memories.iter().map(|memory| &memory.instance.key));
    let mut runs = host.restore(runs, &names).await;
    runs.extend(damaged.into_iter().map(|(file_name, error)| RestoredRun::Unverifiable { file_name, error }));
    Restored { memories, runs }
}

fn internal(message: &str) -> Error {
    Error::new(Code::InternalError, message)
        .suggest("start the launcher again; the processes go on meanwhile and are taken over")
}
