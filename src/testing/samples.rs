//! Instances for tests.

use crate::model::{
    Answerer, Content, DesiredState, HealthCheck, Instance, Isolation, Namespace, Origin, PatternName, PatternRevision,
    Privileges, ProbeTarget, Resources, RestartPolicy, Secret, StartSpec, StopSignal, Supervision,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// An instance of `pattern` for `tenant`: `version` is the pattern's, `config` its own.
pub(crate) fn instance(pattern: &str, tenant: &str, version: u32, config: u32) -> Instance {
    let pattern = PatternName::new(pattern).expect("name");
    let isolation = Isolation::Namespace(Namespace::new(tenant).expect("name"));
    let healthcheck = HealthCheck {
        target: ProbeTarget::Tcp,
        interval: Duration::from_secs(10),
        timeout: Duration::from_secs(1),
        failure_threshold: 3,
        success_threshold: 1,
        startup_timeout: Duration::from_secs(30),
        answered_by: Answerer::Own,
    };
    Instance {
        key: isolation.key(&pattern),
        content: Content {
            launch: Arc::new(StartSpec {
                pattern: PatternRevision {
                    version: version.to_string(),
                    folder: format!("/patterns/{pattern}").into(),
                    executable: "./run".to_owned(),
                    digest: None,
                    args: Vec::new(),
                    environment: BTreeMap::new(),
                    preferred_port: None,
                    privileges: Privileges::default(),
                },
                config: BTreeMap::from([("CONFIG".to_owned(), Secret::new(config.to_string()))]),
                credentials: BTreeMap::new(),
            }),
            supervision: Supervision {
                healthcheck: Some(healthcheck),
                stop_signal: StopSignal::Term,
                grace_period: Duration::from_secs(10),
                restart: RestartPolicy::Always,
                resources: Resources::default(),
            },
            state: DesiredState::Running,
            ttl: None,
        },
        origin: Origin { root: "/desired".into(), file: format!("{tenant}.yaml").into(), line: 1, api_managed: false },
        defaulted: Vec::new(),
        pattern,
        isolation,
    }
}
