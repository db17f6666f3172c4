//! What lives, as the kernel tells it.

use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Pids by the value of PROCESS_ID in their environment.
pub(crate) type ByKey = BTreeMap<String, Vec<i32>>;

/// Every live process with the path of its program. Zombies have none and are left out.
fn all() -> impl Iterator<Item = (i32, PathBuf)> {
    pids().filter_map(|pid| Some((pid, fs::read_link(format!("/proc/{pid}/exe")).ok()?)))
}

/// The processes that run `program`, also after its file was replaced.
pub(crate) fn of_program(program: &Path) -> ByKey {
    let deleted = format!("{} (deleted)", program.display());
    let mut found = ByKey::new();
    for (pid, exe) in all() {
        if exe == program || exe.as_os_str() == deleted.as_str() {
            found.entry(variable(pid, "PROCESS_ID").unwrap_or_default()).or_default().push(pid);
        }
    }
    found
}

/// The processes whose program lies below `folder`.
pub(crate) fn with_programs_below(folder: &Path) -> Vec<i32> {
    all().filter(|(_, exe)| exe.starts_with(folder)).map(|(pid, _)| pid).collect()
}

/// A variable of a process's environment, as it was when the process began.
pub(crate) fn variable(pid: i32, name: &str) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let prefix = format!("{name}=");
    environment
        .split(|byte| *byte == 0)
        .filter_map(|variable| std::str::from_utf8(variable).ok())
        .find_map(|variable| variable.strip_prefix(prefix.as_str()).map(str::to_owned))
}

/// The whole environment of a process, as it was when the process began.
pub(crate) fn environment(pid: i32) -> BTreeMap<String, String> {
    let environment = fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
    let pairs = environment.split('\0').filter_map(|variable| variable.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Whether a process lives; a zombie does not.
pub(crate) fn alive(pid: i32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with(['Z', 'X'])
}

/// Sends a signal, named without `SIG`, to one process; one that is gone already is no error.
pub(crate) fn signal(pid: i32, name: &str) {
    let signal = match name {
        "KILL" => Signal::KILL,
        "TERM" => Signal::TERM,
        "HUP" => Signal::HUP,
        "STOP" => Signal::STOP,
        "CONT" => Signal::CONT,
        other => panic!("no test sends {other}"),
    };
    let _ = kill_process(Pid::from_raw(pid).unwrap(), signal);
}

/// The process that makes the others, if there is one. The children that it has just made look like it, but are younger.
pub(crate) fn spawner_of(launcher: i32) -> Option<i32> {
    let made_by = |pid: i32| {
        let stat = stat(pid)?;
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let is_it = stat[1] == launcher.to_string() && command.ends_with(b"\0__spawner\0");
        is_it.then(|| (stat[19].parse::<u64>().unwrap(), pid))
    };
    pids().filter_map(made_by).min().map(|(_, pid)| pid)
}

/// The children of a process that have not been reaped, zombies among them.
pub(crate) fn children_of(parent: i32) -> Vec<i32> {
    pids().filter(|pid| stat(*pid).is_some_and(|stat| stat[1] == parent.to_string())).collect()
}

/// What `/proc/PID/stat` says of a process behind its name: its state, its parent, and on.
fn stat(pid: i32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(stat.rsplit(") ").next()?.split(' ').map(str::to_owned).collect())
}

fn pids() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
