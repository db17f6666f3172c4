//! The daemon under test.

use super::command::{finished, program};
use super::wait::{SOON, wait_for, wait_up_to};
use super::{Status, World, http, signal};
use std::fs::{self, OpenOptions};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

/// The command line of a daemon, or of one of its other commands, on a world's folders.
pub(crate) struct Launch<'a> {
    world: &'a World,
    flags: Vec<(String, String)>,
    variables: Vec<(String, String)>,
    /// The file that is executed.
    daemon: PathBuf,
    /// What a shell does before.
    before: Vec<String>,
    /// And the program, with its arguments, that then executes it.
    through: String,
}

impl<'a> Launch<'a> {
    pub(crate) fn new(world: &'a World) -> Self {
        let path = |path: PathBuf| path.to_str().unwrap().to_owned();
        let daemon = env!("CARGO_BIN_EXE_pattern-launcher").into();
        let mut launch = Self {
            world,
            flags: Vec::new(),
            variables: Vec::new(),
            daemon,
            before: Vec::new(),
            through: String::new(),
        }
        .flag("--profile", "development")
        .flag("--patterns-dir", path(world.patterns()))
        .flag("--desired-dir", path(world.desired()))
        .flag("--launch-dir", path(world.launched()))
        .flag("--state-dir", path(world.state()))
        .flag("--http-port", world.ports().http().to_string())
        .flag("--grpc-port", "off")
        .flag("--port-range", world.ports().range())
        .flag("--log-format", "text");
        if let Some(cgroup) = world.cgroup() {
            launch = launch.flag("--cgroup", path(cgroup.to_owned()));
        }
        launch
    }

    /// Sets a flag, in place of what it was.
    pub(crate) fn flag(mut self, name: &str, value: impl Into<String>) -> Self {
        self.flags.retain(|(known, _)| known != name);
        self.flags.push((name.to_owned(), value.into()));
        self
    }

    /// Adds a flag beside what it was, for those that may be given several times.
    pub(crate) fn another(mut self, name: &str, value: impl Into<String>) -> Self {
        self.flags.push((name.to_owned(), value.into()));
        self
    }

    /// Sets a variable of the daemon's environment.
    pub(crate) fn variable(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// Sets how many files the daemon may have open; it cannot raise that by itself.
    pub(crate) fn open_files(mut self, limit: u64) -> Self {
        self.before.push(format!("ulimit -n {limit}"));
        self
    }

    /// Runs it as a user without a name, to whom all of the world is given, in these cgroups.
    pub(crate) fn by_user(mut self, user: u32, cgroups: &[PathBuf]) -> Self {
        // The one that was built may lie where only root can go.
        self.daemon = self.world.root().join("daemon");
        fs::copy(env!("CARGO_BIN_EXE_pattern-launcher"), &self.daemon).unwrap();
        let root = self.world.root();
        let given = program("chown").args(["-R", &format!("{user}:{user}")]).arg(root).status().unwrap();
        assert!(given.success());
        self.before.extend(cgroups.iter().map(|cgroup| format!("echo 0 > '{}/cgroup.procs'", cgroup.display())));
        self.through = format!("setpriv --reuid={user} --regid={user} --clear-groups");
        self
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = if self.before.is_empty() && self.through.is_empty() {
            program(&self.daemon)
        } else {
            let mut shell = program("/bin/sh");
            let execute = format!("exec {} \"$0\" \"$@\"", self.through);
            let script = [self.before.as_slice(), &[execute]].concat().join(" && ");
            shell.args(["-c", &script]).arg(&self.daemon);
            shell
        };
        command.args(words).stdin(Stdio::null());
        for (name, value) in &self.flags {
            command.arg(format!("{name}={value}"));
        }
        for (name, _) in std::env::vars_os() {
            // Settings of whoever runs the tests are none of ours.
            if name.to_string_lossy().starts_with("PATTERN_LAUNCHER_") {
                command.env_remove(name);
            }
        }
        for (name, value) in &self.variables {
            command.env(name, value);
        }
        command.env_remove("STATE_DIRECTORY").current_dir(self.world.root());
        command
    }

    /// Runs a command that ends by itself; the test fails when it does not.
    pub(crate) fn output(&self, words: &[&str]) -> Output {
        finished(&mut self.command(words), &self.world.root())
    }

    /// Starts the daemon and does not wait for anything.
    pub(crate) fn spawn(&self) -> Daemon {
        let log = self.world.root().join("daemon.log");
        let file = OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let from = file.metadata().unwrap().len();
        let child = self.command(&["run"]).stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        Daemon { child, log, from, state: self.world.state(), http: self.world.ports().http() }
    }

    /// Starts the daemon and waits until it is ready.
    pub(crate) fn start(&self) -> Daemon {
        let mut daemon = self.spawn();
        wait_for("the daemon is ready", || {
            if let Some(status) = daemon.child.try_wait().unwrap() {
                panic!("the daemon ended with {status}:\n{}", daemon.log());
            }
            daemon.status().filter(|status| status.ready)
        });
        daemon
    }
}

/// A daemon that runs. Dropping it kills it; what it looked after is the world's to end.
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
    from: u64,
    state: PathBuf,
    http: u16,
}

impl Daemon {
    /// Its pid.
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// What it logged since it was started.
    pub(crate) fn log(&self) -> String {
        let bytes = fs::read(&self.log).unwrap();
        String::from_utf8_lossy(&bytes[usize::try_from(self.from).unwrap()..]).into_owned()
    }

    /// Its status file; `None` until it has written one of its own.
    pub(crate) fn status(&self) -> Option<Status> {
        Status::read(&self.state).filter(|status| status.launcher_pid == self.child.id())
    }

    /// Where its status file is.
    pub(crate) fn status_file(&self) -> PathBuf {
        self.state.join("status.json")
    }

    /// Asks its HTTP port.
    pub(crate) fn get(&self, path: &str) -> Option<(u16, String)> {
        http::get(self.http, path)
    }

    /// Waits until the status file gives a value.
    pub(crate) fn wait<T>(&self, what: &str, condition: impl FnMut(&Status) -> Option<T>) -> T {
        self.wait_up_to(SOON, what, condition)
    }

    /// Waits until the status file gives a value, for no longer than `bound`.
    pub(crate) fn wait_up_to<T>(
        &self,
        bound: Duration,
        what: &str,
        mut condition: impl FnMut(&Status) -> Option<T>,
    ) -> T {
        wait_up_to(bound, what, || self.status().as_ref().and_then(&mut condition))
    }

    /// Waits until a key runs, is healthy and runs what is wished for; gives its pid.
    pub(crate) fn settled(&self, id: &str) -> i32 {
        self.wait(&format!("{id} is settled"), |status| status.settled(id))
    }

    /// Waits until exactly so many keys are known and all are settled.
    pub(crate) fn all_settled(&self, count: usize) -> Status {
        wait_up_to(SOON * 2, &format!("{count} keys are settled"), || {
            self.status().filter(|status| status.instances.len() == count && status.settled_count() == count)
        })
    }

    /// Waits until nothing is known of a key any more.
    pub(crate) fn gone(&self, id: &str) {
        self.wait(&format!("{id} is gone"), |status| status.key(id).is_none().then_some(()));
    }

    /// Kills it, as a crash would.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends it a signal, named without `SIG`.
    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        wait_up_to(SOON * 2, "the daemon ends", || self.child.try_wait().unwrap())
    }

    /// Asks it to end, and waits for that.
    pub(crate) fn stop(mut self) -> ExitStatus {
        self.signal("TERM");
        self.ended()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(60).collect();
            eprintln!("the end of the daemon's log:");
            for line in tail.iter().rev() {
                eprintln!("  {line}");
            }
        }
    }
}
