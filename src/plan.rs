//! The decision: one key at a time, and admission across keys. Pure: no clock, no I/O, no randomness, no logging.

pub mod admission;
pub mod backoff;
pub mod ceilings;
pub mod decide;
pub mod effect;
pub mod outbreak;
pub mod ports;
pub mod squatting;
pub mod verdict;

pub use admission::StartQueue;
pub use ceilings::{Full, Ledger};
pub use decide::{Wish, decide};
pub use effect::{Effect, Note, NoteLevel, PROCESS_FAILED, PrepareRequest};
pub use outbreak::{Held, Outbreaks};
pub use ports::PortTable;
pub use verdict::{Action, Drift, Reason, StopCause, Verdict};
