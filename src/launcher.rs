//! The composition root.

use crate::config::Config;
use crate::desired::root::{RootLock, RootSpec};
use crate::desired::store::StoreSettings;
use std::sync::Arc;

/// The status file in the state folder.
pub const STATUS_FILE: &str = "status.json";

/// What the store reads under a configuration: the desired folders, and the launch folder last.
pub fn store_settings(config: &Config, locks: Option<Arc<dyn RootLock>>) -> StoreSettings {
    let people = config.desired.iter().map(|root| RootSpec {
        path: root.path.clone(),
        namespaces: root.namespaces.clone().unwrap_or_default(),
        patterns: root.patterns.clone().unwrap_or_default(),
        api_managed: false,
    });
    let launched = RootSpec { api_managed: true, ..RootSpec::open(config.launch_dir.clone()) };
    StoreSettings {
        roots: people.chain([launched]).collect(),
        patterns_dir: config.patterns_dir.clone(),
        defaults: config.defaults.clone(),
        resync: config.resync_interval,
        state_dir: config.state_dir.clone(),
        locks,
    }
}
