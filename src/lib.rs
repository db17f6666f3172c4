//! Keeps the processes of one machine equal to a directory of YAML files.
//!
//! ```text
//!  desired/**/*.yaml ──► desired ──┐
//!  patterns/*/manifest ─► registry ┤                              ┌──► act ───► processes, cgroups, records
//!                                  ├─ Event ─► engine ── Effect ──┤
//!  exits, starts, trees ──────────►│          (pure)              └──► probe
//!  probe results ─────────────────►┘             │
//!                                                └──► status of each key ──► status.json, /health, /ready
//! ```
//!
//! *desired × observed → plan → act.* Events go into the engine and effects come out. The engine decides each key that
//! something happened to once, from everything that is known, and is not told what changed. It has no I/O, no clock and
//! no chance: those are parameters, so that a simulated machine drives the very same code through hours of trouble.
//!
//! What holds everywhere:
//! - One task owns the state of all keys; others send to it or read what it published.
//! - No process is executed before its record is written, and nothing is signalled whose identity is not verified.
//! - Nothing is started before the whole tree of its predecessor is known to be gone.
//! - Absence ends a process only after complete scans, and never much at once.
//!
//! In reading order: [`error`], [`model`], [`observed`], [`plan`], [`reconciler::engine`], [`desired`], [`act`],
//! [`probe`], [`reconciler`], [`launcher`]; at the edges [`config`], [`api`], [`health`], [`http`], [`telemetry`] and [`cli`].
//! ARCHITECTURE.md in the repository says why it is so.

pub mod act;
pub mod api;
pub mod cli;
pub mod config;
pub mod control;
pub mod desired;
pub mod error;
pub mod health;
pub mod http;
pub mod launcher;
pub mod metrics;
pub mod model;
pub mod observed;
pub mod plan;
pub mod probe;
pub mod reconciler;
mod socket;
pub mod telemetry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use act::run_if_spawner;
pub use control::LaunchSpec;
pub use error::{Code, Error, Result};
pub use launcher::{Builder, Launcher, quick_start};
