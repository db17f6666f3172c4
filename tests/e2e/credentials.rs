//! Credentials: who finds them, what becomes of them, and that no secret is shown anywhere.

use crate::world::command::program;
use crate::world::{Daemon, Launch, Prismctl, World, processes, signal, wait_for};
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

/// A folder of credentials with one file.
fn source(world: &World) -> PathBuf {
    let folder = world.root().join("credentials");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("db"), "first value\n").unwrap();
    folder
}

fn with_source<'a>(world: &'a World, folder: &Path) -> Launch<'a> {
    world.launch().flag("--credentials-dir", folder.to_str().unwrap()).flag("--backoff-period", "100ms")
}

/// Where a process finds its credentials.
fn folder_of(pid: i32) -> PathBuf {
    processes::environment(pid)["CREDENTIALS_DIRECTORY"].clone().into()
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// The next process of a key.
fn next(daemon: &Daemon, id: &str, before: i32) -> i32 {
    daemon.wait("another process runs", |status| status.settled(id).filter(|pid| *pid != before))
}

#[test]
fn a_process_finds_its_credentials_as_they_were_when_it_was_started_and_they_go_with_it() {
    let world = World::new();
    let source = source(&world);
    world.pattern("sleeper", "sleeper", "");
    world.desire("a.yaml", "pattern: sleeper\nnamespace: a\ncredentials: { DB: db }\n");
    fs::set_permissions(world.root(), fs::Permissions::from_mode(0o711)).unwrap();
    let users = if is_root() { "true" } else { "false" };
    let launch = with_source(&world, &source).flag("--tenant-users", users).flag("--on-exit", "detach");
    let daemon = launch.start();
    let pid = daemon.settled("ns:a:sleeper");
    let folder = folder_of(pid);
    let owner = fs::metadata(format!("/proc/{pid}")).unwrap().uid();
    for (path, mode) in [(folder.clone(), 0o500), (folder.join("DB"), 0o400)] {
        let found = fs::symlink_metadata(&path).unwrap();
        assert_eq!((found.mode() & 0o7777, found.uid()), (mode, owner), "{}", path.display());
    }
    assert_eq!(fs::read_to_string(folder.join("DB")).unwrap(), "first value\n");

    // What is changed meanwhile counts from the next start on, and a launcher that takes over takes nothing away.
    fs::write(source.join("db"), "second value\n").unwrap();
    daemon.kill();
    let daemon = launch.start();
    assert_eq!(daemon.settled("ns:a:sleeper"), pid, "it is taken over");
    assert_eq!(fs::read_to_string(folder.join("DB")).unwrap(), "first value\n");
    signal(pid, "KILL");
    let second = next(&daemon, "ns:a:sleeper", pid);
    let later = folder_of(second);
    assert_eq!(fs::read_to_string(later.join("DB")).unwrap(), "second value\n");
    wait_for("what the first was given is gone", || (!folder.exists()).then_some(()));

    // Another mapping is another process.
    world.desire("a.yaml", "pattern: sleeper\nnamespace: a\ncredentials: { DATABASE: db }\n");
    let third = next(&daemon, "ns:a:sleeper", second);
    let folder = folder_of(third);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    assert!(folder.join("DATABASE").exists() && !later.exists());

    // What dies with its launcher leaves nothing for longer than until the next one.
    daemon.kill();
    signal(third, "KILL");
    world.undesire("a.yaml");
    let daemon = launch.start();
    daemon.gone("ns:a:sleeper");
    wait_for("what the last was given is gone", || (!folder.exists()).then_some(()));
    assert!(daemon.stop().success());
    assert!(!folder.parent().unwrap().exists(), "{} is left", folder.parent().unwrap().display());
}

#[test]
fn a_start_that_came_to_nothing_leaves_no_copy() {
    let world = World::new();
    let source = source(&world);
    world.pattern("sleeper", "sleeper", "");
    // One is not found before there is a child, the other by the child itself.
    world.pattern("missing", "sleeper", "");
    fs::remove_file(world.program("missing")).unwrap();
    fs::create_dir(world.patterns().join("unknown")).unwrap();
    let unknown = "name: unknown\nversion: 1.0.0\nexecutable: no-such-program\n";
    world.put(&world.patterns().join("unknown/manifest.yaml"), unknown);
    for pattern in ["sleeper", "missing", "unknown"] {
        let text = format!("pattern: {pattern}\nnamespace: a\ncredentials: {{ x: db }}\n");
        world.desire(&format!("{pattern}.yaml"), &text);
    }
    let daemon = with_source(&world, &source).flag("--max-errors", "2").start();
    let pid = daemon.settled("ns:a:sleeper");
    for id in ["ns:a:missing", "ns:a:unknown"] {
        daemon.wait("it is given up", |status| {
            let key = status.key(id).filter(|key| key.circuit_open)?;
            key.last_error.as_ref().filter(|error| error.contains("EXECUTABLE_NOT_FOUND")).map(drop)
        });
    }
    assert_eq!(world.copies(), [folder_of(pid)]);
    assert!(daemon.stop().success());
    assert_eq!(world.copies(), [""; 0].map(PathBuf::from));
}

#[test]
fn what_may_not_be_read_or_is_not_there_is_told_and_what_comes_to_be_there_is_used() {
    let world = World::new();
    let source = source(&world);
    let narrowed = world.root().join("of-b");
    fs::create_dir(&narrowed).unwrap();
    fs::write(narrowed.join("db"), "of b\n").unwrap();
    world.pattern("sleeper", "sleeper", "");
    let client = Prismctl::of(&world);
    let daemon = with_source(&world, &source)
        .another("--credentials-dir", format!("path={},namespaces=b", narrowed.display()))
        .flag("--max-errors", "1000")
        .start();
    world.desire("later.yaml", "pattern: sleeper\nnamespace: later\ncredentials: { x: later }\n");
    world.desire(
        "b.yaml",
        &format!("pattern: sleeper\nnamespace: b\ncredentials: {{ x: {}/db }}\n", narrowed.display()),
    );
    for (tenant, path) in [("shadow", "/etc/shadow".to_owned()), ("c", format!("{}/db", narrowed.display()))] {
        let text = format!("pattern: sleeper\nnamespace: {tenant}\ncredentials: {{ x: {path} }}\n");
        world.desire(&format!("{tenant}.yaml"), &text);
        let error =
            daemon.wait("it is refused", |status| status.key(&format!("ns:{tenant}:sleeper"))?.last_error.clone());
        assert!(error.contains("[PERMISSION_DENIED] A credential may not be read"), "{error}");
        assert!(error.contains(&format!("path={path}")) && error.contains("--credentials-dir"), "{error}");
        let told = client.done(&format!("pattern explain ns:{tenant}:sleeper"));
        assert!(told.contains(&format!("it is in no credentials_dir that is for namespace {tenant}")), "{told}");
    }
    assert_eq!(fs::read_to_string(folder_of(daemon.settled("ns:b:sleeper")).join("x")).unwrap(), "of b\n");
    let error = daemon.wait("it is missing", |status| status.key("ns:later:sleeper")?.last_error.clone());
    for part in ["[PROCESS_START_FAILED] A credential cannot be read", "credential=x", "path=later", "No such file"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    fs::write(source.join("later"), "there\n").unwrap();
    assert_eq!(fs::read_to_string(folder_of(daemon.settled("ns:later:sleeper")).join("x")).unwrap(), "there\n");
    world.desire("wrong.yaml", "pattern: sleeper\nnamespace: wrong\ncredentials: { x: ../db }\n");
    daemon.wait("a wrong path is told with its place", |status| {
        status.conditions().iter().any(|one| one.contains("wrong.yaml:3:16: 'credentials.x'")).then_some(())
    });
    assert!(daemon.stop().success());
}

/// What must be seen nowhere, and what of it a record may hold, since the process is started from that.
const IN_RECORDS: [&str; 4] = ["tok-5c1f0e", "pw-9d2a7c", "slot-77ab31", "tok-second"];
const NOWHERE: [&str; 3] = ["cred-e81b44", "cred-line-2", "tok-twice"];

/// Which of them a text shows.
fn shown(text: &str) -> Vec<&'static str> {
    IN_RECORDS.into_iter().chain(NOWHERE).filter(|secret| text.contains(secret)).collect()
}

/// Which of them are in files of the state folder, but for what the program itself has printed and what only the
/// launcher can read: what processes are started from.
fn kept(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
        let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() && name != "logs" {
            found.extend(kept(&path));
        } else if kind.is_file() {
            let text = String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()).into_owned();
            let starts = name == "memory.log" || folder.ends_with("runs");
            let secrets = shown(&text).into_iter().filter(|secret| !starts || NOWHERE.contains(secret));
            found.extend(secrets.map(|secret| format!("{secret} in {}", path.display())));
        }
    }
    found
}

/// A pattern whose program says everything that it knows, in its log and to whoever asks for its health, and fails.
fn talker(world: &World) {
    fs::create_dir(world.patterns().join("talker")).unwrap();
    let say = "echo $API_TOKEN $DB_URL $SLOT_STORAGE_PASSWORD $(cat $CREDENTIALS_DIRECTORY/db)";
    let manifest = format!(
        "name: talker\nversion: 1.0.0\nexecutable: sh\nargs: [-c, '{say}; sleep 2; {say}; exit 3']\n\
         backend_slots: [ {{ name: storage }} ]\n\
         healthcheck: {{ type: exec, interval: 100ms, startup_timeout: 1s, command: [sh, -c, '{say}; exit 1'] }}\n"
    );
    fs::write(world.patterns().join("talker/manifest.yaml"), manifest).unwrap();
}

fn declared(token: &str) -> String {
    format!(
        "pattern: talker\nnamespace: a\nconfig: {{ API_TOKEN: {token}, DB_URL: 'postgres://u:pw-9d2a7c@h/d' }}\n\
         slots: {{ storage: {{ password: slot-77ab31 }} }}\ncredentials: {{ db: db }}\n"
    )
}

/// Has every event written down from now on.
fn listen(world: &World, to: &Path) -> Child {
    program(env!("CARGO_BIN_EXE_prismctl"))
        .args(["events", "-o", "json"])
        .env("PRISMCTL_ADDRESS", format!("unix:{}", world.state().join("api.sock").display()))
        .stdin(Stdio::null())
        .stdout(File::create(to).unwrap())
        .spawn()
        .unwrap()
}

#[test]
fn no_secret_is_shown_anywhere() {
    let world = World::new();
    let source = source(&world);
    fs::write(source.join("db"), "cred-e81b44\ncred-line-2\n").unwrap();
    talker(&world);
    world.desire(
        "twice.yaml",
        "pattern: talker\nnamespace: b\nconfig: { API_TOKEN: tok-twice, API_TOKEN: tok-twice }\n",
    );
    let launch = with_source(&world, &source).flag("--log-level", "debug").flag("--max-errors", "2");
    let daemon = launch.start();
    let heard = world.root().join("events.out");
    let mut watching = listen(&world, &heard);
    let client = Prismctl::of(&world);
    let mut tenants = 0..;
    // It tells what happens from the moment on that it is heard.
    wait_for("it listens", || {
        let tenant = tenants.next()?;
        client.run(&format!("pattern launch talker --namespace c{tenant} --config API_TOKEN=tok-second --no-wait"));
        fs::metadata(&heard).is_ok_and(|file| file.len() > 0).then_some(())
    });
    world.desire("a.yaml", &declared("tok-5c1f0e"));
    let error = daemon.wait("its health has failed", |status| {
        status.key("ns:a:talker").filter(|key| key.circuit_open)?.last_error.clone()
    });
    assert!(error.contains("***"), "what it said is told, without its secrets: {error}");
    client.run("pattern launch talker --namespace c0 --config API_TOKEN=tok-5c1f0e --no-wait");
    client.run("pattern update ns:c0:talker --config API_TOKEN=tok-5c1f0e");
    let logs = fs::read_dir(world.state().join("logs")).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap());
    let printed: String = logs.map(|log| String::from_utf8_lossy(&log).into_owned()).collect();
    assert!(printed.contains("cred-line-2") && printed.contains("slot-77ab31"), "it never said them: {printed}");
    for line in [
        "pattern list",
        "pattern status ns:a:talker",
        "pattern explain ns:a:talker",
        "pattern explain ns:c0:talker",
        "manifests",
        "plan",
        "health",
    ] {
        for output in ["table", "yaml", "json"] {
            let said = client.run(&format!("{line} -o {output}"));
            assert!(matches!(said.code, 0 | 2) && !said.out.is_empty(), "{line}: {said:?}");
            assert_eq!(shown(&format!("{}{}", said.out, said.err)), [""; 0], "{line}: {}", said.out);
        }
    }
    for path in ["/health", "/ready", "/metrics", "/metrics.json"] {
        assert_eq!(shown(&daemon.get(path).unwrap().1), [""; 0], "{path}");
    }
    let events = wait_for("the circuit is told to be open", || {
        fs::read_to_string(&heard).ok().filter(|text| text.contains("circuit opened") && text.contains("ns:a:talker"))
    });
    watching.kill().unwrap();
    watching.wait().unwrap();
    assert_eq!(shown(&events), [""; 0], "{events}");
    let status = fs::read_to_string(daemon.status_file()).unwrap();
    assert!(status.contains("twice.yaml") && status.contains("***"), "{status}");
    assert_eq!(shown(&status), [""; 0], "{status}");
    assert_eq!(shown(&daemon.log()), [""; 0], "{}", daemon.log());
    assert_eq!(kept(&world.state()), [""; 0]);
    daemon.kill();
    world.desire("a.yaml", &declared("tok-second"));
    for words in [["plan"], ["check"]] {
        let output = launch.output(&words);
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("ns:a:talker") || said.contains("twice.yaml"), "{words:?}: {said}");
        assert_eq!(shown(&said), [""; 0], "{words:?}: {said}");
    }
}
