//! The configuration: flags over environment over file over profile, and what comes of it.
//!
//! [`Settings`] is the one list of what can be set, with everything optional; [`Config`] is what the launcher runs
//! with, with everything decided and checked. Nothing here touches the folders that a configuration names.

mod limits;
mod settings;
mod source;
mod value;

pub use limits::NamespaceLimits;
pub use settings::{CredentialsDir, DesiredRoot, Settings};
pub use source::{ENV_CONFIG, ENV_PREFIX, nearest};
pub use value::{
    CgroupSetting, CoresOrOff, CountOrOff, HostName, IdRange, LogFormat, LogLevel, OnExit, OrphanPolicy, PortOrOff,
    PortRange, Profile, SessionReboot, Size, SizeOrOff, Span, SpanOrOff, VariableName,
};

use crate::act::LogLimits;
use crate::desired::Defaults;
use crate::error::{Code, Error, Result};
use crate::metrics::Labels;
use crate::model::{IsolationLevel, Limit, Policy, Protection, Resources, Unenforced};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Read in the current folder when no `--config` says otherwise, if it is there.
pub const DEFAULT_FILE: &str = "launcher.toml";

/// The name of the API's unix socket within the state folder.
pub const SOCKET: &str = "api.sock";
/// The name of the unix socket of `/metrics`, `/health` and `/ready` within the state folder.
pub const HTTP_SOCKET: &str = "http.sock";

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What a launcher runs with.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The set of defaults.
    pub profile: Profile,
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// Where the patterns are.
    pub patterns_dir: PathBuf,
    /// Where people declare instances; at least one.
    pub desired: Vec<DesiredRoot>,
    /// The folders whose files instances may name as their credentials.
    pub credentials: Vec<CredentialsDir>,
    /// Where launched instances are kept.
    pub launch_dir: PathBuf,
    /// Where records, status and logs are kept.
    pub state_dir: PathBuf,
    /// Where the gRPC API listens on TCP.
    pub grpc: Option<SocketAddr>,
    /// What the gRPC API is encrypted with on TCP.
    pub grpc_tls: Option<TlsFiles>,
    /// The unix socket that the gRPC API listens on.
    pub socket: Option<PathBuf>,
    /// Where `/metrics`, `/health` and `/ready` listen on TCP.
    pub http: Option<SocketAddr>,
    /// The unix socket that they listen on.
    pub http_socket: Option<PathBuf>,
    /// Names under which they are asked for on a loopback address.
    pub http_hosts: Vec<String>,
    /// How many label values metrics may have.
    pub metrics_labels: Labels,
    /// What instances get that say nothing themselves.
    pub defaults: Defaults,
    /// Restarts, circuits, admission, ports.
    pub policy: Policy,
    /// How often everything is looked at.
    pub resync_interval: Duration,
    /// What becomes of the processes at the end.
    pub on_exit: OnExit,
    /// What becomes of launched sessions when the machine is restarted.
    pub session_reboot: SessionReboot,
    /// What becomes of processes in our cgroups that have no record.
    pub orphans: OrphanPolicy,
    /// How much of the output of instances is kept.
    pub log_limits: LogLimits,
    /// Variables that processes are given too.
    pub inherit_env: Vec<String>,
    /// How log lines are written.
    pub log_format: LogFormat,
    /// What is logged, as a filter.
    pub log_level: String,
    /// Where cgroups are made.
    pub cgroup: CgroupSetting,
    /// Whether tenants get users of their own, unless a manifest says otherwise.
    pub tenant_users: bool,
    /// The users that they get, both ends included.
    pub tenant_uids: (u32, u32),
    /// No process is started without these.
    pub required_protections: BTreeSet<Protection>,
}

/// What TLS is made of: PEM files, read at the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, with those that lead to its authority.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities that must have signed the certificates of clients; without it clients need none.
    pub client_ca: Option<PathBuf>,
}

/// A configuration and what people should be told about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What to run with.
    pub config: Config,
    /// Remarks on what was read, one line each.
    pub remarks: Vec<String>,
}

/// Everything that a configuration is made from; kept, so that it can be read again.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sources {
    /// `--config`.
    pub file: Option<PathBuf>,
    /// The flags.
    pub flags: Settings,
    /// The launcher's environment.
    pub environment: BTreeMap<String, String>,
}

impl Sources {
    /// Reads the file and the environment, and decides.
    ///
    /// # Errors
    /// `INVALID_CONFIGURATION`, naming the file and line, the variable or the setting.
    pub fn load(&self) -> Result<Loaded> {
        let named = self.file.clone().or_else(|| self.variable(ENV_CONFIG).map(PathBuf::from));
        let file = named.or_else(|| Path::new(DEFAULT_FILE).exists().then(|| DEFAULT_FILE.into()));
        let from_file = match &file {
            Some(path) => source::read_file(path)?.relative_to(path.parent().unwrap_or(Path::new(""))),
            None => Settings::default(),
        };
        let (from_environment, remarks) = source::read_environment(&self.environment)?;
        let settings = self.flags.clone().over(from_environment).over(from_file);
        let state_directory = self.variable("STATE_DIRECTORY").and_then(|all| all.split(':').next());
        let mut config = Config::decide(settings, state_directory.map(Path::new))?;
        config.file = file;
        Ok(Loaded { config, remarks })
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

impl Config {
    /// Fills in what `settings` leaves open, from its profile, and checks what belongs together. `state_directory` is
    /// what systemd says.
    ///
    /// # Errors
    /// `INVALID_CONFIGURATION`, naming the setting.
    pub fn decide(settings: Settings, state_directory: Option<&Path>) -> Result<Self> {
        let profile = settings.profile.unwrap_or(Profile::Development);
        let production = profile == Profile::Production;
        let desired = desired_roots(&settings)?;
        let state_dir = settings
            .state_dir
            .clone()
            .or_else(|| state_directory.map(Path::to_owned))
            .unwrap_or_else(|| ".pattern-launcher".into());
        let launch_parent = if production { &state_dir } else { &desired[0].path };
        let launch_dir = settings.launch_dir.clone().unwrap_or_else(|| launch_parent.join("launched"));
        if let Some(root) = desired.iter().find(|root| same_path(&root.path, &launch_dir)) {
            return Err(refused("launch_dir", "the launch folder is also a desired folder")
                .with("path", root.path.display())
                .suggest("give --launch-dir a folder of its own, for example below the desired folder"));
        }
        let grpc_port = settings.grpc_port.map_or((!production).then_some(8982), |port| port.0);
        let http_port = settings.http_port.map_or(Some(9092), |port| port.0);
        Ok(Self {
            profile,
            file: None,
            patterns_dir: settings.patterns_dir.clone().unwrap_or_else(|| "./patterns".into()),
            desired,
            credentials: settings.credentials_dir.clone().unwrap_or_default(),
            launch_dir,
            grpc: grpc_port.map(|port| grpc_address(&settings, port)).transpose()?,
            grpc_tls: tls_files(&settings)?,
            socket: Some(state_dir.join(SOCKET)),
            http_socket: Some(state_dir.join(HTTP_SOCKET)),
            state_dir,
            http_hosts: settings.http_hosts.iter().flatten().map(|host| host.0.clone()).collect(),
            metrics_labels: metrics_labels(&settings)?,
            http: http_port.map(|port| SocketAddr::new(settings.http_listen.unwrap_or(LOOPBACK), port)),
            defaults: defaults(&settings, production),
            policy: policy(&settings, production)?,
            resync_interval: within(
                "resync_interval",
                settings.resync_interval.map_or(Duration::from_secs(if production { 30 } else { 5 }), |span| span.0),
                Duration::from_millis(100)..=Duration::from_secs(3_600),
            )?,
            on_exit: settings.on_exit.unwrap_or(if production { OnExit::Detach } else { OnExit::Terminate }),
            orphans: settings.orphans.unwrap_or(OrphanPolicy::End),
            session_reboot: settings.session_reboot.unwrap_or(SessionReboot::Drop),
            log_limits: limits::logs(&settings)?,
            inherit_env: settings.inherit_env.unwrap_or_default().into_iter().map(|name| name.0).collect(),
            log_format: settings.log_format.unwrap_or(LogFormat::Auto),
            log_level: settings.log_level.map_or_else(|| "info".to_owned(), |level| level.0),
            cgroup: settings.cgroup.unwrap_or(CgroupSetting::Auto),
            tenant_users: settings.tenant_users.unwrap_or(production),
            tenant_uids: settings
                .tenant_uids
                .map_or((IdRange::UNUSED.0, IdRange::UNUSED.1), |range| (range.0, range.1)),
            required_protections: settings.required_protections.into_iter().flatten().collect(),
        })
    }
}

/// What instances get that say nothing themselves.
fn defaults(settings: &Settings, production: bool) -> Defaults {
    let resources = Resources {
        cpu_limit_millis: settings.cpu_limit.map_or(production.then_some(2_000), |limit| limit.0),
        memory_limit: settings.memory_limit.map_or(production.then_some(1 << 30), |limit| limit.0),
        pids_limit: settings.pids_limit.map_or(production.then_some(PIDS_LIMIT), |limit| limit.0),
        oom_policy: settings.oom_policy,
        ..Resources::default()
    };
    let written = [
        (Limit::CpuLimit, settings.cpu_limit.is_some()),
        (Limit::MemoryLimit, settings.memory_limit.is_some()),
        (Limit::PidsLimit, settings.pids_limit.is_some()),
    ];
    let unwritten = written.into_iter().filter(|(limit, written)| !written && limit.of(&resources).is_some());
    Defaults {
        isolation: settings.isolation.unwrap_or(IsolationLevel::Namespace),
        unwritten: unwritten.map(|(limit, _)| limit).collect(),
        resources,
    }
}

/// Processes and threads in production, where nothing else is said: more than a server with a pool of threads has, and
/// far fewer than a machine has pids.
const PIDS_LIMIT: u64 = 4096;

/// Where the API listens. What is sent can be read and changed on the way there, so it takes TLS or a word to open it
/// to a network.
fn grpc_address(settings: &Settings, port: u16) -> Result<SocketAddr> {
    let listen = settings.grpc_listen.unwrap_or(LOOPBACK);
    if listen.is_loopback() || settings.grpc_tls_cert.is_some() || settings.insecure == Some(true) {
        return Ok(SocketAddr::new(listen, port));
    }
    Err(refused("grpc_listen", "the gRPC API would be open to the network")
        .with("address", listen)
        .because("it has no TLS and asks nobody who they are")
        .suggest(
            "give it a certificate with --grpc-tls-cert and --grpc-tls-key, and --grpc-tls-client-ca to let in only clients that \
             have one too; or, where the network is the launcher's own, as in a container, add --insecure",
        ))
}

/// The files that TLS is made of, which come together or not at all.
fn tls_files(settings: &Settings) -> Result<Option<TlsFiles>> {
    let Settings { grpc_tls_cert: cert, grpc_tls_key: key, grpc_tls_client_ca: client_ca, .. } = settings;
    let missing = match (cert, key, client_ca) {
        (Some(cert), Some(key), client_ca) => {
            return Ok(Some(TlsFiles { cert: cert.clone(), key: key.clone(), client_ca: client_ca.clone() }));
        }
        (None, None, None) => return Ok(None),
        (None, ..) => "grpc_tls_cert",
        (Some(_), None, _) => "grpc_tls_key",
    };
    Err(refused(missing, "a setting for TLS is missing")
        .because("TLS needs a certificate and its private key")
        .suggest("give both grpc_tls_cert and grpc_tls_key, or none of the settings that begin with grpc_tls"))
}

/// Namespaces that metrics may tell apart at most: each takes some ten series for each of its patterns.
const NAMESPACES_LIMIT: u32 = 100_000;

fn metrics_labels(settings: &Settings) -> Result<Labels> {
    let usual = Labels::default();
    let namespaces = match settings.metrics_max_namespaces {
        Some(count) => within("metrics_max_namespaces", count, 0..=NAMESPACES_LIMIT)? as usize,
        None => usual.namespaces,
    };
    Ok(Labels { processes: settings.metrics_process_labels.unwrap_or(usual.processes), namespaces })
}

/// The most starts under way at once that can be asked for: each holds a few file descriptors meanwhile.
const STARTS_LIMIT: u32 = 1024;

fn policy(settings: &Settings, production: bool) -> Result<Policy> {
    let usual = Policy::default();
    let starts = settings.max_concurrent_starts.unwrap_or(64);
    let unavailable = settings.max_unavailable.unwrap_or(1);
    let day = Duration::from_secs(86_400);
    Ok(Policy {
        backoff_period: within(
            "backoff_period",
            settings.backoff_period.map_or(Duration::from_secs(if production { 5 } else { 1 }), |span| span.0),
            Duration::from_millis(1)..=day,
        )?,
        max_errors: within("max_errors", settings.max_errors.unwrap_or(usual.max_errors), 1..=1_000_000)?,
        stable_after: within(
            "stable_after",
            settings.stable_after.map_or(usual.stable_after, |span| span.0),
            Duration::from_millis(1)..=day,
        )?,
        circuit_retry: match settings.circuit_retry {
            Some(retry) => retry
                .0
                .map(|first| within("circuit_retry", first, Duration::from_millis(1)..=Policy::CIRCUIT_RETRY_CAP))
                .transpose()?,
            None => usual.circuit_retry,
        },
        max_concurrent_starts: within("max_concurrent_starts", starts, 1..=STARTS_LIMIT)? as usize,
        max_unavailable: within("max_unavailable", unavailable, 1..=100_000)? as usize,
        port_range: settings.port_range.map_or(usual.port_range, |range| (range.0, range.1)),
        unenforced: if production { Unenforced::Refuse } else { Unenforced::Report },
        ceilings: limits::ceilings(settings.max_processes, settings.namespace_limits.as_deref().unwrap_or_default())?,
    })
}

fn desired_roots(settings: &Settings) -> Result<Vec<DesiredRoot>> {
    let plain = settings.desired_dir.iter().flatten().map(DesiredRoot::open);
    let mut roots: Vec<DesiredRoot> = plain.chain(settings.desired.iter().flatten().cloned()).collect();
    if roots.is_empty() {
        roots.push(DesiredRoot::open("./desired"));
    }
    let mut seen = BTreeSet::new();
    for root in &roots {
        // An empty list reads as "nothing", and would be taken for "anything".
        let empty = |count: Option<usize>| count == Some(0);
        if empty(root.namespaces.as_ref().map(Vec::len)) || empty(root.patterns.as_ref().map(Vec::len)) {
            return Err(refused("desired", "a desired folder may declare nothing")
                .with("path", root.path.display())
                .suggest("name at least one namespace and one pattern, or leave the list out to allow all"));
        }
        if !seen.insert(root.path.components().collect::<PathBuf>()) {
            return Err(refused("desired_dir", "a desired folder is given twice")
                .with("path", root.path.display())
                .suggest("name each desired folder once, in desired_dir or in [[desired]]"));
        }
    }
    Ok(roots)
}

fn same_path(one: &Path, other: &Path) -> bool {
    one.components().eq(other.components())
}

fn refused(setting: &str, message: &str) -> Error {
    Error::new(Code::InvalidConfiguration, message).with("setting", setting)
}

fn within<T: PartialOrd + std::fmt::Debug>(setting: &str, value: T, range: std::ops::RangeInclusive<T>) -> Result<T> {
    if range.contains(&value) {
        return Ok(value);
    }
    let (low, high) = range.into_inner();
    Err(refused(setting, "a setting is out of its range")
        .with("value", format_args!("{value:?}"))
        .suggest(format!("give {setting} a value from {low:?} to {high:?}")))
}

/// The JSON Schema of the configuration file, for editors.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Settings).to_value()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::OomPolicy;

    fn decided(settings: Settings) -> Result<Config> {
        Config::decide(settings, None)
    }

    #[test]
    fn the_profiles_are_those_of_the_contract() {
        let development = decided(Settings::default()).unwrap();
        assert_eq!(development.resync_interval, Duration::from_secs(5));
        assert_eq!(development.policy.backoff_period, Duration::from_secs(1));
        assert_eq!(development.on_exit, OnExit::Terminate);
        assert_eq!(development.defaults.resources, Resources::default());
        assert_eq!(development.launch_dir, Path::new("./desired/launched"));
        assert_eq!(development.state_dir, Path::new(".pattern-launcher"));
        assert_eq!(development.http, "127.0.0.1:9092".parse().ok());

        let named = decided(Settings { oom_policy: Some(OomPolicy::Continue), ..Settings::default() }).unwrap();
        assert_eq!(named.defaults.resources.on_oom(), OomPolicy::Continue);

        let production = Config::decide(
            Settings { profile: Some(Profile::Production), ..Settings::default() },
            Some(Path::new("/s")),
        )
        .unwrap();
        assert_eq!(production.resync_interval, Duration::from_secs(30));
        assert_eq!(production.policy.backoff_period, Duration::from_secs(5));
        assert_eq!(production.on_exit, OnExit::Detach);
        assert_eq!(production.defaults.resources.cpu_limit_millis, Some(2_000));
        assert_eq!(production.defaults.resources.memory_limit, Some(1 << 30));
        assert_eq!(production.launch_dir, Path::new("/s/launched"));
        assert_eq!(production.grpc, None);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let zero = Settings { max_errors: Some(0), ..Settings::default() };
        assert_eq!(decided(zero).unwrap_err().context_value("setting"), Some("max_errors"));
        let twice = Settings { desired_dir: Some(vec!["a".into(), "./a/".into(), "a".into()]), ..Settings::default() };
        assert_eq!(decided(twice).unwrap_err().context_value("setting"), Some("desired_dir"));
        let both = Settings { launch_dir: Some("./desired".into()), ..Settings::default() };
        assert_eq!(decided(both).unwrap_err().context_value("setting"), Some("launch_dir"));
    }

    #[test]
    fn the_api_is_opened_to_a_network_only_when_told_so() {
        let settings = |insecure| Settings { grpc_listen: "0.0.0.0".parse().ok(), insecure, ..Settings::default() };
        for closed in [None, Some(false)] {
            let error = decided(settings(closed)).unwrap_err();
            assert_eq!(error.context_value("setting"), Some("grpc_listen"));
            assert!(error.suggestion().unwrap().contains("--insecure"), "{error}");
        }
        assert_eq!(decided(settings(Some(true))).unwrap().grpc, "0.0.0.0:8982".parse().ok());
        let inner = Settings { grpc_listen: "::1".parse().ok(), ..Settings::default() };
        assert_eq!(decided(inner).unwrap().grpc, "[::1]:8982".parse().ok());
        assert_eq!(decided(Settings::default()).unwrap().socket, Some(".pattern-launcher/api.sock".into()));
    }

    #[test]
    fn tls_opens_the_api_and_needs_both_files() {
        let settings = |cert: Option<&str>, key: Option<&str>, client_ca: Option<&str>| Settings {
            grpc_listen: "0.0.0.0".parse().ok(),
            grpc_tls_cert: cert.map(PathBuf::from),
            grpc_tls_key: key.map(PathBuf::from),
            grpc_tls_client_ca: client_ca.map(PathBuf::from),
            ..Settings::default()
        };
        let config = decided(settings(Some("c"), Some("k"), Some("a"))).unwrap();
        assert_eq!(config.grpc, "0.0.0.0:8982".parse().ok());
        assert_eq!(config.grpc_tls, Some(TlsFiles { cert: "c".into(), key: "k".into(), client_ca: Some("a".into()) }));
        for (cert, key, client_ca, missing) in [
            (Some("c"), None, None, "grpc_tls_key"),
            (Some("c"), None, Some("a"), "grpc_tls_key"),
            (None, Some("k"), None, "grpc_tls_cert"),
            (None, None, Some("a"), "grpc_tls_cert"),
        ] {
            let settings = Settings { insecure: Some(true), ..settings(cert, key, client_ca) };
            let error = decided(settings).unwrap_err();
            assert_eq!(error.context_value("setting"), Some(missing), "{error}");
        }
        let in_folder = settings(Some("c"), Some("/k"), Some("a")).relative_to(Path::new("etc"));
        let files = decided(in_folder).unwrap().grpc_tls.unwrap();
        assert_eq!(files, TlsFiles { cert: "etc/c".into(), key: "/k".into(), client_ca: Some("etc/a".into()) });
    }

    #[test]
    fn flags_beat_environment_beat_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("launcher.toml");
        std::fs::write(&file, "max_errors = 1\nmax_unavailable = 1\nmax_concurrent_starts = 1\npatterns_dir = 'p'\n")
            .unwrap();
        let sources = Sources {
            file: Some(file),
            flags: Settings { max_errors: Some(3), ..Settings::default() },
            environment: BTreeMap::from([
                ("PATTERN_LAUNCHER_MAX_ERRORS".to_owned(), "2".to_owned()),
                ("PATTERN_LAUNCHER_MAX_UNAVAILABLE".to_owned(), "2".to_owned()),
                ("STATE_DIRECTORY".to_owned(), "/var/lib/one:/var/lib/two".to_owned()),
            ]),
        };
        let config = sources.load().unwrap().config;
        assert_eq!(config.policy.max_errors, 3);
        assert_eq!(config.policy.max_unavailable, 2);
        assert_eq!(config.policy.max_concurrent_starts, 1);
        assert_eq!(config.patterns_dir, folder.path().join("p"));
        assert_eq!(config.state_dir, Path::new("/var/lib/one"));
    }

    #[test]
    fn the_readme_lists_every_setting() {
        let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
        let rows: Vec<&str> = readme.lines().filter(|line| line.starts_with("| `")).collect();
        for flag in source::flag_names() {
            let setting = format!("`{}`", flag.replace('-', "_"));
            let named = |row: &&&str| row.split(" | ").next().is_some_and(|first| first.contains(&setting));
            assert!(rows.iter().any(|row| named(&row)), "{setting} is not in the README");
        }
    }
}
