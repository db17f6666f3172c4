//! The decision: one key at a time, and admission across keys. Pure: no clock, no I/O, no randomness, no logging.

pub mod effect;

pub use effect::{Effect, Note, NoteLevel, PrepareRequest};
