//! The loop.

/// All state of all keys, without I/O.
pub mod engine;
