//! What processes print is rotated, bounded and read without a line being lost, whatever becomes of the launcher.

use crate::world::api::Client;
use crate::world::command::program;
use crate::world::{Daemon, Prismctl, World, alive, wait_for};
use pattern_launcher::api::proto::WatchEventsRequest;
use std::fs;
use std::path::PathBuf;
use tokio_stream::StreamExt as _;

const ID: &str = "ns:a:printer";

/// Lines are numbered, of 100 bytes each: fails unless these are `from` and on, and gives what comes after the last.
fn numbered(text: &str, from: u64) -> u64 {
    let mut next = from;
    for line in text.lines() {
        assert_eq!(line.split_whitespace().next().and_then(|number| number.parse().ok()), Some(next), "{line}");
        next += 1;
    }
    next
}

/// The archives of all logs of a world.
fn archives(world: &World) -> Vec<PathBuf> {
    let entries = fs::read_dir(world.state().join("logs")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end.len() == 20)).collect()
}

/// What the logs of a world hold on the disk, in bytes.
pub(crate) fn held(world: &World) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let entries = fs::read_dir(world.state().join("logs")).unwrap().flatten();
    entries.filter_map(|entry| Some(entry.metadata().ok()?.blocks() * 512)).sum()
}

/// Makes a pattern that runs a shell script.
fn script(world: &World, text: &str) {
    let folder = world.patterns().join("printer");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("run.sh"), text).unwrap();
    let manifest = "name: printer\nversion: 1.0.0\nexecutable: /bin/sh\nargs: [\"./run.sh\"]\n";
    world.put(&folder.join("manifest.yaml"), manifest);
    world.desire("printer.yaml", "pattern: printer\nnamespace: a\n");
}

fn flooder(world: &World, lines: u64, namespaces: &str) {
    world.pattern("printer", "log_flooder", &format!("args: [\"--lines\", \"{lines}\"]"));
    world.desire("printer.yaml", &format!("pattern: printer\nnamespaces: [{namespaces}]\n"));
}

fn rotating(world: &World, size: &str, files: &str) -> Daemon {
    world.launch().flag("--log-max-size", size).flag("--log-max-files", files).start()
}

#[test]
fn no_line_is_lost_in_rotations_and_crashes_of_the_launcher() {
    const LINES: u64 = 300_000;
    let world = World::new();
    flooder(&world, LINES, "a");
    let daemon = rotating(&world, "1Mi", "100");
    let pid = daemon.settled(ID);
    wait_for("it is rotated", || (archives(&world).len() >= 3).then_some(()));
    daemon.kill();
    let daemon = rotating(&world, "1Mi", "100");
    assert_eq!(daemon.settled(ID), pid, "the process goes on");
    let prismctl = Prismctl::of(&world);
    let last = format!("{LINES:>10} ");
    wait_for("all is printed", || {
        prismctl.run(&format!("pattern logs {ID} --tail 1")).out.starts_with(&last).then_some(())
    });
    wait_for("the rest is rotated", || (archives(&world).len() >= 28).then_some(()));
    let all = prismctl.done(&format!("pattern logs {ID}"));
    assert_eq!(numbered(&all, 1), LINES + 1);
    let tail = prismctl.done(&format!("pattern logs {ID} --tail 20000"));
    assert_eq!(numbered(&tail, LINES - 20_000 + 1), LINES + 1, "across archives");
}

#[test]
fn runs_times_and_last_lines_are_told_apart_across_launchers() {
    let world = World::new();
    script(&world, "echo \"one $RUN_ID\"\necho \"two $RUN_ID\"\nexec sleep 86400\n");
    let daemon = world.start();
    let prismctl = Prismctl::of(&world);
    let first = daemon.settled(ID);
    let wanted = |line: &str| prismctl.done(format!("pattern logs {ID} {line}").trim());
    wait_for("it has printed", || (wanted("--tail 5").lines().count() == 2).then_some(()));
    let first_run = wanted("--tail 5");
    let refused = prismctl.refused(&format!("pattern logs {ID} --previous"), 3);
    assert!(refused.err.contains("earlier run"), "{}", refused.err);
    prismctl.done(&format!("pattern restart {ID}"));
    daemon.wait("another process", |status| status.settled(ID).filter(|pid| *pid != first));
    wait_for("it has printed, too", || (wanted("--since 1h").lines().count() == 4).then_some(()));
    daemon.kill();
    let daemon = world.start();
    daemon.settled(ID);
    assert_eq!(wanted("--previous"), first_run);
    assert_eq!(wanted("--previous --tail 1"), first_run.lines().last().map(|line| format!("{line}\n")).unwrap());
    assert!(wanted("").starts_with(&first_run));
    assert_eq!(wanted("--since 2100-01-01T00:00:00Z"), "");
    let refused = prismctl.run(&format!("pattern logs {ID} --since yesterday"));
    assert_eq!(refused.code, 2, "{refused:?}");
}

#[test]
fn a_namespace_that_floods_its_logs_pushes_out_nobody_elses() {
    let world = World::new();
    flooder(&world, 200_000, "a, b");
    world.pattern("calm", "log_flooder", "args: [\"--lines\", \"50\"]");
    world.desire("calm.yaml", "pattern: calm\nnamespace: c\n");
    let launch = world.launch().flag("--log-max-size", "256Ki").flag("--log-max-files", "1000");
    let daemon = launch.flag("--log-max-namespace", "4Mi").flag("--log-max-total", "6Mi").start();
    let pid = daemon.settled(ID);
    let prismctl = Prismctl::of(&world);
    wait_for("both have printed all", || {
        // What is given up meanwhile may be told on standard error.
        let mut last = ["a", "b"].into_iter().map(|n| prismctl.run(&format!("pattern logs ns:{n}:printer --tail 1")));
        last.all(|said| said.out.starts_with("    200000 ")).then_some(())
    });
    wait_for("they are within their ceilings", || (held(&world) < 7 << 20).then_some(()));
    assert_eq!(numbered(&prismctl.done("pattern logs ns:c:calm"), 1), 51, "who is quiet loses nothing");
    let kept = prismctl.done(&format!("pattern logs {ID}"));
    let first: u64 = kept.split_whitespace().next().unwrap().parse().unwrap();
    assert!(first > 100_000, "{first}");
    assert_eq!(numbered(&kept, first), 200_001, "what is kept is the newest, without a gap");
    assert!(daemon.log().contains("the oldest output is given up"), "it is told");
    assert!(alive(pid));
}

#[test]
fn how_much_is_kept_changes_with_the_configuration_while_it_runs() {
    let world = World::new();
    flooder(&world, 10_000, "a");
    let file = world.root().join("launcher.toml");
    let keep = |size: &str, files: u32| {
        fs::write(&file, format!("log_max_size = \"{size}\"\nlog_max_files = {files}\n")).unwrap();
    };
    keep("64Mi", 4);
    let daemon = world.launch().flag("--config", file.to_str().unwrap()).start();
    let pid = daemon.settled(ID);
    let prismctl = Prismctl::of(&world);
    wait_for("all is printed", || {
        prismctl.done(&format!("pattern logs {ID} --tail 1")).starts_with("     10000 ").then_some(())
    });
    assert_eq!(archives(&world).len(), 0);
    keep("64Ki", 2);
    daemon.signal("HUP");
    wait_for("it is rotated", || (archives(&world).len() == 2).then_some(()));
    let kept = prismctl.done(&format!("pattern logs {ID}"));
    let first: u64 = kept.split_whitespace().next().unwrap().parse().unwrap();
    assert_eq!((first > 5_000, numbered(&kept, first)), (true, 10_001), "{first}");
    assert!(!daemon.log().contains("takes effect when the launcher is restarted"), "{}", daemon.log());
    assert!(alive(pid));
}

#[test]
fn a_log_folder_that_is_deleted_is_made_anew_and_nothing_that_runs_goes_dumb() {
    let world = World::new();
    script(&world, "i=0\nwhile :; do i=$((i + 1)); echo \"$i\"; sleep 0.05; done\n");
    let daemon = world.start();
    let pid = daemon.settled(ID);
    let prismctl = Prismctl::of(&world);
    let last = || prismctl.done(&format!("pattern logs {ID} --tail 1")).trim().parse::<u64>().ok();
    wait_for("it prints", || last().filter(|number| *number > 5));
    let logs = world.state().join("logs");
    fs::remove_dir_all(&logs).unwrap();
    wait_for("the folder is there again", || logs.is_dir().then_some(()));
    wait_for("it is told", || daemon.log().contains("the folder for logs had been removed").then_some(()));
    let before = wait_for("what it prints is read all the same", last);
    wait_for("and goes on to be", || last().filter(|number| *number > before + 5));
    wait_for("/health is content", || daemon.get("/health").filter(|(code, _)| *code == 200));
    assert_eq!(daemon.settled(ID), pid, "nothing was restarted");
    // Its next start writes where it should.
    prismctl.done(&format!("pattern restart {ID}"));
    daemon.wait("another process", |status| status.settled(ID).filter(|next| *next != pid));
    let is_live = |path: PathBuf| path.extension().is_some_and(|end| end == "log");
    wait_for("its log has a name", || fs::read_dir(&logs).unwrap().flatten().any(|e| is_live(e.path())).then_some(()));
    let previous = prismctl.done(&format!("pattern logs {ID} --previous"));
    assert!(previous.lines().count() > 5, "what was printed without a name is kept: {previous}");
}

#[test]
fn the_last_lines_of_a_run_are_shown_with_its_failure_and_nowhere_else() {
    let world = World::new();
    script(&world, "for i in $(seq 1 30); do echo \"line $i\"; done\nprintf '\\033[2Jsecret-looking\\n' >&2\nexit 3\n");
    let daemon = world.launch().flag("--max-errors", "2").flag("--circuit-retry", "off").start();
    daemon.wait("its circuit is open", |status| status.key(ID).filter(|key| key.circuit_open).map(drop));
    let prismctl = Prismctl::of(&world);
    let expected: Vec<String> =
        (12..=30).map(|i| format!("line {i}")).chain(["\u{1b}[2Jsecret-looking".to_owned()]).collect();
    for command in ["status", "explain"] {
        let told = prismctl.json(&format!("pattern {command} {ID}"));
        let lines = if command == "status" { &told["last_lines"] } else { &told["printed"] };
        assert_eq!(*lines, serde_json::json!(expected), "{told}");
        let text = prismctl.done(&format!("pattern {command} {ID}"));
        assert!(text.contains("  line 30\n") && text.contains("\\u{1b}[2Jsecret-looking"), "{text}");
    }
    for path in ["/health?processes=true", "/metrics", "/metrics.json"] {
        let (_, text) = daemon.get(path).unwrap();
        assert!(!text.contains("line 30"), "{path}: {text}");
    }
    assert!(!prismctl.done("pattern list -o json").contains("line 30"));
    assert!(!fs::read_to_string(world.state().join("status.json")).unwrap().contains("line 30"));
    // The next launcher shows them, too.
    daemon.kill();
    let daemon = world.launch().flag("--max-errors", "2").flag("--circuit-retry", "off").start();
    daemon.wait("its circuit is open", |status| status.key(ID).filter(|key| key.circuit_open).map(drop));
    assert_eq!(prismctl.json(&format!("pattern status {ID}"))["last_lines"], serde_json::json!(expected));
    // Whoever watches is told of them with the failure; what is written down of it does not have them.
    let client = Client::of(&world);
    let mut stub = client.stub();
    let mut events = client.run(stub.watch_events(WatchEventsRequest::default())).unwrap().into_inner();
    prismctl.done(&format!("pattern reset {ID}"));
    let mut next = || client.run(events.next()).unwrap().unwrap().event.unwrap();
    let started = next();
    assert!(started.message != "process failed" && started.last_lines.is_empty(), "{started:?}");
    let failed = std::iter::repeat_with(next).find(|event| event.message == "process failed").unwrap();
    assert_eq!(failed.last_lines, expected);
    assert!(!fs::read_to_string(world.state().join("events.log")).unwrap().contains("line 30"));
}

/// A file system of its own in memory, until it is dropped; `None`, said loudly, where that may not be mounted.
struct Small(PathBuf);

impl Small {
    fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::Builder::new().prefix("launcher-e2e-small-").tempdir().unwrap().keep();
        let path = folder.to_str().unwrap().to_owned();
        let option = format!("size={size}");
        let mounted = program("mount").args(["-t", "tmpfs", "-o", &option, "tmpfs", &path]).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(folder));
        }
        eprintln!("skipped: a small file system cannot be mounted here, which takes root");
        drop(fs::remove_dir(folder));
        None
    }

    fn free(&self) -> u64 {
        let disk = rustix::fs::statvfs(&self.0).unwrap();
        disk.f_bavail * disk.f_frsize
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        drop(program("umount").arg("-l").arg(&self.0).output());
        drop(fs::remove_dir(&self.0));
    }
}

#[test]
fn when_the_disk_is_nearly_full_logs_stop_growing_and_all_else_goes_on() {
    let Some(disk) = Small::mount("96m") else { return };
    let world = World::within(&disk.0, 10);
    // Prints without end, ten thousand lines of a hundred bytes at a time.
    let line = "x".repeat(89);
    script(&world, &format!("while :; do seq -f '%010.0f{line}' 1 10000; sleep 0.05; done\n"));
    let launch = world.launch().flag("--log-max-size", "4Mi").flag("--log-max-files", "1000");
    let daemon = launch.flag("--log-disk-reserve", "16Mi").start();
    let pid = daemon.settled(ID);
    wait_for("logs take what they may", || daemon.log().contains("log_disk_reserve").then_some(()));
    let grown = held(&world);
    // Somebody else takes two thirds of that, and the logs have to make room.
    let ballast = world.root().join("ballast");
    fs::write(&ballast, vec![1; usize::try_from(grown * 2 / 3).unwrap()]).unwrap_or_default();
    wait_for("there is room again", || (disk.free() > 8 << 20 && held(&world) < grown * 2 / 3).then_some(()));
    world.desire("more.yaml", "pattern: printer\nnamespace: b\n");
    daemon.settled("ns:b:printer");
    assert_eq!(daemon.settled(ID), pid);
    let (code, health) = daemon.get("/health").unwrap();
    assert_eq!(code, 200, "{health}");
    drop(daemon);
    drop(world);
}
