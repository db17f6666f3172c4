//! Reads a file of instances: every document checked by itself, not yet against its manifest.

use super::spec::InstanceSpec;
use crate::error::Result;
use std::path::Path;

/// Who wrote a file, which decides whether its instances may have a `ttl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Author {
    /// A person: `ttl` is an error.
    Person,
    /// The launcher, into its launch directory.
    Launcher,
}

/// Reads a file of instances, in the order of the file. One bad document makes the whole file an error. `path` is
/// named in errors.
pub fn parse_instances(path: &Path, bytes: &[u8], author: Author) -> Result<Vec<InstanceSpec>> {
    todo!("{path:?}{bytes:?}{author:?}")
}
