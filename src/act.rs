//! Carrying out what was decided: records on disk, the status file, and the operating system.

pub mod clock;
pub mod host;
pub mod lock;
pub mod records;
pub mod spawner;
pub mod status_file;

mod adopt;
mod census;
mod cgroup;
mod executable;
mod exit;
pub(crate) mod identity;
mod known;
mod mailbox;
mod orphans;
mod ports;
mod prepare;
mod reaper;
mod run;
mod shared;
mod sweep;
mod sys;
mod tree;
mod turns;
mod usage;

pub use cgroup::CgroupRung;
pub use host::{CgroupChoice, Host, HostSettings, Subreaper, Tracking};
pub use lock::{RootLocks, StateLock};
pub use records::{Loaded, Records, RecordsHealth};
pub use spawner::run_if_spawner;
pub use status_file::{StatusUpdate, StatusWriter};
pub use sweep::Orphans;
