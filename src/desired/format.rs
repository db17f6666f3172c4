//! The raw form of the two file formats. Its comments become the descriptions in the JSON Schemas.
//!
//! Values stay as they are written here; what they mean is checked where the place of each is known.

use super::yaml::{Settings, Written};
use crate::model::{Answerer, DesiredState, IsolationLevel, OomPolicy, RestartPolicy, StopSignal};
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
    /// Whom it runs as, by name or number; needs a launcher that is root.
    #[schemars(with = "Option<UserText>")]
    pub(super) user: Option<Written>,
    /// With which group, by name or number; default that of the user.
    #[schemars(with = "Option<UserText>")]
    pub(super) group: Option<Written>,
    /// Which permissions its new files do not get, in octal; default the launcher's own.
    #[schemars(with = "Option<OctalText>")]
    pub(super) umask: Option<Written>,
    /// Its scheduling priority, -20 (most favoured) to 19.
    #[schemars(with = "Option<i8>")]
    pub(super) nice: Option<Written>,
    /// How readily the kernel kills it when memory runs out, -1000 (never) to 1000; default 100 more than the launcher's.
    #[schemars(with = "Option<i16>")]
    pub(super) oom_score_adj: Option<Written>,
    /// Limits of each of its processes, as setrlimit has them: a number, unlimited, or SOFT:HARD.
    pub(super) rlimits: Option<RawRlimits>,
    /// Protections that it gets (true) or does without (false), whatever is usual.
    pub(super) protection: Option<RawProtection>,
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
    /// Whose processes may listen on its ports; any where somebody else opens them, as docker does; default own.
    #[schemars(with = "Option<Answerer>")]
    pub(super) answered_by: Option<Written>,
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
    /// What becomes of the rest of it where the kernel kills a process for want of memory; default kill.
    #[schemars(with = "Option<OomPolicy>")]
    pub(super) oom_policy: Option<Written>,
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

/// Limits of setrlimit: a number, unlimited, or SOFT:HARD.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(super) struct RawRlimits {
    /// Bytes of address space.
    #[schemars(with = "Option<LimitText>")]
    pub(super) r#as: Option<Written>,
    /// Bytes of a core dump; default 0.
    #[schemars(with = "Option<LimitText>")]
    pub(super) core: Option<Written>,
    /// Seconds of CPU time.
    #[schemars(with = "Option<LimitText>")]
    pub(super) cpu: Option<Written>,
    /// Bytes of data.
    #[schemars(with = "Option<LimitText>")]
    pub(super) data: Option<Written>,
    /// Bytes of a file that it writes.
    #[schemars(with = "Option<LimitText>")]
    pub(super) fsize: Option<Written>,
    /// File locks.
    #[schemars(with = "Option<LimitText>")]
    pub(super) locks: Option<Written>,
    /// Bytes locked in memory.
    #[schemars(with = "Option<LimitText>")]
    pub(super) memlock: Option<Written>,
    /// Bytes in message queues.
    #[schemars(with = "Option<LimitText>")]
    pub(super) msgqueue: Option<Written>,
    /// 20 less the most favoured priority it may give itself.
    #[schemars(with = "Option<LimitText>")]
    pub(super) nice: Option<Written>,
    /// Open files; default what the launcher was started with.
    #[schemars(with = "Option<LimitText>")]
    pub(super) nofile: Option<Written>,
    /// Processes and threads of its user.
    #[schemars(with = "Option<LimitText>")]
    pub(super) nproc: Option<Written>,
    /// Without effect on Linux.
    #[schemars(with = "Option<LimitText>")]
    pub(super) rss: Option<Written>,
    /// The real-time priority it may give itself.
    #[schemars(with = "Option<LimitText>")]
    pub(super) rtprio: Option<Written>,
    /// Microseconds that it may run in real time without waiting.
    #[schemars(with = "Option<LimitText>")]
    pub(super) rttime: Option<Written>,
    /// Signals that wait.
    #[schemars(with = "Option<LimitText>")]
    pub(super) sigpending: Option<Written>,
    /// Bytes of stack.
    #[schemars(with = "Option<LimitText>")]
    pub(super) stack: Option<Written>,
}

/// Protections that a process gets or does without.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(super) struct RawProtection {
    /// It leaves no core dump.
    #[schemars(with = "Option<bool>")]
    pub(super) no_core_dumps: Option<Written>,
    /// Nothing that it executes has more rights than it has.
    #[schemars(with = "Option<bool>")]
    pub(super) no_new_privileges: Option<Written>,
    /// When memory runs out the kernel kills it before the launcher.
    #[schemars(with = "Option<bool>")]
    pub(super) killed_first: Option<Written>,
    /// It has a user and a group that no other tenant has.
    #[schemars(with = "Option<bool>")]
    pub(super) own_user: Option<Written>,
    /// It has no capability, nor can it get one.
    #[schemars(with = "Option<bool>")]
    pub(super) no_capabilities: Option<Written>,
    /// It has STATE_DIR, RUNTIME_DIR and TMPDIR, which only its user can enter; only together with own_user.
    #[schemars(with = "Option<bool>")]
    pub(super) own_folders: Option<Written>,
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
    /// Files that the process finds under $CREDENTIALS_DIRECTORY, by name; they have to be in a credentials_dir.
    pub(super) credentials: Option<BTreeMap<String, Written>>,
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
    UserText => { "type": ["string", "integer"], "examples": ["www-data", 1000] },
    OctalText => { "type": ["string", "integer"], "pattern": "^[0-7]{1,4}$", "examples": ["0027"] },
    LimitText => { "type": ["string", "integer"], "pattern": "^([0-9]+|unlimited)(:([0-9]+|unlimited))?$", "examples": [4096, "1024:4096"] },
    UrlPath => { "type": "string", "pattern": "^/" },
}
