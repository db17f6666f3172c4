//! Carrying out what was decided: records on disk, the status file, and the operating system.

pub mod records;
pub mod status_file;

pub use records::{Loaded, Records, RecordsHealth};
pub use status_file::{StatusUpdate, StatusWriter};
