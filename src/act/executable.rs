//! Which file a manifest's `executable` is, and what to say when it cannot be run.

use super::spawner::{ChildUser, SpawnFailure, Stage};
use crate::error::{Code, Error};
use crate::model::{Key, PatternRevision};
use rustix::fs::Access;
use rustix::io::Errno;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Where a bare word is looked up when the environment has no `PATH`, as `execvp` does.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// The longest string that the kernel takes as one argument or variable.
const STRING_LIMIT_KIB: usize = 128;

/// The file that is meant: relative to the folder when it contains a `/`, else looked up on `path`. A bare word that
/// is nowhere is an error; whether another file can be run shows when it is.
pub(crate) fn locate(pattern: &PatternRevision, folder: &Path, path: Option<&str>) -> Result<PathBuf, Error> {
    let executable = pattern.executable.as_str();
    if executable.contains('/') {
        return Ok(folder.join(executable));
    }
    let path = path.unwrap_or(DEFAULT_PATH);
    let candidates = path.split(':').map(|entry| folder.join(entry).join(executable)).filter(|file| file.is_file());
    let mut unusable = None;
    for candidate in candidates {
        if rustix::fs::access(&candidate, Access::EXEC_OK).is_ok() {
            return Ok(candidate);
        }
        unusable.get_or_insert(candidate);
    }
    // That it cannot be run shows when it is.
    unusable.ok_or_else(|| {
        Error::new(Code::ExecutableNotFound, format!("Executable '{executable}' is not on PATH"))
            .with("executable", executable)
            .with("path", path)
            .suggest(format!(
                "install {executable}, or write its path as executable in {}",
                folder.join("manifest.yaml").display()
            ))
    })
}

/// What was tried when a start failed.
#[derive(Debug)]
pub(crate) struct Attempt<'a> {
    /// Whose.
    pub(crate) key: &'a Key,
    /// The file that was executed.
    pub(crate) program: &'a Path,
    /// Its working directory.
    pub(crate) folder: &'a Path,
    /// Where its output goes.
    pub(crate) log: &'a Path,
    /// By whom, where that is not the launcher's user.
    pub(crate) user: Option<&'a ChildUser>,
}

impl Attempt<'_> {
    /// The error that a user sees.
    pub(crate) fn error(&self, failure: SpawnFailure) -> Error {
        match failure.stage {
            Stage::Exec | Stage::Folder if failure.errno == Errno::ACCESS && self.barrier().is_some() => {
                self.unreachable(failure.errno)
            }
            Stage::Exec => self.exec_error(failure.errno),
            Stage::Folder => self
                .failed("The working directory cannot be entered", failure.errno)
                .with("folder", self.folder.display())
                .suggest(format!("check that {} exists and can be entered", self.folder.display())),
            Stage::Log => self
                .failed("The log file cannot be opened", failure.errno)
                .with("log", self.log.display())
                .suggest(format!(
                    "check the space and the permissions of {}",
                    self.log.parent().unwrap_or(self.log).display()
                )),
            Stage::Clone => self.no_process(failure.errno),
            // Of the one that starts the others.
            Stage::HandOver if matches!(failure.errno, Errno::AGAIN | Errno::NOMEM) => self.no_process(failure.errno),
            Stage::Pipes | Stage::HandOver if matches!(failure.errno, Errno::MFILE | Errno::NFILE) => self
                .failed("The launcher has no file descriptors left", failure.errno)
                .suggest("raise the launcher's limit of open files: ulimit -n, or LimitNOFILE= in its unit"),
            Stage::HandOver => self
                .failed("The process that starts processes died twice over it", failure.errno)
                .suggest("look into the kernel log for why: dmesg | tail"),
            Stage::Limit => self
                .failed("A limit of the process cannot be set", failure.errno)
                .suggest(format!("lower 'rlimits' in {}: only root may raise a hard limit", self.manifest())),
            Stage::Nice | Stage::OomScore => self
                .failed("The priority of the process cannot be set", failure.errno)
                .suggest(format!("raise 'nice' and 'oom_score_adj' in {}: only root may lower them", self.manifest())),
            Stage::Capabilities | Stage::User => self
                .failed("The process cannot become another user", failure.errno)
                .suggest("check that the launcher has all rights of root, and that the user exists in its user namespace: cat /proc/self/uid_map"),
            Stage::Request | Stage::Pipes | Stage::SetUp => self
                .failed("The process could not be set up", failure.errno)
                .suggest(format!("try the start by hand: cd {} && {}", self.folder.display(), self.program.display())),
        }
    }

    fn no_process(&self, errno: Errno) -> Error {
        self.failed("The machine allows no further process", errno)
            .suggest("raise the limit on processes (ulimit -u, pids.max of the launcher's cgroup, kernel.pid_max)")
    }

    fn manifest(&self) -> String {
        self.folder.join("manifest.yaml").display().to_string()
    }

    fn failed(&self, message: &str, errno: Errno) -> Error {
        Error::new(Code::ProcessStartFailed, message).with("process_id", self.key).because(errno.to_string())
    }

    fn exec_error(&self, errno: Errno) -> Error {
        let program = self.program.display();
        let manifest = self.folder.join("manifest.yaml");
        let (code, message, suggestion) = match errno {
            Errno::NOENT | Errno::NOTDIR if !self.program.exists() => (
                Code::ExecutableNotFound,
                "The executable does not exist",
                format!("build or copy it to {program}, or correct executable in {}", manifest.display()),
            ),
            Errno::NOENT => (
                Code::ExecutableNotRunnable,
                "The executable's interpreter does not exist",
                match interpreter(self.program) {
                    Some(interpreter) => format!("install {interpreter}, or correct the first line of {program}"),
                    None => format!("install the loader that {program} names: file {program}"),
                },
            ),
            Errno::NOEXEC => (
                Code::ExecutableNotRunnable,
                "The executable is neither a program of this machine nor a script with an interpreter",
                format!(
                    "write #!/bin/sh as the first line of {program} if it is a script, else build it for this machine"
                ),
            ),
            Errno::ACCESS if self.program.is_dir() => (
                Code::ExecutableNotRunnable,
                "The executable is a folder",
                format!("name a file as executable in {}", manifest.display()),
            ),
            Errno::ACCESS | Errno::PERM if self.lacks_permission_bits() => {
                (Code::ExecutableNotRunnable, "The executable may not be executed", format!("chmod +x {program}"))
            }
            Errno::ACCESS | Errno::PERM => (
                Code::ExecutableNotRunnable,
                "The executable may not be executed",
                format!(
                    "check who may enter the folders above it (namei -l {program}) and that none is mounted noexec"
                ),
            ),
            Errno::TOOBIG => (
                Code::ProcessStartFailed,
                "Arguments and environment are too large for a process",
                format!("shorten config and slots: one value may have {STRING_LIMIT_KIB} KiB, all together 2 MiB"),
            ),
            Errno::TXTBSY => (
                Code::ExecutableNotRunnable,
                "The executable is being written",
                format!("put a new version in place by rename: mv {program}.new {program}"),
            ),
            _ => (
                Code::ProcessStartFailed,
                "The executable could not be executed",
                format!("try it by hand: cd {} && {program}", self.folder.display()),
            ),
        };
        Error::new(code, message)
            .with("process_id", self.key)
            .with("executable", program)
            .because(errno.to_string())
            .suggest(suggestion)
    }

    /// What keeps another user than the launcher's from the program or from its folder.
    fn barrier(&self) -> Option<PathBuf> {
        let user = self.user?;
        barrier(self.program, user).or_else(|| barrier(&self.folder.join("."), user))
    }

    fn unreachable(&self, errno: Errno) -> Error {
        let barrier = self.barrier().unwrap_or_default();
        let uid = self.user.map_or(0, |user| user.uid);
        Error::new(Code::ExecutableNotRunnable, "The user of the process cannot reach its executable")
            .with("process_id", self.key)
            .with("executable", self.program.display())
            .with("user", uid)
            .with("in_the_way", barrier.display())
            .because(errno.to_string())
            .suggest(format!(
                "chmod o+x {}, or write 'protection: {{ own_user: false }}' in {}",
                barrier.display(),
                self.manifest()
            ))
    }

    fn lacks_permission_bits(&self) -> bool {
        std::fs::metadata(self.program).is_ok_and(|file| file.permissions().mode() & 0o111 == 0)
    }
}

/// The first folder above a file, or the file itself, that this user may not enter or execute. `None` when nothing is in
/// the way, as far as the permission bits tell.
pub(crate) fn barrier(path: &Path, user: &ChildUser) -> Option<PathBuf> {
    let mut from_the_top: Vec<&Path> = path.ancestors().collect();
    from_the_top.reverse();
    let barred = |path: &&Path| std::fs::metadata(path).is_ok_and(|found| !may_pass(&found, user));
    from_the_top.into_iter().find(barred).map(Path::to_owned)
}

fn may_pass(found: &std::fs::Metadata, user: &ChildUser) -> bool {
    let shift = if found.uid() == user.uid {
        6
    } else if found.gid() == user.gid || user.groups.contains(&found.gid()) {
        3
    } else {
        0
    };
    user.uid == 0 || found.permissions().mode() >> shift & 1 == 1
}

/// The interpreter that the first line of a script names.
fn interpreter(program: &Path) -> Option<String> {
    let mut start = [0; 256];
    let read = std::fs::File::open(program).and_then(|mut file| file.read(&mut start)).ok()?;
    let line = start.get(..read)?.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    String::from_utf8_lossy(line).split_whitespace().next().map(Error::echo)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Privileges;

    fn revision(executable: &str) -> PatternRevision {
        PatternRevision {
            version: "1".to_owned(),
            folder: PathBuf::new(),
            executable: executable.to_owned(),
            digest: None,
            args: Vec::new(),
            environment: std::collections::BTreeMap::new(),
            preferred_port: None,
            privileges: Privileges::default(),
        }
    }

    #[test]
    fn paths_are_relative_to_the_folder_and_words_are_looked_up() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |executable: &str, path| locate(&revision(executable), folder.path(), path);
        assert_eq!(at("./run", None), Ok(folder.path().join("./run")));
        assert_eq!(at("/bin/x", None), Ok(PathBuf::from("/bin/x")));
        assert_eq!(at("sh", Some("/nowhere:/bin")), Ok(PathBuf::from("/bin/sh")));
        assert_eq!(at("sh", None).expect("a shell").file_name(), Some("sh".as_ref()));
        let missing = at("no-such-program", Some("/bin")).expect_err("it is nowhere");
        assert_eq!(missing.code(), Code::ExecutableNotFound);
        assert!(missing.suggestion().is_some_and(|text| text.contains("manifest.yaml")));
    }

    #[test]
    fn a_script_says_its_interpreter() {
        let folder = tempfile::tempdir().expect("a folder");
        let script = folder.path().join("script");
        std::fs::write(&script, "#! /usr/bin/no-such -x\nhello\n").expect("written");
        assert_eq!(interpreter(&script), Some("/usr/bin/no-such".to_owned()));
        std::fs::write(&script, "hello").expect("written");
        assert_eq!(interpreter(&script), None);
    }

    #[test]
    fn what_is_in_a_users_way_is_the_first_folder_that_it_may_not_enter() {
        let folder = tempfile::tempdir().expect("a folder");
        let inner = folder.path().join("inner");
        std::fs::create_dir(&inner).expect("made");
        let program = inner.join("program");
        std::fs::write(&program, "#!/bin/sh\n").expect("written");
        let allow = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("changed");
        };
        let (stranger, owner) = (4_000_000_000, folder.path().metadata().expect("there").uid());
        let user = |uid, groups| ChildUser { uid, gid: 4_000_000_000, groups };
        allow(folder.path(), 0o755);
        allow(&inner, 0o750);
        allow(&program, 0o700);
        assert_eq!(barrier(&program, &user(stranger, Vec::new())), Some(inner.clone()));
        allow(&inner, 0o711);
        assert_eq!(barrier(&program, &user(stranger, Vec::new())), Some(program.clone()));
        assert_eq!(barrier(&program, &user(owner, Vec::new())), None);
        allow(&program, 0o710);
        let group = program.metadata().expect("there").gid();
        assert_eq!(barrier(&program, &user(stranger, vec![group])), None);
    }
}
