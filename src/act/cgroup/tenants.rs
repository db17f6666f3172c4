//! What the kernel holds the groups of namespaces to: the ceilings of what their processes may come to together, which
//! bound also what has no limit of its own.

use super::hierarchy::Hierarchy;
use super::limits::needed;
use super::{Base, RunCgroup, bases};
use crate::model::limits::Controller;
use crate::model::{Ceiling, Ceilings, Resources};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::PoisonError;

impl Base {
    /// Namespaces are held to these: those that get their first run from now on, and others when `hold_tenants` is called.
    pub(crate) fn set_ceilings(&self, ceilings: Ceilings) {
        *self.ceilings.lock().unwrap_or_else(PoisonError::into_inner) = ceilings;
    }

    /// Holds those that have runs to what is set now, so that of two calls it does not matter which is the last.
    pub(crate) fn hold_tenants(&self) {
        for (base, hierarchy) in bases::present(&self.state_dir) {
            for tenant in bases::tenants_in(&base) {
                self.bound(&tenant, hierarchy);
            }
        }
    }

    /// Holds one group of a namespace to its ceilings, as far as its hierarchy can.
    pub(super) fn bound(&self, tenant: &Path, hierarchy: Hierarchy) {
        let name = tenant.file_name().unwrap_or_default().to_string_lossy();
        let Some(namespace) = bases::tenant_of(&name) else { return };
        let group = RunCgroup::found(tenant.to_owned(), hierarchy, Vec::new());
        for (limit, reason) in group.set(&self.ceiling(namespace)) {
            tracing::warn!(namespace, %limit, reason, cgroup = %tenant.display(), "a namespace is not held to its ceiling by the kernel");
        }
    }

    /// The controllers that any run of a namespace needs, since the namespace is held to something by them.
    pub(super) fn needed_by(&self, namespace: &str) -> BTreeSet<Controller> {
        needed(&self.ceiling(namespace))
    }

    fn ceiling(&self, namespace: &str) -> Resources {
        let ceilings = self.ceilings.lock().unwrap_or_else(PoisonError::into_inner);
        let Ceiling { cpu_millis, memory, pids, instances: _, starts: _ } = ceilings.of(namespace);
        Resources { cpu_limit_millis: cpu_millis, memory_limit: memory, pids_limit: pids, ..Resources::default() }
    }
}
