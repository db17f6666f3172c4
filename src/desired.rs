//! What should be: files become instances.
//!
//! Pure: `yaml`, `manifest`, `spec`, `resolve`, `settle`, `guard`, `owner`. With I/O: `scan`, `watch`, `registry`, `store`.

pub mod spec;

pub use spec::{Defaults, InstanceSpec};
