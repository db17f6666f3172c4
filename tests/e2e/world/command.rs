//! Programs that end by themselves.

use super::wait::{SOON, within};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A program that is about to be run.
#[expect(clippy::disallowed_methods, reason = "a program beside the test is a process of its own")]
pub(crate) fn program(path: impl AsRef<Path>) -> Command {
    Command::new(path.as_ref())
}

/// Runs a program to its end; the test fails when it goes on. What it says lies in files of `folder` meanwhile, so that
/// it is never held up by a full pipe.
pub(crate) fn finished(command: &mut Command, folder: &Path) -> Output {
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let file = |name: &str| folder.join(format!("command-{number}.{name}"));
    let create = |name: &str| File::create(file(name)).unwrap();
    let mut child = command.stdout(create("stdout")).stderr(create("stderr")).spawn().unwrap();
    let mut status = None;
    let ended = within(SOON, || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    if !ended {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let take = |name: &str| {
        let bytes = fs::read(file(name)).unwrap();
        fs::remove_file(file(name)).unwrap();
        bytes
    };
    let (stdout, stderr) = (take("stdout"), take("stderr"));
    let said = || format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    let Some(status) = status else { panic!("{command:?} goes on; it said {}", said()) };
    Output { status, stdout, stderr }
}
