//! Writing what is launched, removed and updated by request.

use super::pass::Pass;
use super::request::{Delivery, Write, answer};
use crate::error::{Code, Error};

/// What a batch of writes came to.
pub(super) struct Wrote {
    /// For the loop.
    pub(super) delivery: Delivery,
    /// What is left for the next batch, in order.
    pub(super) backlog: Vec<Write>,
    /// The disk is not as it was when it was last looked at: that comes first.
    pub(super) look: bool,
}

impl Pass {
    pub(super) fn write(&mut self, batch: Vec<Write>) -> Wrote {
        let refused = || Error::new(Code::StoreUnavailable, "nothing can be written");
        let answers = batch
            .into_iter()
            .filter_map(|write| match write {
                Write::Launch { launch: _, reply } => Some(answer(reply, Err(refused()))),
                Write::Remove { key: _, grace: _, by: _, reply } => Some(answer(reply?, Err(refused()))),
                Write::Update { update: _, reply } => Some(answer(reply, Err(refused()))),
            })
            .collect();
        Wrote { delivery: Delivery { change: None, answers }, backlog: Vec::new(), look: false }
    }
}
