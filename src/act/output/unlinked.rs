//! A live file that somebody has removed or renamed while its process runs: it is still there, under the descriptors of
//! the process.

use super::files;
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Opens what a process has as its output, if that is or was the file at `path`.
pub(super) fn open(pid: i32, path: &Path, known: Option<(u64, u64)>) -> Option<File> {
    let mut gone = OsString::from(path);
    gone.push(" (deleted)");
    [1, 2].into_iter().find_map(|descriptor| {
        let link = PathBuf::from(format!("/proc/{pid}/fd/{descriptor}"));
        let seen = std::fs::metadata(&link).ok().filter(std::fs::Metadata::is_file)?;
        let same = known == Some((seen.dev(), seen.ino()));
        let was = || std::fs::read_link(&link).is_ok_and(|target| target.as_os_str() == gone);
        if same || was() { files::open_output(&link).ok() } else { None }
    })
}
