//! The raw form of the two file formats. Its comments become the descriptions in the JSON Schemas.
//!
//! Values stay as they are written here; what they mean is checked where the place of each is known.

use super::yaml::{Settings, Written};
use crate::model::{DesiredState, IsolationLevel, RestartPolicy, StopSignal};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// A pattern: an executable and how it is run.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(title = "Pattern manifest")]
pub(super) struct RawManifest {
    /// The pattern's name, equal to its folder's name.
    #[schemars(required, with = "PatternNameText")]
    pub(super) name: Option<Written>,
    /// The pattern's version; free text.
    #[schemars(required)]
    pub(super) version: Option<Written>,
    /// The program: relative to the manifest when it contains a '/', a bare word is looked up on PATH; or absolute.
    #[schemars(required, with = "Text")]
    pub(super) executable: Option<Written>,
    /// Arguments; $(NAME) is replaced from the process's environment, $$(NAME) is literal.
    pub(super) args: Option<Vec<Written>>,
    /// Who shares a process, for instances that do not say; default the launcher's.
    #[schemars(with = "Option<IsolationLevel>")]
    pub(super) isolation_level: Option<Written>,
    /// Instances may not ask for less.
    #[schemars(with = "Option<IsolationLevel>")]
    pub(super) minimum_isolation: Option<Written>,
    /// How health is found out; without it an instance is healthy while it runs.
    pub(super) healthcheck: Option<RawHealthCheck>,
    /// Limits and requests.
    pub(super) resources: Option<RawResources>,
    /// Environment variables of every instance.
    pub(super) environment: Option<Settings>,
    /// Backends that an instance binds.
    pub(super) backend_slots: Option<Vec<RawSlot>>,
    /// How a process is stopped and restarted.
    pub(super) lifecycle: Option<RawLifecycle>,
    /// Free text.
    pub(super) description: Option<Written>,
    /// Free text.
    pub(super) author: Option<Written>,
}

/// How health is found out.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct RawHealthCheck {
    /// What is asked; default http.
    #[schemars(with = "Option<RawProbe>")]
    pub(super) r#type: Option<Written>,
    /// The preferred HEALTH_PORT: taken if it is free, else another is allocated.
    #[schemars(with = "Option<PortNumber>")]
    pub(super) port: Option<Written>,
    /// http only: the path that is asked for; default /health.
    #[schemars(with = "Option<UrlPath>")]
    pub(super) path: Option<Written>,
    /// exec only: program and arguments; exit code 0 is healthy.
    pub(super) command: Option<Vec<Written>>,
    /// Between two probes; default 30s.
    #[schemars(with = "Option<DurationText>")]
    pub(super) interval: Option<Written>,
    /// How long one probe may take; default 5s.
    #[schemars(with = "Option<DurationText>")]
    pub(super) timeout: Option<Written>,
    /// Consecutive failures that make a healthy process be restarted; default 3.
    #[schemars(with = "Option<PositiveNumber>")]
    pub(super) failure_threshold: Option<Written>,
    /// Consecutive successes that make a process healthy; default 1.
    #[schemars(with = "Option<PositiveNumber>")]
    pub(super) success_threshold: Option<Written>,
    /// Not healthy by then is a failed start; default 30s.
    #[schemars(with = "Option<DurationText>")]
    pub(super) startup_timeout: Option<Written>,
}

/// What a probe asks.
#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
#[expect(dead_code, reason = "it is there for its schema")]
pub(super) enum RawProbe {
    /// GET of a path; healthy at 200 to 399.
    Http,
    /// A connection that is accepted.
    Tcp,
    /// A command that exits with 0.
    Exec,
    /// grpc.health.v1 says SERVING.
    Grpc,
}

/// Limits and requests; what is absent is not limited.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(super) struct RawResources {
    /// Cores, such as 1.5 or 500m.
    #[schemars(with = "Option<CoresText>")]
    pub(super) cpu_limit: Option<Written>,
    /// Bytes, such as 256Mi.
    #[schemars(with = "Option<SizeText>")]
    pub(super) memory_limit: Option<Written>,
    /// Cores, such as 0.5 or 500m; becomes a weight.
    #[schemars(with = "Option<CoresText>")]
    pub(super) cpu_request: Option<Written>,
    /// Bytes, such as 128Mi; becomes a protection where the kernel has it.
    #[schemars(with = "Option<SizeText>")]
    pub(super) memory_request: Option<Written>,
    /// Processes and threads.
    #[schemars(with = "Option<PositiveNumber>")]
    pub(super) pids_limit: Option<Written>,
}

/// A backend that an instance binds.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct RawSlot {
    /// Becomes SLOT_<NAME>_…
    #[schemars(required, with = "Text")]
    pub(super) name: Option<Written>,
    /// Becomes SLOT_<NAME>_TYPE.
    pub(super) r#type: Option<Written>,
    /// Whether an instance must bind it; default false.
    #[schemars(with = "Option<bool>")]
    pub(super) required: Option<Written>,
}

/// How a process is stopped and restarted.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct RawLifecycle {
    /// What the main process is sent first; default SIGTERM.
    #[schemars(with = "Option<StopSignal>")]
    pub(super) stop_signal: Option<Written>,
    /// From the stop signal to the killing of the whole tree; default 10s.
    #[schemars(with = "Option<DurationText>")]
    pub(super) grace_period: Option<Written>,
    /// Which exits are followed by a new start; default always.
    #[schemars(with = "Option<RestartPolicy>")]
    pub(super) restart: Option<Written>,
}

/// An instance: this pattern should run for this tenant.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(title = "Pattern instance")]
pub(super) struct RawInstance {
    /// The pattern to run.
    #[schemars(required, with = "PatternNameText")]
    pub(super) pattern: Option<Written>,
    /// Who shares the process; default the manifest's.
    #[schemars(with = "Option<IsolationLevel>")]
    pub(super) isolation: Option<Written>,
    /// For which tenant.
    #[schemars(with = "Option<NamespaceText>")]
    pub(super) namespace: Option<Written>,
    /// In place of namespace: one instance for each of these tenants.
    pub(super) namespaces: Option<Vec<Written>>,
    /// For which session; at level session only.
    pub(super) session: Option<Written>,
    /// Environment variables, names as written.
    pub(super) config: Option<Settings>,
    /// Backends by slot: each key becomes SLOT_<NAME>_<KEY>.
    pub(super) slots: Option<BTreeMap<String, Settings>>,
    /// Overrides of the manifest's limits and requests.
    pub(super) resources: Option<RawResources>,
    /// Override of the manifest's: from the stop signal to the killing of the whole tree.
    #[schemars(with = "Option<DurationText>")]
    pub(super) grace_period: Option<Written>,
    /// Whether it should run; default running.
    #[schemars(with = "Option<DesiredState>")]
    pub(super) state: Option<Written>,
    /// Launched files only: it ends this long after the last launch request that named it.
    #[schemars(with = "Option<DurationText>")]
    pub(super) ttl: Option<Written>,
}

/// Types that are there for their schemas: what a text must look like.
macro_rules! looks {
    ($($name:ident => $schema:tt,)*) => { $(
        struct $name;

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }

            fn inline_schema() -> bool {
                true
            }
        }
    )* };
}

looks! {
    Text => { "type": "string", "minLength": 1 },
    PatternNameText => { "type": "string", "pattern": "^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?$" },
    NamespaceText => { "type": ["string", "number"], "pattern": "^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$" },
    DurationText => { "type": "string", "pattern": "^([0-9.]+(us|ms|s|m|h|d))+$", "examples": ["30s", "1m30s"] },
    SizeText => { "type": ["string", "integer"], "examples": ["256Mi", "1Gi"] },
    CoresText => { "type": ["number", "string"], "examples": [1.0, "500m"] },
    PortNumber => { "type": "integer", "minimum": 1, "maximum": 65_535 },
    PositiveNumber => { "type": "integer", "minimum": 1 },
    UrlPath => { "type": "string", "pattern": "^/" },
}
