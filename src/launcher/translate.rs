//! The configuration in the words of each part.

use super::Role;
use crate::act::{CgroupChoice, CredentialSource, HostSettings, Orphans, Subreaper, output};
use crate::config::{CgroupSetting, Config, CredentialsDir, OrphanPolicy};
use crate::desired::root::{RootLock, RootSpec};
use crate::desired::store::StoreSettings;
use crate::metrics::Metrics;
use crate::model::TenantUsers;
use crate::model::environment::INHERITED;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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

/// What is read without a launcher: no locks, and no launch folder where there is none yet.
pub fn offline_settings(config: &Config) -> StoreSettings {
    let mut settings = store_settings(config, None);
    settings.roots.retain(|root| !root.api_managed || root.path.symlink_metadata().is_ok());
    settings
}

/// Where the output of instances goes; absolute, since errors name it to people who may be elsewhere.
pub fn log_dir(state_dir: &Path) -> PathBuf {
    let logs = state_dir.join(output::LOGS_FOLDER);
    std::path::absolute(&logs).unwrap_or(logs)
}

pub(super) fn host_settings(config: &Config, role: &Role, metrics: &Arc<Metrics>) -> HostSettings {
    let names = INHERITED.iter().copied().chain(config.inherit_env.iter().map(String::as_str));
    let inherited_env: BTreeMap<String, String> =
        names.filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?))).collect();
    HostSettings {
        state_dir: config.state_dir.clone(),
        log_dir: log_dir(&config.state_dir),
        log_limits: config.log_limits,
        cgroup: match &config.cgroup {
            CgroupSetting::Auto => CgroupChoice::Auto,
            CgroupSetting::Off => CgroupChoice::Off,
            CgroupSetting::Path(path) => CgroupChoice::Under(path.clone()),
        },
        inherited_env,
        spawner_exe: None,
        // It concerns the whole process, so in somebody's program it is not ours to decide.
        subreaper: match role {
            Role::Daemon => Subreaper::On,
            Role::Embedded(_) => Subreaper::Off,
        },
        orphans: match config.orphans {
            OrphanPolicy::End => Orphans::End,
            OrphanPolicy::Report => Orphans::Report,
        },
        orphan_interval: Orphans::INTERVAL,
        tenant_users: if config.tenant_users { TenantUsers::On } else { TenantUsers::Off },
        tenant_uids: config.tenant_uids,
        required_protections: config.required_protections.clone(),
        credentials: config
            .credentials
            .iter()
            .map(|CredentialsDir { path, namespaces }| CredentialSource {
                path: path.clone(),
                namespaces: namespaces.clone(),
            })
            .collect(),
        ceilings: config.policy.ceilings.clone(),
        metrics: Arc::clone(metrics),
    }
}

/// The settings that differ and that a running launcher cannot take over.
pub(super) fn needing_restart(before: &Config, after: &Config) -> Vec<&'static str> {
    let differing = [
        ("state_dir", before.state_dir != after.state_dir),
        ("http_port, http_listen", before.http != after.http),
        ("http_hosts", before.http_hosts != after.http_hosts),
        ("metrics_process_labels, metrics_max_namespaces", before.metrics_labels != after.metrics_labels),
        ("grpc_port, grpc_listen", before.grpc != after.grpc),
        ("grpc_tls_cert, grpc_tls_key, grpc_tls_client_ca", before.grpc_tls != after.grpc_tls),
        ("credentials_dir", before.credentials != after.credentials),
        ("inherit_env", before.inherit_env != after.inherit_env),
        ("cgroup", before.cgroup != after.cgroup),
        ("log_format", before.log_format != after.log_format),
        (
            "tenant_users, tenant_uids",
            (before.tenant_users, before.tenant_uids) != (after.tenant_users, after.tenant_uids),
        ),
        ("required_protections", before.required_protections != after.required_protections),
        ("orphans", before.orphans != after.orphans),
    ];
    differing.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn config(settings: Settings) -> Config {
        Config::decide(settings, None).unwrap()
    }

    #[test]
    fn the_launch_folder_is_the_last_root() {
        let settings = store_settings(&config(Settings::default()), None);
        let roots: Vec<_> = settings.roots.iter().map(|root| (root.path.clone(), root.api_managed)).collect();
        assert_eq!(roots, [("./desired".into(), false), ("./desired/launched".into(), true)]);
    }

    #[test]
    fn what_needs_a_restart_is_named() {
        let before = config(Settings::default());
        let after = config(Settings { max_errors: Some(9), ..Settings::default() });
        assert!(needing_restart(&before, &after).is_empty());
        let after = config(Settings { state_dir: Some("elsewhere".into()), ..Settings::default() });
        assert_eq!(needing_restart(&before, &after), ["state_dir"]);
        let (cert, key) = (Some("cert.pem".into()), Some("key.pem".into()));
        let after = config(Settings { grpc_tls_cert: cert, grpc_tls_key: key, ..Settings::default() });
        assert_eq!(needing_restart(&before, &after), ["grpc_tls_cert, grpc_tls_key, grpc_tls_client_ca"]);
    }
}
