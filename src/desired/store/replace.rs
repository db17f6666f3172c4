//! Replaces a small file so that a power cut leaves the old content or the new.

use std::fs::File;
use std::io::{Result, Write as _};
use std::path::Path;

/// Puts `bytes` in the place of `file`, and waits until they are on disk.
pub(super) fn replace(file: &Path, bytes: &[u8]) -> Result<()> {
    let fresh = file.with_extension("json.new");
    let mut draft = File::create(&fresh)?;
    draft.write_all(bytes)?;
    draft.sync_all()?;
    std::fs::rename(&fresh, file)?;
    file.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}
