//! What should be: files become instances.
//!
//! Pure: `yaml`, `manifest`, `instance_file`, `schema`, `spec`, `resolve`, `settle`, `guard`, `owner`. With I/O:
//! `scan`, `watch`, `registry`, `store`.

pub mod instance_file;
pub mod manifest;
pub mod registry;
pub mod resolve;
pub mod schema;
pub mod spec;

pub use instance_file::{Author, parse_instances};
pub use manifest::parse_manifest;
pub use registry::{Lookup, Problem, Registry, RegistryChange};
pub use resolve::resolve;
pub use spec::{Defaults, InstanceSpec};
