//! A host with a state folder of its own, and what is seen of its processes from outside.

use pattern_launcher::act::{
    CgroupChoice, CgroupRung, Host, HostSettings, Loaded, LogLimits, Orphans, Records, Subreaper, Tracking, clock,
};
use pattern_launcher::model::{
    Ceilings, Content, DesiredState, Generation, Instance, Isolation, Key, LimitsEffective, Namespace, Origin,
    PatternName, PatternRevision, Ports, Privileges, ProcessIdentity, Resources, RestartPolicy, RunId, RunRecord,
    Secret, StartSpec, StopSignal, Supervision, TenantUsers, Unenforced,
};
use pattern_launcher::observed::{Event, RestoredRun};
use pattern_launcher::plan::{Effect, PrepareRequest};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// Nothing here takes longer on a machine that works, even a busy one.
const PATIENCE: Duration = Duration::from_secs(20);

/// The ways in which trees are tracked and killed.
pub(crate) const RUNGS: [CgroupChoice; 4] = [
    CgroupChoice::On(CgroupRung::KillFile),
    CgroupChoice::On(CgroupRung::FreezeAndLoop),
    CgroupChoice::On(CgroupRung::V1Freezer),
    CgroupChoice::Off,
];

pub(crate) struct World {
    pub(crate) host: Host,
    pub(crate) records: Arc<Records>,
    pub(crate) loaded: Loaded,
    _swept: Swept,
    events: mpsc::Receiver<Event>,
    early: VecDeque<Event>,
    limits: HashMap<RunId, LimitsEffective>,
    next: u128,
}

/// Leaves the machine as it was, however a test ends.
struct Swept(PathBuf);

impl Drop for Swept {
    fn drop(&mut self) {
        // All that were ever made for this state folder, in whatever hierarchy.
        let noted = std::fs::read_to_string(self.0.join("cgroup-base")).unwrap_or_default();
        let deadline = clock::now().after(PATIENCE);
        for base in noted.lines().map(Path::new) {
            while base.exists() && !clock::now().reached(deadline) {
                sweep(base);
                std::thread::yield_now();
            }
        }
    }
}

/// Kills and removes what is in a cgroup and below it. Each can come too early; it is tried again.
fn sweep(cgroup: &Path) {
    for entry in std::fs::read_dir(cgroup).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        sweep(&entry.path());
    }
    for pid in members(cgroup) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    drop(std::fs::write(cgroup.join("freezer.state"), "THAWED"));
    drop(std::fs::remove_dir(cgroup));
}

/// A program of `examples/`, which the build puts beside the daemon.
pub(crate) fn example_program(name: &str) -> PathBuf {
    let daemon = Path::new(env!("CARGO_BIN_EXE_pattern-launcher"));
    let program = daemon.parent().unwrap().join("examples").join(name);
    assert!(program.exists(), "{} is not built: cargo build --examples", program.display());
    program
}

/// The processes in a cgroup.
pub(crate) fn members(cgroup: &Path) -> Vec<rustix::process::Pid> {
    let pids = std::fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    pids.lines().filter_map(|pid| rustix::process::Pid::from_raw(pid.parse().ok()?)).collect()
}

/// What is run, and by what it is known.
pub(crate) struct Program {
    pub(crate) key: Key,
    pub(crate) instance: Arc<Instance>,
}

impl Program {
    /// The same with these limits.
    pub(crate) fn limited(self, resources: Resources) -> Self {
        let mut instance = Instance::clone(&self.instance);
        instance.content.supervision.resources = resources;
        Self { key: self.key, instance: Arc::new(instance) }
    }

    /// The same in a namespace.
    pub(crate) fn of(self, namespace: &str) -> Self {
        let mut instance = Instance::clone(&self.instance);
        instance.isolation = Isolation::Namespace(Namespace::new(namespace).unwrap());
        instance.key = instance.isolation.key(&instance.pattern);
        Self { key: instance.key.clone(), instance: Arc::new(instance) }
    }

    /// Runs `executable` with `args` in `folder`.
    pub(crate) fn new(name: &str, folder: &Path, executable: &str, args: &[&str]) -> Self {
        Self::with_config(name, folder, executable, args, BTreeMap::new())
    }

    /// A shell script; its dollars are its own.
    pub(crate) fn shell(name: &str, script: &str) -> Self {
        Self::new(name, Path::new("/"), "/bin/sh", &["-c", &script.replace('$', "$$")])
    }

    pub(crate) fn with_config(
        name: &str,
        folder: &Path,
        executable: &str,
        args: &[&str],
        config: BTreeMap<String, Secret>,
    ) -> Self {
        let pattern = PatternName::new(name).unwrap();
        let revision = PatternRevision {
            version: "1".to_owned(),
            folder: folder.to_owned(),
            executable: executable.to_owned(),
            digest: None,
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            environment: BTreeMap::from([("FROM_MANIFEST".to_owned(), Secret::new("m"))]),
            preferred_port: None,
            privileges: Privileges::default(),
        };
        let supervision = Supervision {
            healthcheck: None,
            stop_signal: StopSignal::Term,
            grace_period: Duration::from_secs(1),
            restart: RestartPolicy::Always,
            resources: Resources::default(),
        };
        let instance = Instance {
            key: Isolation::None.key(&pattern),
            pattern,
            isolation: Isolation::None,
            content: Content {
                launch: Arc::new(StartSpec { pattern: revision, config, credentials: BTreeMap::new() }),
                supervision,
                state: DesiredState::Running,
                ttl: None,
            },
            origin: Origin { root: "/desired".into(), file: "x.yaml".into(), line: 1, api_managed: false },
            defaulted: Vec::new(),
        };
        Self { key: instance.key.clone(), instance: Arc::new(instance) }
    }
}

impl World {
    pub(crate) fn start(state: &Path, cgroup: CgroupChoice) -> Self {
        Self::looking_for_orphans(state, cgroup, Orphans::End, Duration::from_secs(60))
    }

    /// A host that looks for orphans so often, and does this with them.
    pub(crate) fn looking_for_orphans(state: &Path, cgroup: CgroupChoice, orphans: Orphans, every: Duration) -> Self {
        let exe = Some(PathBuf::from(env!("CARGO_BIN_EXE_pattern-launcher")));
        Self::with_spawner(state, cgroup, exe, orphans, every)
    }

    /// A host in a program that is no spawner.
    pub(crate) fn without_spawner(state: &Path, cgroup: CgroupChoice) -> Self {
        Self::with_spawner(state, cgroup, None, Orphans::End, Duration::from_secs(60))
    }

    fn with_spawner(
        state: &Path,
        cgroup: CgroupChoice,
        spawner_exe: Option<PathBuf>,
        orphans: Orphans,
        orphan_interval: Duration,
    ) -> Self {
        let (records, loaded) = Records::open(state, clock::boot().unwrap()).unwrap();
        let records = Arc::new(records);
        let (sender, events) = mpsc::channel(64);
        let settings = HostSettings {
            state_dir: state.to_owned(),
            log_dir: state.join("logs"),
            log_limits: LogLimits::default(),
            cgroup,
            inherited_env: BTreeMap::from([("PATH".to_owned(), std::env::var("PATH").unwrap())]),
            spawner_exe,
            subreaper: Subreaper::Off,
            orphans,
            orphan_interval,
            tenant_users: TenantUsers::Off,
            tenant_uids: (1_879_048_192, 2_147_483_646),
            required_protections: BTreeSet::new(),
            ceilings: Ceilings::default(),
            credentials: Vec::new(),
            metrics: Arc::default(),
        };
        let host = Host::start(settings, Arc::clone(&records), sender).unwrap();
        let next = u128::from(uuid_part());
        let swept = Swept(state.to_owned());
        Self { host, records, loaded, _swept: swept, events, early: VecDeque::new(), limits: HashMap::new(), next }
    }

    /// The same, or `None`, said loudly, where the machine cannot make cgroups.
    pub(crate) fn on(state: &Path, rung: &CgroupChoice) -> Option<Self> {
        let world = Self::start(state, rung.clone());
        match (world.host.tracking(), rung) {
            (Tracking::ProcessGroup(_), CgroupChoice::Off) => Some(world),
            (Tracking::ProcessGroup(reason), _) => {
                eprintln!("skipped with {rung:?}: {reason}");
                None
            }
            _ => Some(world),
        }
    }

    /// Asks for a child; it is answered by an event.
    pub(crate) fn prepare(&mut self, program: &Program) -> RunId {
        self.prepare_with(program, free_ports())
    }

    pub(crate) fn prepare_with(&mut self, program: &Program, ports: Ports) -> RunId {
        self.prepare_if(program, ports, Unenforced::Report)
    }

    /// Asks for a child that is not to be started where a limit cannot be enforced, or is all the same.
    pub(crate) fn prepare_if(&mut self, program: &Program, ports: Ports, unenforced: Unenforced) -> RunId {
        self.next += 1;
        let run = RunId::from_random(self.next);
        let (key, instance) = (program.key.clone(), Arc::clone(&program.instance));
        self.host.carry_out(Effect::Prepare(PrepareRequest { key, run, instance, ports, unenforced }));
        run
    }

    /// Prepares and waits for the held child.
    pub(crate) async fn held(&mut self, program: &Program) -> (RunId, ProcessIdentity) {
        let run = self.prepare(program);
        match self.event_of(run).await {
            Event::Prepared { process, .. } => {
                let by_group = matches!(self.host.tracking(), Tracking::ProcessGroup(_));
                assert_eq!(process.cgroup.is_none(), by_group, "it is not tracked as the others are");
                (run, process)
            }
            other => panic!("it was not prepared: {other:?}"),
        }
    }

    pub(crate) fn commit(&mut self, program: &Program, run: RunId, process: &ProcessIdentity) {
        self.host.carry_out(Effect::Commit(Box::new(record(program, run, process))));
    }

    /// Prepares, records and releases, up to the exec.
    pub(crate) async fn run(&mut self, program: &Program) -> (RunId, ProcessIdentity) {
        let (run, process) = self.held(program).await;
        self.commit(program, run, &process);
        match self.event_of(run).await {
            Event::Started { .. } => (run, process),
            other => panic!("it was not started: {other:?}"),
        }
    }

    /// The next event of a run; those of others are kept.
    pub(crate) async fn event_of(&mut self, run: RunId) -> Event {
        self.event_of_any(&[run]).await
    }

    /// The next event of any of these runs; those of others are kept.
    pub(crate) async fn event_of_any(&mut self, runs: &[RunId]) -> Event {
        let asked_for = |event: &Event| run_of(event).is_some_and(|run| runs.contains(&run));
        if let Some(at) = self.early.iter().position(asked_for) {
            return self.early.remove(at).unwrap();
        }
        loop {
            let next = tokio::time::timeout(PATIENCE, self.events.recv()).await;
            let event = next.unwrap_or_else(|_| panic!("no event of {runs:?} came")).unwrap();
            if let Event::Limited { run, limits, .. } = event {
                self.limits.insert(run, limits);
                continue;
            }
            if asked_for(&event) {
                return event;
            }
            self.early.push_back(event);
        }
    }

    /// What is in force of the limits of a run, once it has been told and is as expected.
    pub(crate) async fn limits(&mut self, run: RunId, expected: impl Fn(&LimitsEffective) -> bool) -> LimitsEffective {
        loop {
            if let Some(limits) = self.limits.get(&run).filter(|limits| expected(limits)) {
                return limits.clone();
            }
            let next = tokio::time::timeout(PATIENCE, self.events.recv()).await;
            let last = self.limits.get(&run);
            match next.unwrap_or_else(|_| panic!("the limits are not told: {last:?}")).unwrap() {
                Event::Limited { run, limits, .. } => drop(self.limits.insert(run, limits)),
                other => self.early.push_back(other),
            }
        }
    }

    /// The next count of orphans that is told.
    pub(crate) async fn orphans(&mut self) -> usize {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.events.recv()).await;
            match next.expect("no orphans were told of").unwrap() {
                Event::Orphans { left } => return left.len(),
                other => self.early.push_back(other),
            }
        }
    }

    pub(crate) fn kill(&mut self, program: &Program, run: RunId) {
        self.host.carry_out(Effect::KillTree { key: program.key.clone(), run });
    }

    pub(crate) fn drop_run(&mut self, program: &Program, run: RunId) {
        self.host.carry_out(Effect::DropRun { key: program.key.clone(), run });
    }

    /// Kills a run and waits until nothing of it is left, on disk or in the cgroup.
    pub(crate) async fn finish(&mut self, program: &Program, run: RunId, process: &ProcessIdentity) {
        self.kill(program, run);
        match self.event_of(run).await {
            Event::Exited { tree_gone: true, .. } => {}
            Event::Exited { tree_gone: false, .. } => {
                assert!(matches!(self.event_of(run).await, Event::TreeGone { .. }));
            }
            other => panic!("it did not end: {other:?}"),
        }
        self.drop_run(program, run);
        wait_for("the removal of its cgroup", || process.cgroup.as_ref().is_none_or(|path| !path.exists())).await;
    }

    /// Takes over what the records say.
    pub(crate) async fn restore(&mut self) -> Vec<RestoredRun> {
        let damaged: Vec<String> = self.loaded.damaged.iter().map(|(name, _)| name.clone()).collect();
        let records = std::mem::take(&mut self.loaded.runs);
        self.host.restore(records, &damaged).await
    }
}

pub(crate) fn record(program: &Program, run: RunId, process: &ProcessIdentity) -> RunRecord {
    RunRecord {
        key: program.key.clone(),
        run,
        process: process.clone(),
        launch: Arc::clone(&program.instance.content.launch),
        supervision: program.instance.content.supervision.clone(),
        ports: Ports { grpc: 1, health: 2 },
        generation: Generation(1),
        started: clock::now(),
        executed: true,
        stop: None,
    }
}

fn run_of(event: &Event) -> Option<RunId> {
    match event {
        Event::Prepared { run, .. }
        | Event::Limited { run, .. }
        | Event::Started { run, .. }
        | Event::StartFailed { run, .. }
        | Event::PortTaken { run, .. }
        | Event::Exited { run, .. }
        | Event::TreeGone { run, .. }
        | Event::KillStuck { run, .. }
        | Event::Probed { run, .. } => Some(*run),
        Event::Desired(_) | Event::Orphans { .. } => None,
    }
}

/// Different in each test process, so that two never use one RUN_ID.
fn uuid_part() -> u64 {
    u64::from(clock::now().since_boot.subsec_nanos()) ^ (u64::from(std::process::id()) << 32)
}

/// Two ports that nobody listens on now.
pub(crate) fn free_ports() -> Ports {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let port = 20_000
            + u16::try_from(std::process::id() % 100).unwrap() * 100
            + NEXT.fetch_add(2, Ordering::Relaxed) % 10_000;
        if [port, port + 1].iter().all(|port| std::net::TcpListener::bind(("0.0.0.0", *port)).is_ok()) {
            return Ports { grpc: port, health: port + 1 };
        }
    }
}

pub(crate) async fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = clock::now().after(PATIENCE);
    while !condition() {
        assert!(!clock::now().reached(deadline), "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Whether a process lives: a zombie does not.
pub(crate) fn lives(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| !rest.starts_with('Z')))
}

/// The living processes whose command line contains `marker`.
pub(crate) fn processes_with(marker: &str) -> Vec<i32> {
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| contains(&line, marker.as_bytes()))
        })
        .filter(|pid| lives(*pid))
        .collect()
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// What a run has written, once it is there.
pub(crate) async fn output(state: &Path, key: &Key, complete: impl Fn(&str) -> bool) -> String {
    let path = state.join("logs").join(format!("{}.log", key.file_name()));
    let mut text = String::new();
    wait_for("the output", || {
        text = std::fs::read_to_string(&path).unwrap_or_default();
        complete(&text)
    })
    .await;
    text
}
