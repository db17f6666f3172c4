//! Reads a pattern's `manifest.yaml`: every field checked, defaults filled in.

use crate::error::Result;
use crate::model::Manifest;
use std::path::Path;

/// Reads a manifest. `path` is named in errors; `folder` is the pattern's folder as configured, made absolute, and
/// its name must be the manifest's. The digest of the executable is not filled in.
pub fn parse_manifest(path: &Path, folder: &Path, bytes: &[u8]) -> Result<Manifest> {
    todo!("{path:?}{folder:?}{bytes:?}")
}
