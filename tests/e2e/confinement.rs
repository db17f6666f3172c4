//! Whom processes run as and what keeps them from others: what is always so, what a manifest says, and what tenants with
//! users of their own cannot do to one another and to the launcher.

use crate::world::{Launch, Prismctl, World, signal, wait_for};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

/// A line of `/proc/PID/status` without its name.
fn status_line(pid: i32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name} in {text}"));
    line.trim_start_matches(':').split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A line of `/proc/PID/limits`: soft and hard.
fn limits(pid: i32, name: &str) -> (String, String) {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name} in {text}"));
    let mut words = line.split_whitespace().map(str::to_owned);
    (words.next().unwrap(), words.next().unwrap())
}

fn is_root() -> bool {
    let root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !root {
        eprintln!("skipped: only root can run processes as other users");
    }
    root
}

/// Lets every user of the machine pass through the folder of a world.
fn open_to_all(world: &World) {
    fs::set_permissions(world.root(), fs::Permissions::from_mode(0o711)).unwrap();
}

fn with_users(world: &World) -> Launch<'_> {
    open_to_all(world);
    world.launch().flag("--tenant-users", "true")
}

#[test]
fn every_process_is_confined_a_little_unless_its_manifest_does_without() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    world.pattern(
        "free",
        "sleeper",
        "protection: { no_new_privileges: false, no_core_dumps: false, killed_first: false }",
    );
    world.desire("a.yaml", "{pattern: sleeper, namespace: a}\n---\n{pattern: free, namespace: a}\n");
    let daemon = world.start();
    let (confined, free) = (daemon.settled("ns:a:sleeper"), daemon.settled("ns:a:free"));
    let score = |pid| fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim().parse::<i32>().unwrap();
    let own = score(daemon.pid());
    assert_eq!((status_line(confined, "NoNewPrivs"), status_line(free, "NoNewPrivs")), ("1".into(), "0".into()));
    assert_eq!((score(confined), score(free)), ((own + 100).min(1000), own));
    assert_eq!(limits(confined, "Max core file size"), ("0".to_owned(), "0".to_owned()));
    assert_eq!(limits(free, "Max core file size"), limits(daemon.pid(), "Max core file size"));
    let effective = |id: &str| daemon.status().unwrap().key(id).unwrap().isolation_effective.join(" ");
    assert_eq!(
        effective("ns:a:sleeper"),
        "own_session closed_descriptors no_core_dumps no_new_privileges killed_first"
    );
    assert_eq!(effective("ns:a:free"), "own_session closed_descriptors");
    let shown = Prismctl::of(&world).json("pattern explain ns:a:sleeper").to_string();
    assert!(shown.contains("no_new_privileges"), "{shown}");
}

#[test]
fn limits_priority_and_user_are_as_the_manifest_says() {
    let world = World::new();
    let more = "umask: \"0027\"\nnice: 5\noom_score_adj: 333\nrlimits: { nofile: \"100:200\", core: 4096 }";
    world.pattern("sleeper", "sleeper", more);
    world.desire("a.yaml", "{pattern: sleeper, namespace: a}\n");
    open_to_all(&world);
    let daemon = world.start();
    let pid = daemon.settled("ns:a:sleeper");
    assert_eq!(status_line(pid, "Umask"), "0027");
    assert_eq!(limits(pid, "Max open files"), ("100".to_owned(), "200".to_owned()));
    assert_eq!(limits(pid, "Max core file size"), ("4096".to_owned(), "4096".to_owned()));
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim(), "333");
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    assert_eq!(stat.rsplit(')').next().unwrap().split_whitespace().nth(16), Some("5"), "{stat}");
    if !is_root() {
        return;
    }
    world.manifest("sleeper", "user: nobody\nenvironment: { X: \"1\" }");
    let daemon_pid = daemon.pid();
    let nobody = daemon.wait("it runs as somebody else", |status| {
        let pid = status.settled("ns:a:sleeper")?;
        (fs::metadata(format!("/proc/{pid}")).ok()?.uid() != 0).then_some(pid)
    });
    assert_eq!(status_line(nobody, "Uid"), "65534 65534 65534 65534");
    assert_eq!((status_line(nobody, "CapEff"), status_line(nobody, "CapBnd")), ("0".repeat(16), "0".repeat(16)));
    assert_ne!(status_line(daemon_pid, "CapEff"), "0".repeat(16));
    world.manifest("sleeper", "user: nobody-by-that-name");
    daemon.wait("who is meant cannot be found", |status| {
        let error = status.key("ns:a:sleeper")?.last_error.clone()?;
        error.contains("cannot be found").then(|| {
            assert!(error.contains("nobody-by-that-name") && error.contains("getent user"), "{error}");
        })
    });
}

/// Tries everything that one tenant could do to another, whose process is `$VICTIM` and whose folder is `$FOLDER`, and
/// writes down what it could.
const ATTACK: &str = r#"
could() { echo "$1" >> "$NOTES"; }
cat "$CREDENTIALS/token" > /dev/null 2>&1 && could read-credentials
cat "$FOLDER/secret" 2>/dev/null && could read-files
[ -n "$(cat /proc/$VICTIM/environ 2>/dev/null)" ] && could read-environment
(exec 3< /proc/$VICTIM/mem) 2>/dev/null && could read-memory
kill -0 $VICTIM 2>/dev/null && could signal
ls "$STATE" > /dev/null 2>&1 && could list-state
cat "$STATE"/memory.log > /dev/null 2>&1 && could read-records
cat "$STATE"/status.json > /dev/null 2>&1 && could read-status
cat "$STATE"/logs/* > /dev/null 2>&1 && could read-logs
ls "$LAUNCHED" > /dev/null 2>&1 && could list-launched
"$PRISMCTL" --address "unix:$STATE/api.sock" health > /dev/null 2>&1 && could call-the-api
could finish
sleep 1000
"#;
const ALL: &str = "call-the-api finish list-launched list-state read-credentials read-environment read-files \
                   read-logs read-memory read-records read-status signal";

/// What an instance of tenant b can do to one of tenant a, in words.
fn attack(world: &World, launch: Launch<'_>, level: &str) -> String {
    let credentials = world.root().join("credentials");
    fs::create_dir(&credentials).unwrap();
    fs::write(credentials.join("token"), "token").unwrap();
    let launch = launch.flag("--credentials-dir", credentials.to_str().unwrap());
    world.pattern("sleeper", "sleeper", "");
    fs::create_dir(world.patterns().join("attacker")).unwrap();
    fs::write(world.patterns().join("attacker/attack"), ATTACK).unwrap();
    let manifest = "name: attacker\nversion: 1\nexecutable: sh\nargs: [./attack]\nlifecycle: { grace_period: 0s }\n";
    fs::write(world.patterns().join("attacker/manifest.yaml"), manifest).unwrap();
    let client = world.root().join("client");
    fs::copy(env!("CARGO_BIN_EXE_prismctl"), &client).unwrap();
    let session = if level == "session" { "isolation: session\nsession: s\n" } else { "" };
    let id = |tenant: &str, pattern: &str| match level {
        "session" => format!("session:{tenant}:s:{pattern}"),
        _ => format!("ns:{tenant}:{pattern}"),
    };
    world.desire("a.yaml", &format!("pattern: sleeper\nnamespace: a\ncredentials: {{ token: token }}\n{session}"));
    let daemon = launch.start();
    let victim = daemon.settled(&id("a", "sleeper"));
    let given = crate::world::processes::environment(victim);
    // Without a user of its own it has no folder of its own either; any that is its user's will do.
    let folder = given.get("STATE_DIR").map_or_else(|| world.root().join("files"), Into::into);
    fs::create_dir_all(&folder).unwrap();
    let secret = folder.join("secret");
    fs::write(&secret, "secret\n").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let owner = fs::metadata(format!("/proc/{victim}")).unwrap().uid();
    std::os::unix::fs::chown(&secret, Some(owner), Some(owner)).unwrap();
    let notes = world.root().join("notes");
    fs::write(&notes, "").unwrap();
    fs::set_permissions(&notes, fs::Permissions::from_mode(0o666)).unwrap();
    let config = format!(
        "config: {{ VICTIM: {victim}, CREDENTIALS: \"{}\", FOLDER: \"{}\", STATE: \"{}\", LAUNCHED: \"{}\", NOTES: \"{}\", PRISMCTL: \"{}\" }}\n",
        given["CREDENTIALS_DIRECTORY"],
        folder.display(),
        world.state().display(),
        world.launched().display(),
        notes.display(),
        client.display()
    );
    world.desire("b.yaml", &format!("pattern: attacker\nnamespace: b\n{session}{config}"));
    let done = wait_for("everything has been tried", || {
        let text = fs::read_to_string(&notes).unwrap();
        text.contains("finish").then_some(text)
    });
    let mut could: Vec<&str> = done.lines().collect();
    could.sort_unstable();
    assert!(daemon.stop().success());
    could.join(" ")
}

#[test]
fn with_users_of_their_own_tenants_can_do_nothing_to_one_another_nor_to_the_launcher() {
    if !is_root() {
        return;
    }
    for level in ["namespace", "session"] {
        let world = World::new();
        assert_eq!(attack(&world, with_users(&world), level), "finish", "{level}");
    }
    // All of it works where nothing keeps it from working, so that the test above can fail.
    let world = World::new();
    assert_eq!(attack(&world, world.launch(), "namespace"), ALL);
}

#[test]
fn a_tenant_keeps_its_user_and_its_files_and_a_session_takes_them_with_it() {
    if !is_root() {
        return;
    }
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    world.desire("a.yaml", "{pattern: sleeper, namespace: a}\n");
    let daemon = with_users(&world).flag("--on-exit", "detach").start();
    let pid = daemon.settled("ns:a:sleeper");
    let given = crate::world::processes::environment(pid);
    let owner = fs::metadata(format!("/proc/{pid}")).unwrap().uid();
    assert!(owner >= 1_879_048_192, "{owner}");
    for name in ["STATE_DIR", "RUNTIME_DIR", "TMPDIR"] {
        let folder = fs::metadata(&given[name]).unwrap();
        assert_eq!((folder.uid(), folder.permissions().mode() & 0o777), (owner, 0o700), "{name}");
    }
    fs::write(Path::new(&given["STATE_DIR"]).join("mine"), "x").unwrap();
    let words = daemon.status().unwrap().key("ns:a:sleeper").unwrap().isolation_effective.join(" ");
    let tenant = format!("own_user no_capabilities own_folders uid={owner} gid={owner}");
    assert!(words.ends_with(&tenant), "{words}");

    daemon.kill();
    let daemon = with_users(&world).start();
    assert_eq!(daemon.settled("ns:a:sleeper"), pid, "it is taken over");
    assert_eq!(daemon.status().unwrap().key("ns:a:sleeper").unwrap().isolation_effective.join(" "), words);
    signal(pid, "KILL");
    let next = daemon.wait("it runs again", |status| status.settled("ns:a:sleeper").filter(|next| *next != pid));
    assert_eq!(fs::metadata(format!("/proc/{next}")).unwrap().uid(), owner);
    assert!(Path::new(&given["STATE_DIR"]).join("mine").exists());
    wait_for("what was for one run is gone", || (!Path::new(&given["RUNTIME_DIR"]).exists()).then_some(()));

    let client = Prismctl::of(&world);
    client.done("pattern launch sleeper --isolation session --namespace a --session s");
    let session = daemon.settled("session:a:s:sleeper");
    assert_ne!(fs::metadata(format!("/proc/{session}")).unwrap().uid(), owner, "a session has a user of its own");
    // Which user each tenant has is known to the next launcher also when somebody removes the file.
    let users = world.state().join("tenant-users");
    let written = fs::read_to_string(&users).unwrap();
    fs::remove_file(&users).unwrap();
    let again = wait_for("it is written again", || fs::read_to_string(&users).ok());
    assert_eq!(again, written);
    let folder = crate::world::processes::environment(session)["STATE_DIR"].clone();
    client.done("pattern terminate session:a:s:sleeper");
    wait_for("the folders of a session go with it", || (!Path::new(&folder).exists()).then_some(()));
    let open: Vec<_> = fs::read_dir(world.state())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name() != "tenants" && entry.metadata().unwrap().permissions().mode() & 0o007 != 0)
        .collect();
    assert!(open.is_empty(), "others may use {open:?}");
    assert!(Path::new(&given["STATE_DIR"]).join("mine").exists());
    assert!(daemon.stop().success());
}

#[test]
fn an_exec_probe_runs_as_its_process_does() {
    if !is_root() {
        return;
    }
    let world = World::new();
    let probe = "healthcheck: { type: exec, interval: 100ms, command: [sh, -c, 'id -u > $STATE_DIR/probe; id -g >> $STATE_DIR/probe'] }";
    world.pattern("sleeper", "sleeper", probe);
    world.desire("a.yaml", "{pattern: sleeper, namespace: a}\n");
    let daemon = with_users(&world).start();
    let pid = daemon.settled("ns:a:sleeper");
    let owner = fs::metadata(format!("/proc/{pid}")).unwrap().uid();
    let folder = crate::world::processes::environment(pid)["STATE_DIR"].clone();
    let said = fs::read_to_string(Path::new(&folder).join("probe")).unwrap();
    assert_eq!(said, format!("{owner}\n{owner}\n"));
}

#[test]
fn what_a_tenant_cannot_reach_is_named_and_what_is_required_and_missing_is_not_started() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "protection: { no_new_privileges: false }");
    world.desire("a.yaml", "{pattern: sleeper, namespace: a}\n");
    let daemon = world.launch().flag("--required-protections", "no_core_dumps,no_new_privileges").start();
    let error = daemon.wait("it is refused", |status| status.key("ns:a:sleeper")?.last_error.clone());
    assert!(error.contains("A protection that the configuration requires cannot be given"), "{error}");
    assert!(error.contains("the manifest does without it"), "{error}");
    assert!(daemon.stop().success());
    if !is_root() {
        return;
    }
    let folder = world.patterns().join("sleeper");
    world.manifest("sleeper", "");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o750)).unwrap();
    let daemon = with_users(&world).start();
    let error = daemon.wait("it is refused", |status| {
        status.key("ns:a:sleeper")?.last_error.clone().filter(|error| error.contains("EXECUTABLE_NOT_RUNNABLE"))
    });
    assert!(error.contains(&format!("in_the_way={}", folder.display())), "{error}");
    assert!(error.contains(&format!("chmod o+x {}", folder.display())), "{error}");
}
