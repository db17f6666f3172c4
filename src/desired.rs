//! What should be: files become instances.
//!
//! Pure: `bindings`, `yaml`, `manifest`, `instance_file`, `schema`, `spec`, `resolve`, `root`, `sight`, `settle`,
//! `guard`, `owner`, `set`. With I/O: `scan`, `stamp`, `lease`, `watch`, `registry`, `store`.

pub(crate) mod bindings;
mod fields;
mod format;
pub mod guard;
pub mod instance_file;
mod lease;
pub mod manifest;
pub mod owner;
#[cfg(test)]
mod pitfalls;
pub mod registry;
pub mod resolve;
pub mod root;
pub mod scan;
pub mod schema;
pub mod set;
pub mod settle;
pub mod sight;
pub mod spec;
mod stamp;
pub mod store;
pub mod watch;
pub mod yaml;

pub(crate) use fields::DAY;
pub(crate) use instance_file::TTL_LIMIT;
pub use instance_file::{Author, parse_instances};
pub use manifest::parse_manifest;
pub use registry::{Lookup, PatternBook, Problem, Registry, RegistryChange};
pub use resolve::resolve;
pub use root::{RootLock, RootSpec};
pub use spec::{Defaults, InstanceSpec};
pub use store::{
    Answer, Delivery, Edit, Launch, LaunchedFile, StoreHandle, StoreSettings, Survey, Update, UpdateOutcome,
    confirm_dir, spawn, survey,
};
