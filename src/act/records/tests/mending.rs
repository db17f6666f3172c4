//! Records that somebody removes, renames or puts back under the launcher that keeps them.

use super::*;
use crate::act::state_folder::Presence;

/// A folder with two runs on record, and a memory that an earlier launcher wrote.
fn kept() -> (tempfile::TempDir, PathBuf, Records) {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state");
    let (records, _) = open(&state);
    records.save_memory(memory(1, 7));
    drop(records);
    let (records, loaded) = open(&state);
    assert_eq!(loaded.memories, [memory(1, 7)]);
    for run in [1, 2] {
        records.save_run(&run_record(1, run, BOOT)).expect("it is written");
    }
    (folder, state, records)
}

#[expect(clippy::disallowed_methods, reason = "what is waited for is a thread, and this is no loop of a runtime")]
fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..5_000 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("{what} did not come about");
}

fn harms() -> [fn(&Path); 3] {
    [
        |state| fs::remove_dir_all(state).expect("removed"),
        |state| fs::rename(state, state.with_extension("away")).expect("renamed"),
        |state| {
            fs::rename(state, state.with_extension("away")).expect("renamed");
            fs::create_dir_all(state.join(RUNS_FOLDER)).expect("another is made");
            fs::write(state.join(MEMORY_LOG), "somebody else's\n").expect("written");
        },
    ]
}

#[test]
fn all_of_it_is_there_again_after_the_folder_went_although_nothing_is_said_meanwhile() {
    for harm in harms() {
        let (_folder, state, records) = kept();
        assert_eq!((records.mend_runs().expect("whole"), records.mend_memories()), (Presence::Whole, Presence::Whole));
        harm(&state);
        assert_eq!(records.mend_runs().expect("made"), Presence::Made);
        assert_eq!(records.mend_memories(), Presence::Pending);
        until("the log is there again", || records.mend_memories() == Presence::Whole);
        assert_eq!(records.mend_runs().expect("whole"), Presence::Whole);
        let found = load_readonly(&state, BOOT).expect("it reads");
        assert_eq!(found.memories, [memory(1, 7)]);
        assert_eq!(found.runs.len(), 2);
        assert!(found.damaged.is_empty() && found.notices.is_empty(), "{:?}", found.notices);
        // And what is said from now on is in the new file.
        records.save_memory(memory(2, 1));
        until("the next is written", || load_readonly(&state, BOOT).expect("it reads").memories.len() == 2);
    }
}

#[test]
fn a_log_whose_folder_goes_again_and_again_while_it_is_written_forgets_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state").join(MEMORY_LOG);
    fs::create_dir(folder.path().join("state")).expect("made");
    let (mut log, _) = open_log(&path).expect("it opens");
    let mut world = BTreeMap::new();
    for round in 0..20 {
        // What is written first makes most of the log history, so that it is shorter once it is made anew.
        let ops: Vec<Op> = (0..3).map(|tenant| Op::Save(Box::new(memory(tenant, round)))).collect();
        log.append(ops.iter()).expect("it is written");
        fs::remove_dir_all(folder.path().join("state")).expect("removed");
        let last = Op::Save(Box::new(memory(usize::try_from(round % 5).expect("small"), 100 + round)));
        log.append(std::iter::once(&last)).expect("it is written to a new one");
        ops.iter().chain([&last]).for_each(|op| apply(&mut world, op));
        let found = log::parse(&path, &fs::read(&path).expect("it is there")).expect("it reads").history;
        assert!(found.damage.is_empty(), "round {round}: {:?}", found.damage);
        assert_eq!(found.memories, world.values().cloned().collect::<Vec<_>>(), "round {round}");
    }
}

#[test]
fn one_record_that_was_removed_is_written_again_however_quiet_it_was() {
    let (_folder, state, records) = kept();
    for _ in 0..4 {
        assert_eq!(records.mend_runs().expect("whole"), Presence::Whole);
    }
    let runs = state.join(RUNS_FOLDER);
    let before = names(&runs);
    fs::remove_file(runs.join(&before[0])).expect("somebody removes it");
    assert_eq!(records.mend_runs().expect("made"), Presence::Made);
    assert_eq!(names(&runs), before);
}

#[test]
fn a_log_that_is_in_the_place_of_ours_is_kept_under_another_name() {
    let (_folder, state, records) = kept();
    harms()[2](&state);
    until("the log is there again", || records.mend_memories() == Presence::Whole);
    let aside = fs::read_to_string(state.join("memory.log.replaced")).expect("it is kept");
    assert_eq!(aside, "somebody else's\n");
}

#[test]
fn the_record_of_a_run_that_ended_meanwhile_does_not_come_back() {
    let (_folder, state, records) = kept();
    fs::remove_dir_all(&state).expect("removed");
    records.drop_run(RunId::from_random(1)).expect("there is nothing to remove");
    assert_eq!(records.mend_runs().expect("made"), Presence::Made);
    let found = load_readonly(&state, BOOT).expect("it reads");
    assert_eq!(found.runs.iter().map(|record| record.run).collect::<Vec<_>>(), [RunId::from_random(2)]);
}

#[test]
fn nor_does_it_when_it_ends_at_the_very_moment() {
    let (_folder, state, records) = kept();
    let runs = state.join(RUNS_FOLDER);
    for round in 10..310 {
        records.save_run(&run_record(3, round, BOOT)).expect("it is written");
        fs::remove_dir_all(&runs).expect("removed");
        std::thread::scope(|scope| {
            scope.spawn(|| records.mend_runs().expect("made"));
            scope.spawn(|| records.drop_run(RunId::from_random(round)).expect("dropped"));
        });
        assert_eq!(names(&runs).len(), 2, "round {round}");
    }
}

#[test]
fn what_could_not_be_written_or_removed_is_owed() {
    let (_folder, state, records) = kept();
    let runs = state.join(RUNS_FOLDER);
    fs::remove_dir_all(&runs).expect("removed");
    fs::write(&runs, "in the way").expect("written");
    let later = RunRecord { generation: Generation(9), ..run_record(1, 1, BOOT) };
    records.save_run(&later).expect_err("something is in the way");
    records.save_run(&run_record(1, 3, BOOT)).expect_err("a run that never began is owed nothing");
    records.mend_runs().expect_err("it still is");
    fs::remove_file(&runs).expect("removed");
    assert_eq!(records.mend_runs().expect("made"), Presence::Made);
    let mut found = load_readonly(&state, BOOT).expect("it reads").runs;
    found.sort_by_key(|record| record.generation);
    assert_eq!(found, [run_record(1, 2, BOOT), later]);
    // A record that cannot be removed is one that is a folder.
    let own =
        names(&runs).into_iter().find(|name| name.contains(&RunId::from_random(2).to_string())).expect("it is there");
    fs::remove_file(runs.join(&own)).expect("removed");
    fs::create_dir(runs.join(&own)).expect("made");
    records.drop_run(RunId::from_random(2)).expect_err("it is a folder");
    fs::remove_dir(runs.join(&own)).expect("removed");
    assert_eq!(records.mend_runs().expect("dropped"), Presence::Made);
    assert_eq!(names(&runs).len(), 1, "it is not written again");
}

#[test]
fn what_blocks_a_key_or_protects_a_cgroup_is_written_again_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state");
    let runs = state.join(RUNS_FOLDER);
    let (records, _) = open(&state);
    for run in [1, 2] {
        records.save_run(&run_record(usize::try_from(run).expect("small"), run, BOOT)).expect("it is written");
    }
    drop(records);
    for name in names(&runs) {
        fs::write(runs.join(name), "damaged").expect("written");
    }
    let (records, loaded) = open(&state);
    assert_eq!(loaded.damaged.len(), 2);
    records.abandon_runs(&loaded.damaged[1].0, None).expect("set aside");
    let before = names(&runs);
    assert_eq!(before.iter().filter(|name| name.ends_with(".abandoned")).count(), 1);
    fs::remove_dir_all(&state).expect("removed");
    assert_eq!(records.mend_runs().expect("made"), Presence::Made);
    assert_eq!(names(&runs), before);
    assert!(records.stray_runs().expect("it is listed").is_empty());
}

#[test]
fn records_that_no_run_accounts_for_are_found_and_earlier_revisions_of_known_ones_removed() {
    let (_folder, state, records) = kept();
    let runs = state.join(RUNS_FOLDER);
    assert!(records.stray_runs().expect("it is listed").is_empty());
    let old = names(&runs);
    let copies: Vec<Vec<u8>> = old.iter().map(|name| fs::read(runs.join(name)).expect("it reads")).collect();
    // One goes on to its next revision, the other ends; then both come back as they were.
    let ended = usize::from(!old[1].contains(&RunId::from_random(1).to_string()));
    records.save_run(&run_record(1, 2, BOOT)).expect("it is written");
    records.drop_run(RunId::from_random(1)).expect("it is removed");
    for (name, bytes) in old.iter().zip(&copies) {
        fs::write(runs.join(name), bytes).expect("written");
    }
    let strays = records.stray_runs().expect("it is listed");
    assert_eq!(strays.len(), 1);
    assert_eq!(strays[0].record, Ok(run_record(1, 1, BOOT)));
    assert_eq!(names(&runs).len(), 2, "of the known one only the later is left: {ended}");
}

#[test]
fn a_later_record_that_could_not_be_written_beside_the_earlier_is_owed() {
    let (_folder, state, records) = kept();
    let draft = state.join(RUNS_FOLDER).join(format!(".tmp-{}", RunId::from_random(1)));
    fs::create_dir(&draft).expect("in the way");
    let later = RunRecord { generation: Generation(9), ..run_record(1, 1, BOOT) };
    records.save_run(&later).expect_err("something is in the way");
    fs::remove_dir(&draft).expect("removed");
    assert_eq!(records.mend_runs().expect("made"), Presence::Made);
    assert!(load_readonly(&state, BOOT).expect("it reads").runs.contains(&later));
}

#[test]
fn what_happens_in_the_moment_of_a_look_is_seen_by_the_next() {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
    let (_folder, state, records) = kept();
    let runs = state.join(RUNS_FOLDER);
    assert_eq!(records.mend_runs().expect("whole"), Presence::Whole);
    let stat = rustix::fs::stat(&runs).expect("a folder");
    let before = names(&runs);
    fs::remove_file(runs.join(&before[0])).expect("removed");
    // The clock of a file system may stand still for some milliseconds.
    let moment = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec.cast_signed() };
    let times = Timestamps { last_access: moment, last_modification: moment };
    utimensat(CWD, &runs, &times, AtFlags::empty()).expect("set back");
    assert_eq!(records.mend_runs().expect("made"), Presence::Made);
    assert_eq!(names(&runs), before);
}

#[test]
fn a_record_that_is_set_aside_at_the_very_moment_does_not_block_its_key_again() {
    for round in 0..100 {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path().join("state");
        let runs = state.join(RUNS_FOLDER);
        let (records, _) = open(&state);
        records.save_run(&run_record(1, 1, BOOT)).expect("it is written");
        drop(records);
        fs::write(runs.join(&names(&runs)[0]), "damaged").expect("written");
        let (records, loaded) = open(&state);
        fs::remove_dir_all(&runs).expect("removed");
        std::thread::scope(|scope| {
            scope.spawn(|| records.mend_runs().expect("made"));
            scope.spawn(|| records.abandon_runs(&loaded.damaged[0].0, None).expect("set aside"));
        });
        records.mend_runs().expect("made");
        let left = names(&runs);
        assert!(left.len() == 1 && left[0].ends_with(".abandoned"), "round {round}: {left:?}");
    }
}

#[test]
fn a_record_is_not_taken_for_a_stray_while_it_is_written() {
    let (_folder, _, records) = kept();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for run in 10..3_000 {
                records.save_run(&run_record(3, run, BOOT)).expect("it is written");
                records.drop_run(RunId::from_random(run)).expect("it is removed");
            }
        });
        while !writer.is_finished() {
            let strays = records.stray_runs().expect("it is listed");
            assert!(strays.is_empty(), "{strays:?}");
        }
    });
}

/// The records of a held state folder in whose place another's is now, which has run records, too; and its lock.
fn occupied(damaged: bool) -> (tempfile::TempDir, PathBuf, Records, fs::File) {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state");
    let runs = state.join(RUNS_FOLDER);
    if damaged {
        let (records, _) = open(&state);
        records.save_run(&run_record(1, 1, BOOT)).expect("it is written");
        fs::write(runs.join(&names(&runs)[0]), "damaged").expect("written");
    }
    let held = StateFolder::acquire(&state).expect("it is held");
    let (records, _) = Records::open_in(&held, BOOT).expect("the records open");
    if !damaged {
        records.save_run(&run_record(1, 1, BOOT)).expect("it is written");
    }
    fs::rename(&state, folder.path().join("away")).expect("renamed");
    fs::create_dir_all(&runs).expect("another's");
    let lock = fs::File::create(state.join("lock")).expect("another's");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).expect("nobody holds it");
    (folder, state, records, lock)
}

#[test]
fn nothing_is_recorded_in_a_folder_that_another_holds() {
    for damaged in [false, true] {
        let (_folder, state, records, lock) = occupied(damaged);
        records.save_run(&run_record(2, 2, BOOT)).expect_err("it is another's");
        records.mend_runs().expect_err("it is another's");
        records.save_memory(memory(2, 1));
        until("the memory cannot be written", || !records.health().is_writable());
        assert_eq!(names(&state), ["lock", RUNS_FOLDER]);
        assert_eq!(names(&state.join(RUNS_FOLDER)), [""; 0]);
        drop(lock);
        assert_eq!(records.mend_runs().expect("made"), Presence::Made);
        assert_eq!(names(&state.join(RUNS_FOLDER)).len(), 1);
    }
}
