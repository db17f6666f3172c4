//! What the records cost a launch: the part of them that a start waits for, and the part that it does not.
//!
//! Before a child is released its run record is written (one write, one rename, no sync), and once more when it is known
//! to have been executed. What is remembered of its key is appended and synced by a thread of its own, in groups; only
//! an end waits for that. Each stands beside the same system calls without a launcher, on the same file system.

use crate::floor;
use crate::measure::monotonic;
use crate::table::Table;
use pattern_launcher::act::{Records, clock};
use pattern_launcher::model::{
    Confinement, Content, DesiredState, Generation, Instance, Isolation, Memory, Namespace, Origin, PatternName,
    PatternRevision, Ports, Privileges, ProcessIdentity, Resources, RestartPolicy, RunId, RunRecord, Secret, StartSpec,
    StopSignal, Supervision,
};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How often each is done; the median counts.
const TIMES: usize = 500;
/// How many memories are written as one group.
const GROUP: usize = 1_000;

/// Measures in a folder of its own below `folder`.
pub(crate) fn measure(table: &mut Table, place: &str, folder: &Path, spawns: usize) {
    let spawn = table
        .samples(&format!("posix_spawn, one process, call to running, {place}"), floor::one_by_one(folder, spawns));
    let own = tempfile::tempdir_in(folder).unwrap();
    let state = own.path().join("state");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (records, _) = Records::open(&state, clock::boot().unwrap()).unwrap();
    let runs: Vec<RunRecord> = (0..TIMES).map(run_record).collect();
    let text = serde_json::to_vec(&runs[0]).unwrap();

    let bare = table
        .samples(&format!("bare write and rename of {} bytes, {place}", text.len()), bare_renames(own.path(), &text));
    let write = table.samples(
        &format!("run record, before the release, {place}"),
        each(&runs, |run| records.save_run(run).unwrap()),
    );
    table.beside("the bare write and rename", write, bare);
    table.beside("one posix_spawn", write, spawn);
    let again = table.samples(
        &format!("run record, again once it runs, {place}"),
        each(&runs, |run| records.save_run(run).unwrap()),
    );
    table.beside("one posix_spawn", again, spawn);
    table.samples(&format!("run record, its removal, {place}"), each(&runs, |run| records.drop_run(run.run).unwrap()));

    let memories: Vec<Memory> = (0..GROUP).map(|n| Memory::new(instance(n))).collect();
    let line = serde_json::to_vec(&memories[0]).unwrap();
    let bare = table.samples(
        &format!("bare append of {} bytes and fdatasync, {place}", line.len()),
        bare_appends(own.path(), &line),
    );
    let flush = || runtime.block_on(records.flush()).unwrap();
    let alone = table.samples(
        &format!("memory, alone, until it is synced, {place}"),
        each(&memories[..TIMES], |memory| {
            records.save_memory(memory.clone());
            flush();
        }),
    );
    table.beside("the bare append", alone, bare);
    let told = table.samples(
        &format!("memory, as a start waits for it, {place}"),
        each(&memories, |memory| records.save_memory(memory.clone())),
    );
    table.beside("one posix_spawn", told, spawn);
    flush();
    let mut groups = Vec::new();
    for _ in 0..20 {
        let begun = monotonic();
        for memory in &memories {
            records.save_memory(memory.clone());
        }
        flush();
        groups.push(monotonic().saturating_sub(begun) / u32::try_from(GROUP).unwrap());
    }
    let share = table.samples(&format!("memory, its share of a group of {GROUP}, synced, {place}"), groups);
    table.beside("one posix_spawn", share, spawn);
    let whole = write + told;
    table.beside(&format!("one posix_spawn: all that a start waits for, {place}"), whole, spawn);
}

/// How long each took.
fn each<T>(all: &[T], mut once: impl FnMut(&T)) -> Vec<Duration> {
    let time = |one: &T| {
        let begun = monotonic();
        once(one);
        monotonic().saturating_sub(begun)
    };
    all.iter().map(time).collect()
}

fn bare_renames(folder: &Path, text: &[u8]) -> Vec<Duration> {
    let names: Vec<_> = (0..TIMES).map(|n| folder.join(format!("bare-{n}"))).collect();
    let draft = folder.join("draft");
    each(&names, |name| {
        File::create(&draft).unwrap().write_all(text).unwrap();
        fs::rename(&draft, name).unwrap();
    })
}

fn bare_appends(folder: &Path, line: &[u8]) -> Vec<Duration> {
    let mut file = File::options().create(true).append(true).open(folder.join("bare.log")).unwrap();
    each(&[(); TIMES], |()| {
        file.write_all(line).unwrap();
        file.sync_data().unwrap();
    })
}

/// An ordinary instance: a health check is left out, and some configuration is there.
fn instance(number: usize) -> Arc<Instance> {
    let pattern = PatternName::new("consumer").unwrap();
    let isolation = Isolation::Namespace(Namespace::new(&format!("tenant-{number}")).unwrap());
    let launch = StartSpec {
        pattern: PatternRevision {
            version: "1.0.0".to_owned(),
            folder: "/opt/patterns/consumer".into(),
            executable: "./consumer".to_owned(),
            digest: Some("0123456789abcdef".repeat(4)),
            args: vec!["--tenant".to_owned(), "$(NAMESPACE)".to_owned()],
            environment: BTreeMap::from([("LOG_LEVEL".to_owned(), Secret::new("info"))]),
            preferred_port: None,
            privileges: Privileges::default(),
        },
        config: BTreeMap::from([("KAFKA_BROKERS".to_owned(), Secret::new("localhost:9092"))]),
        credentials: BTreeMap::new(),
    };
    let supervision = Supervision {
        healthcheck: None,
        stop_signal: StopSignal::Term,
        grace_period: Duration::from_secs(10),
        restart: RestartPolicy::Always,
        resources: Resources::default(),
    };
    Arc::new(Instance {
        key: isolation.key(&pattern),
        pattern,
        isolation,
        content: Content { launch: Arc::new(launch), supervision, state: DesiredState::Running, ttl: None },
        origin: Origin { root: "desired".into(), file: "a.yaml".into(), line: 1, api_managed: false },
        defaulted: Vec::new(),
    })
}

fn run_record(number: usize) -> RunRecord {
    let instance = instance(number);
    let now = clock::now();
    RunRecord {
        key: instance.key.clone(),
        run: RunId::from_random(number as u128),
        process: ProcessIdentity {
            pid: 4_711,
            start_time: 99,
            boot: now.boot,
            cgroup: Some("/sys/fs/cgroup/x".into()),
            confinement: Confinement::default(),
        },
        launch: Arc::clone(&instance.content.launch),
        supervision: instance.content.supervision.clone(),
        ports: Ports { grpc: 15_000, health: 15_001 },
        generation: Generation(1),
        started: now,
        executed: true,
        stop: None,
    }
}
