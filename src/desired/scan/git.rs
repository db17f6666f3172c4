//! Whether git is at work in the work tree that a root belongs to.

use crate::error::{Code, Error};
use std::path::{Path, PathBuf};

/// The git folder of the work tree that `real` lies in, if it lies in one.
pub(super) fn repository(real: &Path) -> Option<PathBuf> {
    real.ancestors().find_map(|folder| {
        let dot_git = folder.join(".git");
        let metadata = std::fs::metadata(&dot_git).ok()?;
        if metadata.is_dir() {
            return Some(dot_git);
        }
        // In a linked work tree and in a submodule it is a file that names the folder.
        let text = (metadata.len() < 8_192).then(|| std::fs::read_to_string(&dot_git).ok())??;
        text.strip_prefix("gitdir:").map(|path| folder.join(path.trim()))
    })
}

/// Why the work tree is not to be believed now: git holds its index while it changes files.
pub(super) fn busy(repository: &Path) -> Option<Error> {
    let lock = repository.join("index.lock");
    std::fs::symlink_metadata(&lock).ok()?;
    Some(
        Error::new(Code::StoreUnavailable, format!("git is at work: {} exists", lock.display()))
            .with("file", lock.display())
            .suggest(format!("wait for git; if none runs, it left the file behind: rm {}", lock.display())),
    )
}
