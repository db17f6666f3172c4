use super::*;
use crate::model::{Confinement, Generation, Instance, Moment, Ports, ProcessIdentity, Secret, StopProgress};
use crate::testing::samples;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

mod mending;

const BOOT: BootId = BootId::from_u128(7);
const EARLIER_BOOT: BootId = BootId::from_u128(6);

fn instance(tenant: usize) -> Arc<Instance> {
    let mut instance = samples::instance("consumer", &format!("tenant-{tenant}"), 1, 1);
    let password = Secret::new("line\nbreak \"quoted\"");
    Arc::make_mut(&mut instance.content.launch).config = BTreeMap::from([("password".to_owned(), password)]);
    Arc::new(instance)
}

fn memory(tenant: usize, restarts: u32) -> Memory {
    Memory { restarts, ..Memory::new(instance(tenant)) }
}

fn run_record(tenant: usize, run: u128, boot: BootId) -> RunRecord {
    let instance = instance(tenant);
    RunRecord {
        key: instance.key.clone(),
        run: RunId::from_random(run),
        process: ProcessIdentity {
            pid: 4_711,
            start_time: 99,
            boot,
            cgroup: None,
            confinement: Confinement::default(),
        },
        launch: Arc::clone(&instance.content.launch),
        supervision: instance.content.supervision.clone(),
        ports: Ports { grpc: 15_000, health: 15_001 },
        generation: Generation(1),
        started: Moment::new(boot, Duration::from_secs(1)),
        executed: true,
        stop: None,
    }
}

fn open(folder: &Path) -> (Records, Loaded) {
    Records::open(folder, BOOT).expect("the records open")
}

fn open_log(path: &Path) -> Result<(MemoryLog, log::History)> {
    MemoryLog::open(&StateFolder::open(path.parent().expect("a folder")))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("the folder is there");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn apply(world: &mut BTreeMap<Key, Memory>, op: &Op) {
    match op {
        Op::Save(memory) => drop(world.insert(memory.instance.key.clone(), (**memory).clone())),
        Op::Drop(key) => drop(world.remove(key)),
    }
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = (0_usize..5, prop::option::weighted(0.7, 0_u32..1_000)).prop_map(|(tenant, restarts)| match restarts {
        Some(restarts) => Op::Save(Box::new(memory(tenant, restarts))),
        None => Op::Drop(instance(tenant).key.clone()),
    });
    prop::collection::vec(op, 0..12)
}

/// A log's bytes, and what it said when it was how long.
fn written(history: &[Op]) -> (Vec<u8>, Vec<(usize, Vec<Memory>)>) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(MEMORY_LOG);
    let (mut log, _) = open_log(&path).expect("it opens");
    let mut world = BTreeMap::new();
    let mut worlds = vec![(0, Vec::new())];
    for op in history {
        log.append(std::iter::once(op)).expect("it is written");
        apply(&mut world, op);
        let length = fs::metadata(&path).expect("it is there").len();
        worlds.push((usize::try_from(length).expect("it is short"), world.values().cloned().collect()));
    }
    (fs::read(&path).expect("it reads"), worlds)
}

fn reads_back_to_a_prefix(text: &[u8], worlds: &[(usize, Vec<Memory>)]) {
    let found = log::parse(Path::new(MEMORY_LOG), text).expect("a torn log reads").history;
    let expected = worlds.iter().rfind(|(length, _)| *length <= text.len()).expect("the first is empty");
    assert!(found.damage.is_empty());
    assert_eq!(found.memories, expected.1);
}

#[test]
fn every_prefix_of_a_log_reads_back_to_a_prefix_of_its_history() {
    let save = |tenant, restarts| Op::Save(Box::new(memory(tenant, restarts)));
    let (text, worlds) = written(&[save(1, 1), save(2, 1), Op::Drop(instance(1).key.clone()), save(2, 2)]);
    (0..=text.len()).for_each(|cut| reads_back_to_a_prefix(&text[..cut], &worlds));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_log_cut_anywhere_reads_back_to_a_prefix_of_its_history(
        history in ops(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 32)
    ) {
        let (text, worlds) = written(&history);
        let cuts = cuts.iter().map(|cut| cut.index(text.len() + 1));
        cuts.chain([0, text.len()]).for_each(|cut| reads_back_to_a_prefix(&text[..cut], &worlds));
    }

    #[test]
    fn whatever_is_done_reopening_finds_what_was_said(history in prop::collection::vec((ops(), 0_u8..4), 0..5)) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(MEMORY_LOG);
        let mut world = BTreeMap::new();
        let (mut log, _) = open_log(&path).expect("it opens");
        for (group, then) in &history {
            log.append(group.iter()).expect("it is written");
            for op in group {
                apply(&mut world, op);
            }
            match then {
                0 => log.compact().expect("it is compacted"),
                1 => {
                    fs::remove_file(&path).expect("somebody removes it");
                    log.append([Op::Drop(instance(9).key.clone())].iter()).expect("it is written anew");
                }
                2 => log = open_log(&path).expect("it opens").0,
                _ => {}
            }
        }
        let (_, found) = open_log(&path).expect("it opens");
        prop_assert!(found.damage.is_empty());
        prop_assert_eq!(found.memories, world.into_values().collect::<Vec<_>>());
    }
}

#[test]
fn a_torn_end_is_cut_off_and_writing_goes_on_after_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(MEMORY_LOG);
    let (mut log, _) = open_log(&path).expect("it opens");
    log.append([Op::Save(Box::new(memory(1, 1))), Op::Save(Box::new(memory(2, 2)))].iter()).expect("it is written");
    let whole = fs::read(&path).expect("it reads");
    fs::write(&path, &whole[..whole.len() - 5]).expect("it is torn");
    let (mut log, found) = open_log(&path).expect("it opens");
    assert_eq!((found.memories.len(), found.damage.len()), (1, 0));
    log.append([Op::Save(Box::new(memory(3, 3)))].iter()).expect("it is written");
    let (_, found) = open_log(&path).expect("it opens");
    assert_eq!(found.memories, [memory(1, 1), memory(3, 3)]);
    assert_eq!(names(folder.path()), [MEMORY_LOG]);
}

#[test]
fn a_damaged_line_is_told_and_kept_aside_and_the_rest_is_used() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(MEMORY_LOG);
    let (mut log, _) = open_log(&path).expect("it opens");
    for tenant in 0..3 {
        log.append([Op::Save(Box::new(memory(tenant, 1)))].iter()).expect("it is written");
    }
    let text = fs::read_to_string(&path).expect("it reads");
    let damaged =
        text.replacen("ns:tenant-1:consumer\",\"pattern\":\"con", "ns:tenant-1:consumer\",\"pattern\":\"nco", 1);
    assert_ne!(text, damaged);
    fs::write(&path, &damaged).expect("it is damaged");

    let untouched = load_readonly(folder.path(), BOOT).expect("it reads");
    assert_eq!((untouched.memories.len(), untouched.notices.len()), (2, 1));
    assert_eq!(fs::read_to_string(&path).expect("it reads"), damaged, "a reader repairs nothing");

    let (records, loaded) = open(folder.path());
    assert_eq!(loaded.memories, [memory(0, 1), memory(2, 1)]);
    let [notice] = loaded.notices.as_slice() else { panic!("one notice: {:?}", loaded.notices) };
    assert_eq!(notice.context_value("process_id"), Some("ns:tenant-1:consumer"));
    assert_eq!(notice.context_value("line"), Some("2"));
    let aside = folder.path().join("memory.log.damaged-1");
    assert_eq!(fs::read_to_string(&aside).expect("it is kept"), damaged);
    assert_eq!(fs::metadata(&aside).expect("it is kept").permissions().mode() & 0o777, 0o600);
    drop(records);
    assert!(open(folder.path()).1.notices.is_empty(), "the damage is told once");
}

#[test]
fn a_log_of_a_newer_launcher_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(MEMORY_LOG);
    fs::write(&path, "{\"version\":2,\"sum\":\"x\"}\n").expect("it is written");
    let error = Records::open(folder.path(), BOOT).expect_err("it is refused");
    assert_eq!(error.code(), Code::StoreUnavailable);
    assert!(error.suggestion().is_some_and(|text| text.contains(&path.display().to_string())), "{error}");
    assert_eq!(fs::read_to_string(&path).expect("it reads"), "{\"version\":2,\"sum\":\"x\"}\n");
}

#[test]
fn a_log_that_is_mostly_history_is_compacted_and_one_that_is_not_is_left() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(MEMORY_LOG);
    let (mut log, _) = open_log(&path).expect("it opens");
    let group: Vec<Op> = (0..500).map(|restarts| Op::Save(Box::new(memory(1, restarts)))).collect();
    while !log.is_bloated() {
        assert!(fs::metadata(&path).expect("it is there").len() <= 1 << 20);
        log.append(group.iter()).expect("it is written");
    }
    log.compact().expect("it is compacted");
    assert!(!log.is_bloated());
    assert!(fs::metadata(&path).expect("it is there").len() < 2_000);
    assert_eq!(super::log::read(&path).expect("it reads").memories, [memory(1, 499)]);
    assert_eq!(names(folder.path()), [MEMORY_LOG]);
    assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_thousand_saves_cost_one_sync_when_they_are_one_group() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut log, _) = open_log(&folder.path().join(MEMORY_LOG)).expect("it opens");
    let queue = Queue::default();
    for tenant in 0..1_000 {
        queue.push(Op::Save(Box::new(memory(tenant, 0))));
    }
    let before = log.syncs;
    let group = queue.take(None).expect("there is something to write");
    log.append(group.values()).expect("it is written");
    assert_eq!((group.len(), log.syncs - before), (1_000, 1));
}

#[tokio::test]
async fn what_was_flushed_is_found_while_others_go_on_saving_through_compactions() {
    let folder = tempfile::tempdir().expect("a folder");
    let (records, _) = open(folder.path());
    std::thread::scope(|scope| {
        for tenant in 0..4 {
            let records = &records;
            scope.spawn(move || {
                for restarts in 0..2_000 {
                    records.save_memory(memory(tenant, restarts));
                    records.drop_memory(instance(tenant + 10).key.clone());
                }
            });
        }
    });
    records.flush().await.expect("it is written");
    let expected: Vec<Memory> = (0..4).map(|tenant| memory(tenant, 1_999)).collect();
    assert_eq!(load_readonly(folder.path(), BOOT).expect("it reads").memories, expected);
    assert_eq!(records.health(), RecordsHealth::default());
    records.save_memory(memory(4, 4));
    drop(records);
    assert_eq!(open(folder.path()).1.memories.len(), 5, "dropping the records writes what is left");
}

#[tokio::test]
async fn a_disk_that_cannot_be_written_is_told_and_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state");
    let (records, _) = open(&state);
    records.save_memory(memory(1, 1));
    records.flush().await.expect("it is written");

    fs::remove_dir_all(&state).expect("somebody removes the state folder");
    fs::write(&state, "in the way").expect("a file takes its place");
    for restarts in 2..50 {
        records.save_memory(memory(1, restarts));
        records.save_memory(memory(2, restarts));
    }
    let error = records.flush().await.expect_err("it cannot be written");
    assert_eq!(error.code(), Code::StoreUnavailable);
    assert_eq!(records.health(), RecordsHealth { error: Some(error), pending: 2 });
    assert_eq!(records.save_run(&run_record(1, 1, BOOT)).expect_err("nor a run").code(), Code::StoreUnavailable);

    fs::remove_file(&state).expect("it is put right");
    records.flush().await.expect("it is written");
    assert!(records.health().is_writable());
    records.save_run(&run_record(1, 1, BOOT)).expect("a run too");
    let loaded = load_readonly(&state, BOOT).expect("it reads");
    assert_eq!((loaded.memories, loaded.runs.len()), (vec![memory(1, 49), memory(2, 49)], 1));
}

#[test]
fn a_full_disk_leaves_no_half_line_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(MEMORY_LOG);
    let (mut log, _) = open_log(&path).expect("it opens");
    log.append([Op::Save(Box::new(memory(1, 1)))].iter()).expect("it is written");
    log.full = true;
    let group: Vec<Op> = (0..5).map(|tenant| Op::Save(Box::new(memory(tenant, 2)))).collect();
    let error = log.append(group.iter()).expect_err("the disk is full");
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    log.append([Op::Save(Box::new(memory(2, 3)))].iter()).expect("there is space again");
    let found = super::log::read(&path).expect("it reads");
    assert_eq!((found.memories, found.damage), (vec![memory(1, 1), memory(2, 3)], Vec::new()));
}

#[test]
fn run_records_read_back_and_are_for_the_owner_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state");
    let (records, _) = open(&state);
    let mut first = run_record(1, 1, BOOT);
    let second = run_record(1, 2, BOOT);
    let rebooted = run_record(2, 3, EARLIER_BOOT);
    for record in [&first, &second, &rebooted] {
        records.save_run(record).expect("it is written");
    }
    let since = Moment::new(BOOT, Duration::from_secs(5));
    first.stop = Some(StopProgress { since, deadline: since.after(Duration::from_secs(10)), signalled: true });
    records.save_run(&first).expect("it is written again");

    let runs = state.join(RUNS_FOLDER);
    assert_eq!(names(&runs).len(), 3);
    for (path, mode) in [(&state, 0o700), (&runs, 0o700), (&runs.join(&names(&runs)[0]), 0o600)] {
        assert_eq!(fs::metadata(path).expect("it is there").permissions().mode() & 0o777, mode, "{}", path.display());
    }
    drop(records);
    let (records, loaded) = open(&state);
    let mut expected = vec![first.clone(), second, rebooted];
    expected.sort_by_key(|record| (record.key.file_name(), record.run.to_string()));
    assert_eq!((loaded.runs, loaded.damaged.len()), (expected, 0));

    records.save_run(&first).expect("a run that was found is written again");
    for run in [1, 2, 3, 99] {
        records.drop_run(RunId::from_random(run)).expect("it is removed");
    }
    assert_eq!(names(&runs), Vec::<String>::new());
}

#[test]
fn an_unreadable_run_record_blocks_its_key_if_its_boot_still_lasts() {
    let folder = tempfile::tempdir().expect("a folder");
    let (records, _) = open(folder.path());
    for (tenant, boot) in [(1, BOOT), (2, EARLIER_BOOT), (3, BOOT)] {
        records.save_run(&run_record(tenant, tenant as u128, boot)).expect("it is written");
    }
    drop(records);
    let runs = folder.path().join(RUNS_FOLDER);
    let files = names(&runs);
    fs::write(runs.join(&files[0]), "{\"version\":2}\n").expect("a newer launcher wrote it");
    fs::write(runs.join(&files[1]), "").expect("a power cut emptied it");
    fs::write(runs.join(format!(".tmp-{}", RunId::from_random(9))), "half").expect("a crash left it");
    fs::copy(runs.join(&files[2]), runs.join(files[2].replacen("tenant-3", "tenant-4", 1)))
        .expect("somebody copied it");

    let (_records, loaded) = open(folder.path());
    assert_eq!(loaded.runs.len(), 1);
    let blocked: Vec<&str> = loaded.damaged.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(blocked[0], instance(1).key.file_name());
    assert!(blocked[1].starts_with("ns-tenant-4"), "{blocked:?}");
    assert!(loaded.damaged[0].1.cause().is_some_and(|why| why.contains("newer")), "{:?}", loaded.damaged);
    assert_eq!(loaded.notices.len(), 1, "{:?}", loaded.notices);
    let kept = names(&runs);
    assert!(kept.contains(&files[0]) && !kept.contains(&files[1]) && kept.len() == 3, "{kept:?}");
}

#[test]
fn a_crash_between_two_revisions_of_a_record_leaves_the_later_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let (records, _) = open(folder.path());
    let mut record = run_record(1, 1, BOOT);
    records.save_run(&record).expect("it is written");
    let runs = folder.path().join(RUNS_FOLDER);
    let earlier = runs.join(&names(&runs)[0]);
    let before = fs::read(&earlier).expect("it reads");
    record.generation = Generation(2);
    records.save_run(&record).expect("it is written again");
    fs::write(&earlier, before).expect("the earlier one was not removed");
    assert_eq!(load_readonly(folder.path(), BOOT).expect("it reads").runs, [record.clone()]);
    assert_eq!(open(folder.path()).1.runs, [record]);
    assert_eq!(names(&runs).len(), 1);
}

#[test]
fn a_state_folder_that_does_not_exist_holds_no_records_for_a_reader() {
    let folder = tempfile::tempdir().expect("a folder");
    let loaded = load_readonly(&folder.path().join("absent"), BOOT).expect("it reads");
    assert!(loaded.memories.is_empty() && loaded.runs.is_empty());
    assert_eq!(names(folder.path()), Vec::<String>::new());
}

#[test]
fn an_abandoned_record_is_kept_aside_and_blocks_nothing_any_more() {
    let folder = tempfile::tempdir().expect("a folder");
    let runs = folder.path().join(RUNS_FOLDER);
    let (key, other) = (instance(1).key.clone(), instance(2).key.clone());
    {
        let (records, _) = open(folder.path());
        for record in [run_record(1, 1, BOOT), run_record(1, 2, BOOT), run_record(2, 3, BOOT)] {
            records.save_run(&record).expect("it is saved");
        }
    }
    let lives = RunId::from_random(2);
    let (damaged, kept): (Vec<String>, Vec<String>) =
        names(&runs).into_iter().partition(|name| name.contains(&RunId::from_random(1).to_string()));
    fs::write(runs.join(&damaged[0]), "damaged").expect("it is damaged");
    let (records, loaded) = open(folder.path());
    assert_eq!((loaded.damaged.len(), loaded.runs.len()), (1, 2));
    // A run that was begun since is known, and is none of what is given up.
    let since = run_record(1, 4, BOOT);
    records.save_run(&since).expect("it is saved");
    records.abandon_runs(&key.file_name(), Some(lives)).expect("it is set aside");
    records.abandon_runs(&key.file_name(), Some(lives)).expect("again is no error");
    let (_, loaded) = open(folder.path());
    assert_eq!((loaded.damaged.len(), loaded.notices.len()), (0, 0));
    let mut found: Vec<_> = loaded.runs.iter().map(|record| (record.key.clone(), record.run)).collect();
    found.sort();
    let mut expected = vec![(key.clone(), lives), (other, RunId::from_random(3)), (key, since.run)];
    expected.sort();
    assert_eq!(found, expected);
    assert!(kept.iter().all(|name| runs.join(name).exists()));
    assert_eq!(fs::read_to_string(runs.join(format!("{}.abandoned", damaged[0]))).expect("it is kept"), "damaged");
}

#[test]
fn a_memory_of_an_earlier_launcher_is_read_with_its_printed_error() {
    let mut value = serde_json::to_value(memory(1, 3)).expect("it serializes");
    let fields = value.as_object_mut().expect("fields");
    for later in ["asked_by", "suspension", "renewed"] {
        assert!(!fields.contains_key(later), "{later} is not written when there is nothing to say");
    }
    let printed = "[PROCESS_CRASHED] 'a' ended; Context: pid=1; Suggestion: look";
    fields.insert("last_error".to_owned(), printed.into());
    let read: Memory = serde_json::from_value(value.clone()).expect("it reads");
    let error = read.last_error.expect("it is there");
    assert_eq!((error.code(), error.to_string().as_str()), (Code::ProcessCrashed, printed));

    let error = Error::new(Code::HealthCheckFailed, "it failed").with("pid", 4).because("why").suggest("look");
    for last_error in [Some(error), None] {
        let memory = Memory { last_error, ..memory(1, 3) };
        let text = serde_json::to_string(&memory).expect("it serializes");
        assert_eq!(serde_json::from_str::<Memory>(&text).expect("it reads"), memory);
    }
}

#[test]
fn a_suspension_and_a_ttl_read_back() {
    let mut memory = memory(1, 0);
    let now = Moment::new(BOOT, Duration::from_millis(1_500));
    memory.suspension = Some(crate::model::Suspension {
        reason: "why \"so\"".to_owned(),
        by: crate::model::Caller::Peer { uid: 0, pid: None },
        since: now,
        until: Some(now.after(Duration::from_secs(5))),
        lasting: Some(Duration::from_secs(5)),
    });
    memory.asked_by = Some(crate::model::Caller::Remote(([127, 0, 0, 1], 80).into()));
    memory.renewed = Some(now);
    Arc::make_mut(&mut memory.instance).content.ttl = Some(Duration::from_secs(90));
    let text = serde_json::to_string(&memory).expect("it serializes");
    assert_eq!(serde_json::from_str::<Memory>(&text).expect("it reads"), memory);
}
