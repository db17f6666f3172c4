//! What should be: files become instances.
//!
//! Pure: `yaml`, `manifest`, `instance_file`, `schema`, `spec`, `resolve`, `settle`, `guard`, `owner`. With I/O:
//! `scan`, `watch`, `registry`, `store`.

mod fields;
mod format;
pub mod instance_file;
pub mod manifest;
pub mod registry;
pub mod resolve;
pub mod root;
pub mod schema;
pub mod spec;
pub mod store;
pub mod yaml;

pub use instance_file::{Author, parse_instances};
pub use manifest::parse_manifest;
pub use registry::{Lookup, Problem, Registry, RegistryChange};
pub use resolve::resolve;
pub use root::{RootLock, RootSpec};
pub use spec::{Defaults, InstanceSpec};
pub use store::{StoreHandle, StoreSettings, Survey, confirm_dir, spawn, survey};
