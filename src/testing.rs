//! A simulated machine that drives the real engine: virtual time, seeded chance, crashes between any two effects.
//!
//! Hours pass in milliseconds, and the same seed gives the same trace. The [`World`] is no script of expected calls: it
//! has a disk, processes with trees and ways of their own, a desired directory and a launcher that may die at any
//! effect; the `oracle` checks after every step that nothing forbidden has happened. What stands between
//! desired files and the engine (scans, settling, absence) is not in here; it has tests of its own.

mod chance;
mod disk;
mod oracle;
mod program;
mod world;

#[cfg(test)]
mod bulkheads;
#[cfg(test)]
mod crashes;
#[cfg(test)]
mod outbreaks;
#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod scenarios;

pub use chance::Chance;
pub use disk::Disk;
pub use oracle::Violation;
pub use program::{OnStop, Program};
pub use world::{Settings, World};
