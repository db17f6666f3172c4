//! Replaces a small file so that a power cut leaves the old content or the new.

use crate::desired::scan::Identity;
use std::fs::{File, OpenOptions};
use std::io::{Result, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Puts `bytes` in the place of `file`, for its owner only, and waits until they are on disk. Gives which file it is.
pub(crate) fn replace(file: &Path, bytes: &[u8]) -> Result<Identity> {
    let fresh = file.with_extension("new");
    let mut draft = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    draft.write_all(bytes)?;
    draft.sync_all()?;
    let identity = Identity::from(&rustix::fs::fstat(&draft)?);
    std::fs::rename(&fresh, file)?;
    file.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())?;
    Ok(identity)
}
