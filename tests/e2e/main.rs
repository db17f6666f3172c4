//! The real daemon, real children, real files: one module per thing that a user relies on.
//!
//! Tests whose path contains `alone` keep the whole machine busy, or measure; nextest runs them by themselves.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]
#![expect(clippy::print_stderr, reason = "what the machine lacks, and what a failed daemon logged, is told to people")]

mod adopted;
mod api;
mod audit;
mod ceilings;
mod chaos_alone;
mod check_and_plan;
mod circuit;
mod clients;
mod confinement;
mod counters;
mod crash_alone;
mod credentials;
mod drift;
mod ending;
mod explain;
mod faults;
mod given;
mod health;
mod history;
mod hogs_alone;
mod init_and_schema;
mod launch_crash_alone;
mod launched_files;
mod lifecycle;
mod limits;
mod locks;
mod logging;
mod logs;
mod outbreak;
mod prismctl;
mod prometheus;
mod prune;
mod records;
mod rootless;
mod roots;
mod scale_alone;
mod squatters;
mod state_folder;
mod tenants_alone;
mod trees;
mod usage;
mod world;
