//! Brings an instance together with its manifest and the launcher's defaults.

use super::spec::{Defaults, InstanceSpec};
use crate::error::Result;
use crate::model::{Instance, Manifest, Origin};

/// Resolves one wish. Equal meaning gives equal content, whatever the file looks like.
pub fn resolve(spec: &InstanceSpec, manifest: &Manifest, defaults: &Defaults, origin: Origin) -> Result<Instance> {
    todo!("{spec:?}{manifest:?}{defaults:?}{origin:?}")
}
