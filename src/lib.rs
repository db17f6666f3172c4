//! Keeps the processes of one machine equal to a directory of YAML files.

pub mod act;
pub mod desired;
pub mod error;
pub mod model;
pub mod observed;
pub mod plan;
pub mod probe;
pub mod reconciler;

pub use error::{Code, Error, Result};
