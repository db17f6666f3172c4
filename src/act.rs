//! Carrying out what was decided: records on disk, the status file, and the operating system.

pub mod clock;
pub mod host;
pub mod lock;
pub mod output;
pub mod records;
pub mod spawner;
pub mod state_folder;
pub mod status_file;

mod adopt;
mod census;
mod cgroup;
mod credentials;
mod executable;
mod exit;
pub(crate) mod identity;
mod kernel_file;
mod known;
mod mailbox;
mod orphans;
mod ports;
mod prepare;
mod privileges;
mod reaper;
mod run;
mod shared;
mod sockets;
mod squatter;
mod sweep;
mod sys;
mod tenants;
mod tree;
mod turns;
mod usage;

pub use cgroup::CgroupRung;
pub use credentials::{CredentialSource, Masks};
pub use host::{CgroupChoice, Host, HostFiles, HostSettings, Subreaper, Tracking};
pub use lock::{LauncherLocks, RootLocks};
pub use output::{LogLimits, Output};
pub use records::{Loaded, Records, RecordsHealth};
pub use spawner::run_if_spawner;
pub use state_folder::StateFolder;
pub use status_file::{StatusFile, StatusUpdate, StatusWriter};
pub use sweep::Orphans;
