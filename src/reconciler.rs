//! The loop.

pub mod board;
/// All state of all keys, without I/O.
pub mod engine;

pub use board::Board;
