//! What is observed: the events that reach the loop, and the fold of them into what is known of a key. Pure.

pub mod ask;
pub mod event;
pub mod fold;
pub mod state;

pub use ask::{Ask, Asked};
pub use event::{
    DesiredChange, EndedLaunch, Event, Fault, Launched, PortKind, ProbeOutcome, Restored, RestoredRun, Writing,
};
pub use state::{Ending, Health, Observed, Phase, Run, RunView, Stage, Start};
