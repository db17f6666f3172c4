//! Limiting a run that lives, and telling what is in force.

use super::Run;
use crate::act::cgroup::{self, Base, RunCgroup};
use crate::act::tree::Tree;
use crate::model::{LimitsEffective, Resources, RunRecord};
use crate::observed::Event;
use std::sync::Arc;

/// The limits of a run that was adopted, if there is anything to set or to tell about them. What nothing can limit is not
/// looked at: there may be a thousand.
pub(crate) fn due(record: &RunRecord, tree: &Tree, base: Option<&Base>) -> Option<Resources> {
    let wanted = &record.supervision.resources;
    let held = |cgroup: &RunCgroup| {
        base.is_none_or(|base| base.may_limit(cgroup)) && cgroup.held(wanted) != Resources::default()
    };
    let is_due = *wanted != Resources::default() || matches!(tree, Tree::Cgroup(cgroup) if held(cgroup));
    is_due.then(|| wanted.clone())
}

/// Limits it as is wanted now, as far as the kernel can, and tells what is in force.
pub(super) async fn again(run: &Run, tree: &Tree, wanted: Resources) {
    let cgroup = super::cgroup_of(tree);
    run.shared.meters.follow(run.id, wanted.on_oom());
    tell(run, enforce(run, cgroup, wanted).await).await;
}

/// Limits what is in a cgroup; it is about to be released or has been long ago.
pub(super) async fn enforce(run: &Run, cgroup: Option<RunCgroup>, wanted: Resources) -> LimitsEffective {
    let surroundings = Arc::clone(&run.shared.surroundings);
    let work = move || match cgroup {
        Some(cgroup) => cgroup::enforce(&cgroup, surroundings.cgroups.as_ref(), &wanted),
        None => cgroup::unlimited(&wanted),
    };
    run.shared.blocking(run.key.namespace(), work).await
}

/// Tells the loop.
pub(super) async fn tell(run: &Run, limits: LimitsEffective) {
    run.shared.report(Event::Limited { key: run.key.clone(), run: run.id, limits }).await;
}
