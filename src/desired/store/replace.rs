//! Replaces a small file so that a power cut leaves the old content or the new.

use crate::desired::scan::Identity;
use std::fs::File;
use std::io::{Result, Write as _};
use std::path::Path;

/// Puts `bytes` in the place of `file`, and waits until they are on disk. Gives which file it is.
pub(super) fn replace(file: &Path, bytes: &[u8]) -> Result<Identity> {
    let fresh = file.with_extension("json.new");
    let mut draft = File::create(&fresh)?;
    draft.write_all(bytes)?;
    draft.sync_all()?;
    let identity = Identity::from(&rustix::fs::fstat(&draft)?);
    std::fs::rename(&fresh, file)?;
    file.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())?;
    Ok(identity)
}
