//! The client program, as people and scripts run it.

use super::World;
use super::command::{finished, program};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The client, told where a world's daemon listens.
pub(crate) struct Prismctl {
    folder: PathBuf,
    address: String,
}

/// What it said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Prismctl {
    /// Over the unix socket of a world's daemon, whether or not that runs.
    pub(crate) fn of(world: &World) -> Self {
        Self { folder: world.root(), address: format!("unix:{}", world.state().join("api.sock").display()) }
    }

    /// At an address; its files lie in a world.
    pub(crate) fn at(world: &World, address: &str) -> Self {
        Self { folder: world.root(), address: address.to_owned() }
    }

    /// Runs it with arguments that are separated by spaces.
    pub(crate) fn run(&self, line: &str) -> Said {
        self.ended(program(env!("CARGO_BIN_EXE_prismctl")).args(line.split(' ')))
    }

    /// Runs it, and fails the test unless it did what it was asked without a word on standard error; gives what it printed.
    pub(crate) fn done(&self, line: &str) -> String {
        let said = self.run(line);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{line}: {said:?}");
        said.out
    }

    /// Runs it, and fails the test unless it did what it was asked; gives the object that it printed.
    pub(crate) fn json(&self, line: &str) -> serde_json::Value {
        let out = self.done(&format!("{line} -o json"));
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{line}: {e}: {out}"))
    }

    /// Runs it, and fails the test unless it ended with `code` and told that on standard error alone.
    pub(crate) fn refused(&self, line: &str, code: i32) -> Said {
        let said = self.run(line);
        assert_eq!((said.code, said.out.as_str()), (code, ""), "{line}: {said:?}");
        assert!(said.err.starts_with("error: "), "{line}: {said:?}");
        said
    }

    /// Types a line into a shell, as somebody does who follows a suggestion. Both programs are on the `PATH`.
    pub(crate) fn type_in(&self, line: &str) -> Said {
        let programs = Path::new(env!("CARGO_BIN_EXE_prismctl")).parent().unwrap().display().to_string();
        let path = std::env::var("PATH").unwrap_or_default();
        self.ended(program("/bin/sh").args(["-c", line]).env("PATH", format!("{programs}:{path}")))
    }

    fn ended(&self, command: &mut Command) -> Said {
        let command = command.env("PRISMCTL_ADDRESS", &self.address).env_remove("STATE_DIRECTORY");
        for settings in ["PRISMCTL_CA", "PRISMCTL_CERT", "PRISMCTL_KEY"] {
            command.env_remove(settings);
        }
        let output = finished(command.stdin(Stdio::null()).current_dir(&self.folder), &self.folder);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let code = output.status.code().unwrap_or_else(|| panic!("it was killed: {}", output.status));
        Said { code, out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Said {
    /// What it suggests; fails the test unless that has `command` in it, which is given back for being typed in.
    pub(crate) fn suggests<'a>(&self, command: &'a str) -> &'a str {
        let suggestion = self.err.lines().find_map(|line| line.strip_prefix("  try: "));
        let suggestion = suggestion.unwrap_or_else(|| panic!("no suggestion: {}", self.err));
        assert!(suggestion.contains(command), "{suggestion}");
        command
    }
}
