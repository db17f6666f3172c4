//! Keeps the processes of one machine equal to a directory of YAML files.

pub mod act;
pub mod cli;
pub mod config;
pub mod desired;
pub mod error;
pub mod http;
pub mod launcher;
pub mod model;
pub mod observed;
pub mod plan;
pub mod probe;
pub mod reconciler;
pub mod telemetry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use error::{Code, Error, Result};
