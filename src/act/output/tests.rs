use super::*;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

/// Limits under which a log of some megabytes is rotated often and nothing is given up.
fn small(max_size: u64, max_files: u32) -> LogLimits {
    LogLimits { max_size, max_files, namespace: None, total: None, reserve: None }
}

fn key() -> Key {
    Key::parse("ns:t:p").unwrap()
}

fn run(number: u128) -> RunId {
    RunId::from_random(number)
}

/// The way a process has its output.
fn process(folder: &Path) -> File {
    let path = folder.join(format!("{}.log", key().file_name()));
    OpenOptions::new().create(true).append(true).open(path).unwrap()
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let end = clock::now().since_boot + PATIENCE;
    while !condition() {
        assert!(clock::now().since_boot < end, "still waiting: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

fn archives(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_archive = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        matches!(files::part_of(name), Some((_, Part::Archive(_))))
    };
    let mut archives: Vec<_> = entries.filter(is_archive).collect();
    archives.sort();
    archives
}

/// Everything from a cursor on, and how much was missed.
fn rest(cursor: &mut Cursor) -> (Vec<u8>, u64) {
    let (mut all, mut missed) = (Vec::new(), 0);
    loop {
        let piece = cursor.next(files::BLOCK).unwrap();
        missed += piece.missed;
        if piece.data.is_empty() {
            return (all, missed);
        }
        all.extend(piece.data);
    }
}

fn text(output: &Output, section: Section) -> String {
    String::from_utf8(rest(&mut output.read(&key(), section).unwrap().unwrap()).0).unwrap()
}

/// Fails unless it is the lines `from`, `from + 1` and on.
fn assert_numbered(bytes: &[u8], from: u64, what: &str) -> u64 {
    let mut next = from;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        assert_eq!(line, format!("line {next:>32}\n").as_bytes(), "{what}");
        next += 1;
    }
    next
}

fn print(process: &mut File, numbers: std::ops::Range<u64>) {
    for number in numbers {
        process.write_all(format!("line {number:>32}\n").as_bytes()).unwrap();
    }
}

/// An output with one run that prints, by this very process.
fn running(limits: LogLimits) -> (TempDir, Output, File) {
    let folder = tempfile::tempdir().unwrap();
    let output = Output::start(folder.path(), limits).unwrap();
    output.begin(&key(), run(1));
    let process = process(folder.path());
    output.runs(&key(), run(1), 0);
    (folder, output, process)
}

#[test]
fn no_line_is_lost_while_a_log_is_rotated() {
    const LINES: u64 = 400_000;
    let (folder, output, mut process) = running(small(256 << 10, 1_000));
    let writer = std::thread::spawn(move || print(&mut process, 0..LINES));
    // A reader that follows meanwhile sees everything once, wherever it is by then.
    let mut cursor = output.read(&key(), Section::default()).unwrap().unwrap().following();
    let (mut next, mut partial) = (0, Vec::new());
    wait_for("all lines are read", || {
        let (more, missed) = rest(&mut cursor);
        assert_eq!(missed, 0);
        partial.extend(more);
        let whole = partial.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        next = assert_numbered(&partial.drain(..whole).collect::<Vec<u8>>(), next, "a reader that follows");
        next == LINES
    });
    writer.join().unwrap();
    wait_for("the last rotation", || archives(folder.path()).len() > 50);
    let (all, missed) = rest(&mut output.read(&key(), Section::default()).unwrap().unwrap());
    assert_eq!((missed, assert_numbered(&all, 0, "a reader that comes later")), (0, LINES));
    // And for people who look into the folder: whole lines, one file after the other.
    let joined: Vec<u8> = archives(folder.path()).iter().flat_map(|path| std::fs::read(path).unwrap()).collect();
    assert!(assert_numbered(&joined, 0, "the archives") > LINES / 2);
}

#[test]
fn a_silent_log_is_looked_at_less_until_it_grows_or_all_are_looked_at() {
    use super::log::{Log, Means};
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join(format!("{}.log", key().file_name()));
    std::fs::write(&place, "a line\n").unwrap();
    let means = Means { limits: small(1 << 20, 2), archiving: true, punching: true };
    let mut log = Log::load(files::Place::new(folder.path(), &key().file_name()), Vec::new());
    let mut look = |second: u64| log.look(Duration::from_secs(second), second * 1_000, &means).unwrap().as_secs();
    assert_eq!([100, 101, 103, 159, 160, 170].map(&mut look), [1, 2, 2, 2, 10, 10]);
    std::fs::write(&place, "a line\nand another\n").unwrap();
    assert_eq!([180, 181, 239, 240].map(&mut look), [1, 2, 2, 10]);

    let mut schedule = Schedule::default();
    schedule.put("a", Duration::from_secs(10));
    schedule.put("b", Duration::from_secs(20));
    schedule.hurry(Duration::from_secs(1));
    let mut take = || schedule.take(Duration::from_secs(1));
    assert_eq!([take(), take(), take()], [Some("a".to_owned()), Some("b".to_owned()), None]);
    assert!(schedule.at.is_empty());
}

#[test]
fn a_log_holds_no_more_than_its_size_and_its_archives() {
    use std::os::unix::fs::MetadataExt as _;
    let (folder, output, mut process) = running(small(64 << 10, 2));
    let live = folder.path().join(format!("{}.log", key().file_name()));
    for round in 0..20 {
        print(&mut process, round * 2_000..(round + 1) * 2_000);
        wait_for("it has been rotated", || {
            archives(folder.path()).len() <= 2 && live.metadata().unwrap().blocks() * 512 < 2 * (64 << 10)
        });
    }
    assert_eq!(archives(folder.path()).len(), 2);
    let (kept, missed) = rest(&mut output.read(&key(), Section::default()).unwrap().unwrap());
    let first = 40_000 - kept.len() as u64 / 38;
    assert_eq!((assert_numbered(&kept, first, "the newest is kept"), missed), (40_000, 0));
    assert!(kept.len() > 2 * 60 * 1024, "{}", kept.len());
}

#[test]
fn a_reader_that_falls_behind_is_told_how_much_it_missed() {
    let (_folder, output, mut process) = running(small(64 << 10, 1));
    let mut cursor = output.read(&key(), Section::default()).unwrap().unwrap().following();
    print(&mut process, 0..10);
    let mut read = rest(&mut cursor).0.len() as u64;
    print(&mut process, 10..20_000);
    wait_for("what it wants is gone", || lock(&output.shared.log(&key().file_name())).oldest() > 380);
    let (kept, missed) = rest(&mut cursor);
    read += kept.len() as u64;
    assert!(missed > 0);
    assert_eq!(read + missed, 20_000 * 38, "each byte is read or told as missed");
    assert_numbered(&kept, 20_000 - kept.len() as u64 / 38, "whole lines");
}

#[test]
fn addresses_go_on_under_the_next_launcher() {
    let (folder, output, mut process) = running(small(64 << 10, 1_000));
    print(&mut process, 0..5_000);
    wait_for("it has been rotated", || archives(folder.path()).len() >= 2);
    drop(output);
    print(&mut process, 5_000..10_000);
    let output = Output::start(folder.path(), small(64 << 10, 1_000)).unwrap();
    assert_eq!(assert_numbered(text(&output, Section::default()).as_bytes(), 0, "while nobody looked"), 10_000);
    output.runs(&key(), run(1), 0);
    wait_for("it is rotated again", || archives(folder.path()).len() >= 5);
    print(&mut process, 10_000..10_010);
    assert_eq!(assert_numbered(text(&output, Section::default()).as_bytes(), 0, "after the rotation"), 10_010);
    assert_eq!(
        assert_numbered(
            text(&output, Section { tail: Some(3_000), ..Section::default() }).as_bytes(),
            7_010,
            "the last lines"
        ),
        10_010
    );
}

#[test]
fn a_launcher_that_died_in_a_rotation_reads_nothing_twice() {
    let (folder, output, mut process) = running(small(64 << 10, 1_000));
    print(&mut process, 0..1_000);
    drop(output);
    // It had written the archive, and neither said so nor given the original back.
    let live = folder.path().join(format!("{}.log", key().file_name()));
    let begun = std::fs::read(&live).unwrap()[..500 * 38].to_vec();
    let place = Place::new(folder.path(), &key().file_name());
    std::fs::write(place.archive(0), begun).unwrap();
    std::fs::write(place.unfinished(), "half").unwrap();
    let output = Output::start(folder.path(), small(64 << 10, 1_000)).unwrap();
    assert_eq!(assert_numbered(text(&output, Section::default()).as_bytes(), 0, "all of it once"), 1_000);
    assert!(!place.unfinished().exists());
    let log = output.shared.log(&key().file_name());
    assert_eq!(lock(&log).bytes(), 1_000 * 38, "what was archived is in the live file no more");
}

#[test]
fn a_log_of_an_earlier_version_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    print(&mut process(folder.path()), 0..100);
    let output = Output::start(folder.path(), small(64 << 10, 4)).unwrap();
    assert!(output.has(&key()));
    assert_eq!(assert_numbered(text(&output, Section::default()).as_bytes(), 0, "all of it"), 100);
    output.begin(&key(), run(1));
    assert_eq!(assert_numbered(text(&output, Section::default()).as_bytes(), 0, "all of it"), 100);
}

#[test]
fn a_log_that_is_cut_or_replaced_goes_on_at_its_end() {
    let (folder, output, mut process) = running(small(1 << 20, 4));
    print(&mut process, 0..10);
    let mut cursor = output.read(&key(), Section::default()).unwrap().unwrap().following();
    assert_eq!(assert_numbered(&rest(&mut cursor).0, 0, "as printed"), 10);
    // By somebody, or by a program that opens its output again.
    process.set_len(0).unwrap();
    print(&mut process, 10..15);
    assert_eq!(assert_numbered(&rest(&mut cursor).0, 10, "cut"), 15);
    let live = folder.path().join(format!("{}.log", key().file_name()));
    std::fs::rename(&live, folder.path().join("elsewhere")).unwrap();
    let mut process = self::process(folder.path());
    print(&mut process, 15..35);
    assert_eq!(assert_numbered(&rest(&mut cursor).0, 15, "replaced"), 35);
}

#[test]
fn without_holes_a_log_is_rotated_between_runs_and_emptied_at_its_ceiling() {
    let folder = tempfile::tempdir().unwrap();
    let output = Output::start(folder.path(), small(64 << 10, 1)).unwrap();
    wait_for("the keeper has found out", || lock(&output.shared.found).is_empty());
    output.shared.punching.store(false, Ordering::Relaxed);
    output.begin(&key(), run(1));
    let mut process = process(folder.path());
    print(&mut process, 0..2_000);
    let log = output.shared.log(&key().file_name());
    lock(&log).look(Duration::ZERO, now(), &output.shared.means()).unwrap();
    assert_eq!(archives(folder.path()).len(), 0, "a process has it open");
    output.begin(&key(), run(2));
    assert_eq!(archives(folder.path()).len(), 1);
    let mut process = self::process(folder.path());
    print(&mut process, 2_000..2_010);
    assert_eq!(assert_numbered(text(&output, Section::default()).as_bytes(), 0, "all of it"), 2_010);
    print(&mut process, 2_010..6_000);
    lock(&log).look(Duration::ZERO, now(), &output.shared.means()).unwrap();
    assert_eq!(process.metadata().unwrap().len(), 0, "nothing else keeps it from growing for ever");
}

#[test]
fn the_run_before_is_told_from_the_last_across_rotations_and_launchers() {
    let (folder, output, mut process) = running(small(64 << 10, 1_000));
    let previous = Section { previous: true, ..Section::default() };
    assert!(output.read(&key(), previous).unwrap().is_none(), "there was none");
    print(&mut process, 0..4_000);
    wait_for("it has been rotated", || archives(folder.path()).len() >= 2);
    output.over(&key(), run(1));
    output.begin(&key(), run(2));
    output.begin(&key(), run(3));
    print(&mut process, 4_000..4_010);
    assert_eq!(
        assert_numbered(text(&output, previous).as_bytes(), 0, "one that printed nothing does not count"),
        4_000
    );
    output.runs(&key(), run(3), 0);
    drop(output);
    print(&mut process, 4_010..4_020);
    let output = Output::start(folder.path(), small(64 << 10, 1_000)).unwrap();
    assert_eq!(assert_numbered(text(&output, previous).as_bytes(), 0, "the last run goes on"), 4_000);
    output.begin(&key(), run(4));
    print(&mut process, 4_020..4_030);
    assert_eq!(assert_numbered(text(&output, previous).as_bytes(), 4_000, "the third run"), 4_020);
    let tail = Section { tail: Some(5), ..previous };
    assert_eq!(assert_numbered(text(&output, tail).as_bytes(), 4_015, "its last lines"), 4_020);
}

#[test]
fn what_was_printed_since_a_time_is_found_across_launchers() {
    // The keeper is not told that anything runs, and leaves the marks to this test.
    let folder = tempfile::tempdir().unwrap();
    let output = Output::start(folder.path(), small(64 << 10, 1_000)).unwrap();
    output.begin(&key(), run(1));
    let mut process = process(folder.path());
    let since = |time| Section { since: Some(UNIX_EPOCH + Duration::from_millis(time)), ..Section::default() };
    let log = |output: &Output| output.shared.log(&key().file_name());
    // Marks are made as it is looked at: at three times of our own, which are not near to this test.
    lock(&log(&output)).marks.clear();
    let base = now() - 10_000_000;
    for (number, step) in [(0, 0), (1, 60_000), (2, 120_000)] {
        print(&mut process, number * 3_000..(number + 1) * 3_000);
        let mut held = (*lock(&log(&output))).look(Duration::ZERO, base + step, &output.shared.means());
        assert!(held.is_ok(), "{:?}", held.as_mut());
    }
    let begins = |output: &Output, time| text(output, since(time)).lines().next().map(str::to_owned);
    let line = |number: u64| Some(format!("line {number:>32}"));
    assert_eq!(begins(&output, base - 9_000_000), line(0), "everything is later");
    assert_eq!(begins(&output, now() + 60_000), None, "nothing has been printed in the future");
    assert_eq!(begins(&output, base + 59_000), line(3_000));
    assert_eq!(begins(&output, base + 119_000), line(6_000));
    assert_eq!(begins(&output, base + 120_000), None, "nothing is later");
    print(&mut process, 9_000..9_001);
    assert_eq!(begins(&output, base + 120_000), line(9_000), "nobody has looked at it yet");
    drop(output);
    let output = Output::start(folder.path(), small(64 << 10, 1_000)).unwrap();
    assert_eq!(begins(&output, base + 119_000), line(6_000), "the next launcher knows, too");
}

#[test]
fn the_logs_of_keys_that_are_gone_are_kept_for_a_while() {
    let (folder, output, mut process) = running(small(64 << 10, 4));
    print(&mut process, 0..4_000);
    wait_for("it has been rotated", || !archives(folder.path()).is_empty());
    let mut keeper = Keeper::new(Arc::clone(&output.shared));
    keeper.sweep(now() + 30 * 86_400_000);
    assert!(!archives(folder.path()).is_empty(), "it is declared");
    output.gone(&key());
    wait_for("it is gone", || lock(&output.shared.declared).is_empty());
    keeper.sweep(now());
    assert!(!archives(folder.path()).is_empty(), "it has not been gone for long");
    keeper.sweep(now() + 8 * 86_400_000);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    assert!(!output.has(&key()));
}

#[test]
fn the_last_lines_of_a_run_are_its_own_and_bounded() {
    let (_folder, output, mut process) = running(small(64 << 10, 4));
    print(&mut process, 0..5);
    let lines = |run| output.last_lines(&key(), Some(run)).unwrap();
    assert_eq!(lines(run(1)).len(), 5);
    output.begin(&key(), run(2));
    assert_eq!(lines(run(2)), Vec::<String>::new());
    process.write_all("ä".repeat(300).as_bytes()).unwrap();
    assert_eq!(lines(run(2)), ["ä".repeat(256) + "…"]);
    process.write_all(b"\n").unwrap();
    print(&mut process, 0..3_000);
    let last: Vec<String> = (2_980..3_000_u64).map(|number| format!("line {number:>32}")).collect();
    assert_eq!(lines(run(2)), last);
    assert_eq!(lines(run(1)).last(), Some(&format!("line {:>32}", 4)));
    assert_eq!(lines(run(3)), Vec::<String>::new(), "of a run that nobody knows");
    assert_eq!(output.last_lines(&key(), None).unwrap(), last, "of whichever run");
}

/// A log that nobody but the test looks at.
fn alone(lines: u64) -> (TempDir, Output, File, Arc<Mutex<Log>>) {
    let folder = tempfile::tempdir().unwrap();
    let output = Output::start(folder.path(), small(64 << 10, 1_000)).unwrap();
    wait_for("the keeper has found out", || lock(&output.shared.found).is_empty());
    output.begin(&key(), run(1));
    let mut process = process(folder.path());
    print(&mut process, 0..lines);
    let log = output.shared.log(&key().file_name());
    (folder, output, process, log)
}

#[test]
fn nothing_is_copied_where_there_is_no_room_and_a_log_is_cut_all_the_same() {
    let (folder, output, _process, log) = alone(20_000);
    let means = Means { archiving: false, ..output.shared.means() };
    lock(&log).look(Duration::ZERO, now(), &means).unwrap();
    assert_eq!(archives(folder.path()).len(), 0);
    assert!(lock(&log).bytes() < 64 << 10);
    assert_eq!(text(&output, Section::default()).lines().last(), Some(format!("line {:>32}", 19_999).as_str()));
}

#[test]
fn whoever_gives_up_most_keeps_the_last_lines() {
    let (_folder, output, mut process, log) = alone(20_000);
    lock(&log).look(Duration::ZERO, now(), &output.shared.means()).unwrap();
    print(&mut process, 20_000..22_000);
    assert!(lock(&log).shed(u64::MAX, true).unwrap() > 0);
    let kept = text(&output, Section::default());
    assert_eq!(assert_numbered(kept.as_bytes(), 22_000 - kept.len() as u64 / 38, "the last lines"), 22_000);
    assert!(kept.len() as u64 > (64 << 10) - 38, "{}", kept.len());
}

#[test]
fn a_reader_is_never_given_what_is_being_punched() {
    for round in 0..20 {
        let (_folder, output, _process, log) = alone(100_000);
        let mut cursor = output.read(&key(), Section::default()).unwrap().unwrap();
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut all = Vec::new();
                loop {
                    let piece = cursor.next(16 << 20).unwrap();
                    assert_eq!(piece.missed, 0);
                    if piece.data.is_empty() {
                        return all;
                    }
                    all.extend(piece.data);
                }
            });
            lock(&log).look(Duration::ZERO, now(), &output.shared.means()).unwrap();
            assert_eq!(assert_numbered(&reader.join().unwrap(), 0, &format!("round {round}")), 100_000);
        });
    }
}

#[test]
fn what_cannot_be_written_down_is_bounded() {
    let (folder, output, mut process, log) = alone(1);
    let index = Place::new(folder.path(), &key().file_name()).index();
    std::fs::remove_file(&index).unwrap();
    std::fs::create_dir(&index).unwrap();
    // Each look is long after the one before, and makes a mark.
    for number in 1..5_000 {
        print(&mut process, number..number + 1);
        let looked = lock(&log).look(Duration::ZERO, now() + number * 20_000, &output.shared.means());
        assert!(looked.is_err() || number == 1, "{looked:?}");
    }
    let waiting = format!("{:?}", lock(&log)).matches("Mark(Mark").count();
    assert!(waiting > 0 && waiting < 2_000, "{waiting} entries wait");
    std::fs::remove_dir(&index).unwrap();
    lock(&log).write_down(now()).unwrap();
    assert!(index::read(&index).unwrap().len() < 2_000);
}

#[test]
fn the_keeper_looks_at_one_log_of_each_namespace_in_turn() {
    let folder = tempfile::tempdir().unwrap();
    let output = Output::start(folder.path(), LogLimits::default()).unwrap();
    let key = |name: &str| Key::parse(&format!("ns:{}:{name}", &name[..1])).unwrap();
    let names: Vec<String> = ["a1", "a2", "a3", "b1", "c1"].iter().map(|name| key(name).file_name()).collect();
    for name in ["a1", "a2", "a3", "b1", "c1"] {
        output.begin(&key(name), run(1));
    }
    let keeper = Keeper::new(Arc::clone(&output.shared));
    let ordered = keeper.in_turns(names);
    let expected: Vec<String> = ["a1", "b1", "c1", "a2", "a3"].iter().map(|name| key(name).file_name()).collect();
    assert_eq!(ordered, expected);
}
