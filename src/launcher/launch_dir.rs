//! The folder that launched instances are kept in, as far as a launcher makes it.

use crate::config::Config;
use crate::desired::store::StoreHandle;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use tokio::task::AbortHandle;

/// Sees to it that the launch folder is there: at once if that is possible, else as soon as the folder above it is.
/// Once it has been there it is not made again, since a folder that disappears means nothing, and an empty one would
/// mean that everything in it was deleted.
///
/// `made` is how the first attempt went, which comes before the folder is first read.
pub(super) fn provide_launch_dir(config: &Config, store: &StoreHandle, made: io::Result<()>) -> Option<AbortHandle> {
    let (launch_dir, every, store) = (config.launch_dir.clone(), config.resync_interval, store.clone());
    let error = made.err()?;
    tracing::warn!(launch_dir = %launch_dir.display(), %error, "the launch folder cannot be made yet");
    let task = tokio::spawn(async move {
        while make_launch_dir(&launch_dir).is_err() {
            tokio::time::sleep(every).await;
        }
        store.poke();
    });
    Some(task.abort_handle())
}

/// Makes the launch folder, but none above it: a desired folder that is not there may be one that is not mounted.
pub(super) fn make_launch_dir(launch_dir: &Path) -> io::Result<()> {
    match std::fs::DirBuilder::new().mode(0o700).create(launch_dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_folder_above_the_launch_folder_is_made() {
        let folder = tempfile::tempdir().unwrap();
        make_launch_dir(&folder.path().join("desired/launched")).unwrap_err();
        assert!(!folder.path().join("desired").exists());
        make_launch_dir(&folder.path().join("launched")).unwrap();
        make_launch_dir(&folder.path().join("launched")).unwrap();
        assert!(folder.path().join("launched").is_dir());
    }
}
