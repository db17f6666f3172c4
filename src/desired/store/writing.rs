//! Writing what is launched, removed and changed by request: a batch is planned, written as one group, and counts at
//! once.
//!
//! Of one key, and of one file, a batch writes one thing; what else waits for it goes into the next batch, where it finds
//! what the first came to. Each write is checked against what is known and against the file itself: when that is not as
//! it is known to be, somebody has changed it, and the store looks before it writes.

use super::files::{Deed, Failure};
use super::pass::{Book, Pass};
use super::planning::{Plan, Step};
use super::refusals::unwritable;
use super::request::{Answer, Delivery, LaunchedFile, Reply, UpdateOutcome, What, Write, answer};
use crate::desired::scan::Identity;
use crate::error::{Code, Error, Result};
use crate::model::{Instance, Key, Moment};
use crate::observed::event::{DesiredChange, EndedLaunch, Launched, Writing};
use rustix::io::Errno;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a batch of writes came to.
pub(super) struct Wrote {
    /// For the loop.
    pub(super) delivery: Delivery,
    /// What is left for the next batch, in order.
    pub(super) backlog: Vec<Write>,
    /// The files are not as they were when they were last looked at: that comes first.
    pub(super) look: bool,
}

/// A batch that is being carried out.
#[derive(Default)]
pub(super) struct Batch {
    plans: Vec<Plan>,
    /// Keys and files that something is written about.
    keys: HashSet<Key>,
    files: HashSet<PathBuf>,
    answers: Vec<Answer>,
    backlog: Vec<Write>,
    look: bool,
    /// The patterns have been looked at for this batch.
    pub(super) refreshed: bool,
    /// Those who are told what is said of a key once that is decided.
    launched: Vec<(Key, Reply<LaunchedFile>)>,
    updated: Vec<(Key, Reply<UpdateOutcome>)>,
    change: DesiredChange,
}

impl Batch {
    /// Whether something is written about the key already.
    pub(super) fn is_busy(&self, key: &Key) -> bool {
        self.keys.contains(key)
    }

    fn admit(&mut self, plan: Plan) {
        let is_free = plan.deeds.iter().all(|deed| !self.files.contains(deed.file()));
        if is_free {
            self.keys.insert(plan.key.clone());
            self.files.extend(plan.deeds.iter().map(|deed| deed.file().to_path_buf()));
            self.plans.push(plan);
        } else {
            self.backlog.push(plan.write);
        }
    }
}

impl Pass {
    /// Carries out a batch.
    pub(super) fn write(&mut self, writes: Vec<Write>) -> Wrote {
        let launch_dir = self.prepare_launch_dir();
        let mut batch = Batch::default();
        for write in writes {
            match self.plan(write, &mut batch, launch_dir.as_ref()) {
                Step::Answer(answer) => batch.answers.extend(answer),
                Step::Later(write) => batch.backlog.push(write),
                Step::Look(write) => {
                    batch.look = true;
                    batch.backlog.push(Write { looked: true, ..write });
                }
                Step::Do(plan) => batch.admit(plan),
            }
        }
        if let Ok(folder) = &launch_dir {
            self.carry_out(folder, &mut batch);
        }
        let now = (self.clock)();
        let mut change = std::mem::take(&mut batch.change);
        self.desired.decide_written(&mut change, now);
        change.launched.retain(|launched| change.declared.iter().any(|instance| instance.key == launched.key));
        self.tell(&mut batch);
        let Batch { answers, backlog, look, .. } = batch;
        let change = Some(change).filter(|change| !is_silent(change));
        Wrote { delivery: Delivery { change, answers }, backlog, look }
    }

    /// Writes what was planned, and has it count.
    fn carry_out(&mut self, folder: &Path, batch: &mut Batch) {
        let plans = std::mem::take(&mut batch.plans);
        let deeds: Vec<Deed> = plans.iter().flat_map(|plan| plan.deeds.iter().cloned()).collect();
        let removals = plans.iter().filter(|plan| matches!(plan.write.what, What::Remove { .. }));
        let ended = removals.map(|plan| &plan.key);
        if self.holds_state() {
            self.ended.note(ended);
        } else {
            self.ended.keep(ended);
        }
        let results = self.do_unnoticed(folder, &deeds);
        if results.iter().zip(&deeds).any(|(result, deed)| result.is_ok() && matches!(deed, Deed::Create { .. })) {
            self.inhabit(folder);
        }
        let mut results = results.into_iter();
        let now = (self.clock)();
        for plan in plans {
            let mut failed: Option<(PathBuf, Failure)> = None;
            for (deed, result) in plan.deeds.iter().zip(results.by_ref()) {
                if let Err(failure) = result {
                    failed.get_or_insert((deed.file().to_path_buf(), failure));
                }
            }
            match failed {
                None => self.count(folder, plan, batch, now),
                Some((_, failure)) if failure.errno == Errno::EXIST && !plan.write.looked => {
                    batch.look = true;
                    batch.backlog.push(Write { looked: true, ..plan.write });
                }
                Some((file, failure)) => {
                    for deed in plan.deeds.iter().filter(|deed| matches!(deed, Deed::Remove { .. })) {
                        // It may be gone all the same; then that is no loss.
                        self.desired.expect_deletion(&folder.join(deed.file()));
                    }
                    batch.answers.extend(plan.write.what.refuse(unwritable(folder, &file, failure)));
                }
            }
        }
    }

    /// Does what is to be done to files without being woken by it.
    fn do_unnoticed(&mut self, folder: &Path, deeds: &[Deed]) -> Vec<Result<(), Failure>> {
        if deeds.is_empty() {
            return Vec::new();
        }
        if let Ok(real) = std::fs::canonicalize(folder) {
            self.watch.expect(deeds.iter().map(|deed| real.join(deed.file())));
        }
        self.writer.carry_out(folder, deeds)
    }

    /// From now on the launch directory is not empty, unless it is another folder.
    fn inhabit(&mut self, folder: &Path) {
        let root = self.roots.iter_mut().find(|root| root.scanner.spec().path == folder);
        if let (Some(root), Ok(identity)) = (root, Identity::of(folder)) {
            root.scanner.inhabit(identity);
        }
    }

    /// What was written counts from now on.
    fn count(&mut self, folder: &Path, plan: Plan, batch: &mut Batch, now: Moment) {
        let Plan { key, deeds, write } = plan;
        if let What::Remove { grace, by, .. } = &write.what {
            self.desired.withdraw_launched(&key, &mut batch.change, now);
            batch.change.ended.push(EndedLaunch { key: key.clone(), grace: *grace, by: by.clone() });
        }
        let book = Book { registry: &self.registry, defaults: &self.settings.defaults };
        for deed in deeds {
            match deed {
                Deed::Create { file, bytes } | Deed::Replace { file, bytes } => {
                    self.desired.written(folder, &file, &bytes, &book);
                }
                Deed::Remove { file } | Deed::SetAside { file } => self.desired.removed(folder, &file),
            }
        }
        match write.what {
            What::Launch { launch, reply } => {
                batch.change.launched.push(Launched { key: key.clone(), by: launch.by, writing: Writing::Launch });
                batch.launched.push((key, reply));
            }
            What::Update { update, reply } => {
                batch.change.launched.push(Launched { key: key.clone(), by: update.by, writing: Writing::Update });
                batch.updated.push((key, reply));
            }
            What::Remove { reply, .. } => batch.answers.extend(reply.map(|reply| answer(reply, Ok(())))),
        }
    }

    /// Answers with what is said now.
    fn tell(&self, batch: &mut Batch) {
        let said = |key: &Key| -> Result<Arc<Instance>> {
            let lost = || {
                Error::new(Code::InternalError, "what was written is not declared")
                    .with("process_id", key)
                    .suggest("see what the log says of its file; pattern-launcher check")
            };
            self.desired.said(key).cloned().ok_or_else(lost)
        };
        for (key, reply) in std::mem::take(&mut batch.launched) {
            let result = said(&key).map(|instance| LaunchedFile { key, created: true, instance });
            batch.answers.push(answer(reply, result));
        }
        for (key, reply) in std::mem::take(&mut batch.updated) {
            batch.answers.push(answer(reply, said(&key).map(UpdateOutcome::Done)));
        }
    }

    /// Sets aside the launched files that have lost all they declare to people's files, and adds what follows to what a
    /// scan has found. A file that cannot be renamed is tried again by the next pass.
    pub(super) fn set_aside(&mut self, change: Option<DesiredChange>) -> Option<DesiredChange> {
        let lost = self.desired.outranked();
        if lost.is_empty() {
            return change;
        }
        let Ok(folder) = self.prepare_launch_dir() else { return change };
        let mut change = change.unwrap_or_default();
        let deeds: Vec<Deed> =
            lost.into_iter().filter(|(root, _)| *root == folder).map(|(_, file)| Deed::SetAside { file }).collect();
        let results = self.do_unnoticed(&folder, &deeds);
        for (deed, result) in deeds.iter().zip(results) {
            let file = folder.join(deed.file());
            match result {
                Ok(()) => {
                    let keys = self.desired.keys_of(&folder, deed.file());
                    tracing::info!(file = %file.display(), ?keys, "a person's file declares what a launched file did, which is set aside");
                    self.desired.removed(&folder, deed.file());
                }
                Err(Failure { doing, errno }) => {
                    tracing::warn!(file = %file.display(), doing, %errno, "a launched file that lost to a person's cannot be set aside");
                }
            }
        }
        self.desired.decide_written(&mut change, (self.clock)());
        Some(change).filter(|change| !is_silent(change))
    }
}

/// Whether a change says nothing.
fn is_silent(change: &DesiredChange) -> bool {
    let DesiredChange { declared, withdrawn, ended, launched, conditions, status, attempted: _, complete: _ } = change;
    declared.is_empty()
        && withdrawn.is_empty()
        && ended.is_empty()
        && launched.is_empty()
        && conditions.is_empty()
        && status.is_none()
}
