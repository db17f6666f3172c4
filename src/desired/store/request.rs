//! What the store is asked to write, and how it answers.

use crate::desired::spec::InstanceSpec;
use crate::error::{Error, Result};
use crate::model::{Caller, Instance, Key, Secret};
use crate::observed::event::DesiredChange;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// A wish to have an instance launched, unless it is declared already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// What is wished for; its `line` means nothing.
    pub spec: InstanceSpec,
    /// Who asks.
    pub by: Caller,
}

/// What a launch came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchedFile {
    /// Its process id.
    pub key: Key,
    /// Whether this launch declared it; false when a file did before, and nothing was written.
    pub created: bool,
    /// What is declared now.
    pub instance: Arc<Instance>,
}

/// What is to be different about a launched instance; what is `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edit {
    /// In place of all of its config.
    pub config: Option<BTreeMap<String, Secret>>,
    /// In place of all of its slots: slot name, then key, then value.
    pub slots: Option<BTreeMap<String, BTreeMap<String, Secret>>>,
    /// From the stop signal to the killing of the whole tree.
    pub grace_period: Option<Duration>,
}

/// A wish to have a launched instance changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// Which.
    pub key: Key,
    /// How.
    pub edit: Edit,
    /// The instance that the change was made from: nothing is written when another is declared by now.
    pub expected: Option<Arc<Instance>>,
    /// Who asks.
    pub by: Caller,
}

/// What an update came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpdateOutcome {
    /// This is declared now.
    Done(Arc<Instance>),
    /// Nothing was written: this is declared, and not what was expected.
    Moved(Arc<Instance>),
}

/// What the loop is sent: a change, and the answers that may be given once it has been taken in and published.
#[derive(Debug, Default)]
pub struct Delivery {
    /// What changed, if anything did.
    pub change: Option<DesiredChange>,
    /// To be given afterwards, in this order.
    pub answers: Vec<Answer>,
}

/// An answer that waits until those who get it would see what it speaks of.
pub struct Answer(Box<dyn FnOnce() + Send>);

impl Answer {
    /// An answer that is given by `how`, which must not block.
    pub fn new(how: impl FnOnce() + Send + 'static) -> Self {
        Self(Box::new(how))
    }

    /// Gives it. Whoever asked may have gone; that is no failure.
    pub fn give(self) {
        (self.0)();
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answer")
    }
}

/// Where an answer goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T>>;

/// Answers `reply` with `result`, once the loop permits.
pub(super) fn answer<T: Send + 'static>(reply: Reply<T>, result: Result<T>) -> Answer {
    // Nobody may be waiting any more.
    Answer::new(move || drop(reply.send(result)))
}

/// Something that is to be written.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) what: What,
    /// Whether the files were looked at because they were not as this had them.
    pub(super) looked: bool,
}

/// What is to be written, and who waits for it.
#[derive(Debug)]
pub(super) enum What {
    Launch { launch: Launch, reply: Reply<LaunchedFile> },
    Remove { key: Key, grace: Option<Duration>, by: Caller, reply: Option<Reply<()>> },
    Update { update: Update, reply: Reply<UpdateOutcome> },
}

impl From<What> for Write {
    fn from(what: What) -> Self {
        Self { what, looked: false }
    }
}

impl What {
    /// Says that nothing had to be written, and what stands.
    pub(super) fn stands(self, instance: Arc<Instance>) -> Option<Answer> {
        match self {
            Self::Launch { reply, .. } => {
                let told = LaunchedFile { key: instance.key.clone(), created: false, instance };
                Some(answer(reply, Ok(told)))
            }
            Self::Update { reply, .. } => Some(answer(reply, Ok(UpdateOutcome::Done(instance)))),
            Self::Remove { reply, .. } => reply.map(|reply| answer(reply, Ok(()))),
        }
    }

    /// Says that something else stands than was expected.
    pub(super) fn moved(self, instance: Arc<Instance>) -> Option<Answer> {
        match self {
            Self::Update { reply, .. } => Some(answer(reply, Ok(UpdateOutcome::Moved(instance)))),
            Self::Launch { .. } | Self::Remove { .. } => self.stands(instance),
        }
    }

    /// Says no.
    pub(super) fn refuse(self, error: Error) -> Option<Answer> {
        match self {
            Self::Launch { reply, .. } => Some(answer(reply, Err(error))),
            Self::Update { reply, .. } => Some(answer(reply, Err(error))),
            Self::Remove { reply: Some(reply), .. } => Some(answer(reply, Err(error))),
            Self::Remove { key, reply: None, .. } => {
                tracing::warn!(%key, %error, "an instance whose time is over cannot be removed");
                None
            }
        }
    }
}
