//! The one list of settings. Flags, environment variables, file keys, help texts and the JSON Schema all come from it.

use super::limits::NamespaceLimits;
use super::value::{
    CgroupSetting, CoresOrOff, CountOrOff, HostName, IdRange, LogFormat, LogLevel, OnExit, OrphanPolicy, PortOrOff,
    PortRange, Profile, SessionReboot, Size, SizeOrOff, Span, SpanOrOff, VariableName,
};
use crate::model::{IsolationLevel, Namespace, OomPolicy, PatternName, Protection};
use schemars::JsonSchema;
use serde::Deserialize;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// One layer of settings; what is absent is left to the layer below.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
#[schemars(title = "pattern-launcher configuration")]
pub struct Settings {
    /// Where the patterns are: one folder with a manifest.yaml for each [default: ./patterns].
    #[arg(long, value_name = "DIR")]
    pub patterns_dir: Option<PathBuf>,
    /// A folder of instance files; may be given several times [default: ./desired].
    #[arg(long, value_name = "DIR")]
    pub desired_dir: Option<Vec<PathBuf>>,
    /// A folder of instance files that may only declare these namespaces and patterns; may be given several times.
    /// As a flag: path=DIR,namespaces=A:B,patterns=C:D.
    #[arg(long, value_name = "ROOT")]
    pub desired: Option<Vec<DesiredRoot>>,
    /// A folder whose files instances may name as their credentials; may be given several times [default: none].
    /// As a flag: DIR, or path=DIR,namespaces=A:B where it is for these namespaces alone.
    #[arg(long, value_name = "FOLDER")]
    pub credentials_dir: Option<Vec<CredentialsDir>>,
    /// Where launched instances are kept [default: launched/ in the first desired folder, in the state folder in
    /// production].
    #[arg(long, value_name = "DIR")]
    pub launch_dir: Option<PathBuf>,
    /// Where records, status and logs are kept [default: $STATE_DIRECTORY, else ./.pattern-launcher].
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// The port of the gRPC API; 0 is any free one [default: 8982, off in production]. The API is also on the unix
    /// socket api.sock in the state folder.
    #[arg(long, value_name = "PORT|off")]
    pub grpc_port: Option<PortOrOff>,
    /// The address of the gRPC API; one that is not loopback needs --grpc-tls-cert and --grpc-tls-key, or --insecure
    /// [default: 127.0.0.1].
    #[arg(long, value_name = "ADDRESS")]
    pub grpc_listen: Option<IpAddr>,
    /// The certificate that the gRPC API has on TCP, with those that lead to its authority, as a PEM file; clients then
    /// have to speak TLS. Read at the start.
    #[arg(long, value_name = "FILE")]
    pub grpc_tls_cert: Option<PathBuf>,
    /// The private key of that certificate, as a PEM file.
    #[arg(long, value_name = "FILE")]
    pub grpc_tls_key: Option<PathBuf>,
    /// The authorities that must have signed the certificate of every client, as a PEM file; without it everybody who
    /// can reach the gRPC API may do everything.
    #[arg(long, value_name = "FILE")]
    pub grpc_tls_client_ca: Option<PathBuf>,
    /// Serve the gRPC API without TLS on an address that is not loopback, where everybody who can reach it may do
    /// everything [default: false].
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub insecure: Option<bool>,
    /// The port of /metrics, /health and /ready; 0 is any free one [default: 9092]. They are also on the unix socket
    /// http.sock in the state folder.
    #[arg(long, value_name = "PORT|off")]
    pub http_port: Option<PortOrOff>,
    /// The address of /metrics, /health and /ready [default: 127.0.0.1].
    #[arg(long, value_name = "ADDRESS")]
    pub http_listen: Option<IpAddr>,
    /// Names under which /metrics, /health and /ready are asked for on a loopback address, besides localhost and
    /// addresses; others are refused, since a web page may have made them lead there.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub http_hosts: Option<Vec<HostName>>,
    /// Whether metrics have process ids as labels, which contain namespaces and sessions [default: true].
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub metrics_process_labels: Option<bool>,
    /// Namespaces that metrics tell apart; those that come later are counted together as other [default: 256].
    #[arg(long, value_name = "COUNT")]
    pub metrics_max_namespaces: Option<u32>,
    /// The isolation level of instances whose file and manifest name none: none, namespace or session
    /// [default: namespace].
    #[arg(long, value_name = "LEVEL")]
    pub isolation: Option<IsolationLevel>,
    /// Where the other defaults come from [default: development].
    #[arg(long, value_name = "PROFILE")]
    pub profile: Option<Profile>,
    /// How often everything is looked at without being told of a change [default: 5s, 30s in production].
    #[arg(long, value_name = "DURATION")]
    pub resync_interval: Option<Span>,
    /// The longest wait before a restart [default: 1s, 5s in production].
    #[arg(long, value_name = "DURATION")]
    pub backoff_period: Option<Span>,
    /// The failures in a row at which the circuit opens [default: 5].
    #[arg(long, value_name = "COUNT")]
    pub max_errors: Option<u32>,
    /// Healthy for this long ends a streak of failures [default: 60s].
    #[arg(long, value_name = "DURATION")]
    pub stable_after: Option<Span>,
    /// The wait before the first trial start of an open circuit; it doubles up to 10m [default: 60s].
    #[arg(long, value_name = "DURATION|off")]
    pub circuit_retry: Option<SpanOrOff>,
    /// Starts under way at once [default: 64].
    #[arg(long, value_name = "COUNT")]
    pub max_concurrent_starts: Option<u32>,
    /// Processes that run, start or end at once, in all [default: no end].
    #[arg(long, value_name = "COUNT")]
    pub max_processes: Option<u32>,
    /// What the processes of a namespace may come to together, or of every other namespace where none is named; may be
    /// given several times. As a flag: namespace=NAME,instances=10,starts=4,cpu=2.0,memory=4Gi,pids=500.
    #[arg(long, value_name = "LIMITS")]
    pub namespace_limits: Option<Vec<NamespaceLimits>>,
    /// Instances of one pattern that are replaced at once [default: 1].
    #[arg(long, value_name = "COUNT")]
    pub max_unavailable: Option<u32>,
    /// Where the ports of processes come from [default: 15000-32767].
    #[arg(long, value_name = "LOW-HIGH")]
    pub port_range: Option<PortRange>,
    /// What becomes of the processes when the launcher is told to end [default: terminate, detach in production].
    #[arg(long, value_name = "WHAT")]
    pub on_exit: Option<OnExit>,
    /// What becomes of launched sessions when the machine is restarted [default: drop].
    #[arg(long, value_name = "WHAT")]
    pub session_reboot: Option<SessionReboot>,
    /// What becomes of processes in the launcher's cgroups that have no record [default: end].
    #[arg(long, value_name = "WHAT")]
    pub orphans: Option<OrphanPolicy>,
    /// Variables of the launcher's own environment that processes are given too.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub inherit_env: Option<Vec<VariableName>>,
    /// The cores of a process whose file and manifest name no limit [default: off, 2.0 in production].
    #[arg(long, value_name = "CORES|off")]
    pub cpu_limit: Option<CoresOrOff>,
    /// The memory of a process whose file and manifest name no limit [default: off, 1Gi in production].
    #[arg(long, value_name = "SIZE|off")]
    pub memory_limit: Option<SizeOrOff>,
    /// The processes and threads of a process tree whose file and manifest name no limit [default: off, 4096 in production].
    #[arg(long, value_name = "COUNT|off")]
    pub pids_limit: Option<CountOrOff>,
    /// What becomes of the rest of an instance where the kernel kills a process for want of memory, and file and manifest do
    /// not say [default: kill].
    #[arg(long, value_name = "WHAT")]
    pub oom_policy: Option<OomPolicy>,
    /// The size at which the log of an instance is rotated [default: 16Mi].
    #[arg(long, value_name = "SIZE")]
    pub log_max_size: Option<Size>,
    /// Archives of the log of an instance that are kept, each of about that size [default: 4].
    #[arg(long, value_name = "COUNT")]
    pub log_max_files: Option<u32>,
    /// The most that the logs of the instances of a namespace hold together; the oldest output of whichever holds most
    /// is given up above it [default: 1Gi].
    #[arg(long, value_name = "SIZE|off")]
    pub log_max_namespace: Option<SizeOrOff>,
    /// The most that the logs of all instances hold together; the namespace that holds most gives up its oldest output
    /// above it [default: 8Gi].
    #[arg(long, value_name = "SIZE|off")]
    pub log_max_total: Option<SizeOrOff>,
    /// The free disk below which the logs of instances stop growing, at the most a quarter of the file system
    /// [default: 512Mi].
    #[arg(long, value_name = "SIZE|off")]
    pub log_disk_reserve: Option<SizeOrOff>,
    /// How log lines are written [default: auto].
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// What is logged [default: info].
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<LogLevel>,
    /// Where the cgroups of processes are made [default: auto].
    #[arg(long, value_name = "auto|off|PATH")]
    pub cgroup: Option<CgroupSetting>,
    /// Whether each tenant runs as a user of its own; it needs a launcher that is root [default: false, true in production].
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub tenant_users: Option<bool>,
    /// Where the users of tenants come from: numbers that nothing else on the machine uses
    /// [default: 1879048192-2147483646].
    #[arg(long, value_name = "LOW-HIGH")]
    pub tenant_uids: Option<IdRange>,
    /// Protections without which no process is started: own_session, closed_descriptors, no_core_dumps,
    /// no_new_privileges, killed_first, own_user, no_capabilities, own_folders.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub required_protections: Option<Vec<Protection>>,
}

macro_rules! layered {
    ($upper:ident over $lower:ident: $($field:ident)*) => {
        Settings { $($field: $upper.$field.or($lower.$field),)* }
    };
}

impl Settings {
    /// These settings, and where they say nothing, those of `lower`. The desired roots of a layer are one setting.
    #[must_use]
    pub fn over(self, mut lower: Self) -> Self {
        let upper = self;
        if upper.desired.is_some() || upper.desired_dir.is_some() {
            lower.desired = None;
            lower.desired_dir = None;
        }
        layered!(upper over lower:
            patterns_dir desired_dir desired credentials_dir launch_dir state_dir grpc_port grpc_listen grpc_tls_cert grpc_tls_key
            grpc_tls_client_ca insecure http_port http_listen http_hosts metrics_process_labels metrics_max_namespaces isolation profile resync_interval backoff_period
            max_errors stable_after circuit_retry max_concurrent_starts max_processes namespace_limits max_unavailable port_range on_exit
            session_reboot orphans inherit_env cpu_limit memory_limit pids_limit oom_policy log_max_size log_max_files log_max_namespace log_max_total log_disk_reserve log_format log_level cgroup tenant_users tenant_uids required_protections
        )
    }

    /// These settings with relative paths read from `folder`.
    #[must_use]
    pub fn relative_to(mut self, folder: &Path) -> Self {
        let Self {
            patterns_dir,
            desired_dir,
            desired,
            credentials_dir,
            launch_dir,
            state_dir,
            grpc_tls_cert,
            grpc_tls_key,
            grpc_tls_client_ca,
            ..
        } = &mut self;
        let paths = [patterns_dir, launch_dir, state_dir, grpc_tls_cert, grpc_tls_key, grpc_tls_client_ca]
            .into_iter()
            .flatten();
        let roots = desired.iter_mut().flatten().map(|root| &mut root.path);
        let roots = roots.chain(credentials_dir.iter_mut().flatten().map(|folder| &mut folder.path));
        for path in paths.chain(desired_dir.iter_mut().flatten()).chain(roots) {
            if folder.as_os_str().is_empty() || folder == Path::new(".") {
                continue;
            }
            *path = folder.join(&*path);
        }
        self
    }
}

/// A folder of instance files, and what it may declare.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DesiredRoot {
    /// The folder.
    pub path: PathBuf,
    /// The namespaces it may declare; any when absent.
    #[schemars(with = "Option<Vec<String>>")]
    pub namespaces: Option<Vec<Namespace>>,
    /// The patterns it may declare; any when absent.
    #[schemars(with = "Option<Vec<String>>")]
    pub patterns: Option<Vec<PatternName>>,
}

impl DesiredRoot {
    /// A folder that may declare anything.
    pub fn open(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), namespaces: None, patterns: None }
    }
}

impl FromStr for DesiredRoot {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut root = Self::open("");
        for part in text.split(',') {
            match part.split_once('=') {
                Some(("path", path)) if !path.is_empty() => root.path = path.into(),
                Some(("namespaces", names)) => root.namespaces = Some(names_of(names)?),
                Some(("patterns", names)) => root.patterns = Some(names_of(names)?),
                _ => return Err("write it as path=DIR,namespaces=A:B,patterns=C:D".to_owned()),
            }
        }
        if root.path.as_os_str().is_empty() { Err("it needs path=DIR".to_owned()) } else { Ok(root) }
    }
}

/// A folder of credentials, and whom it is for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialsDir {
    /// The folder.
    pub path: PathBuf,
    /// The namespaces whose instances may name its files; all, and level none, when absent.
    #[schemars(with = "Option<Vec<String>>")]
    pub namespaces: Option<Vec<Namespace>>,
}

impl FromStr for CredentialsDir {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if !text.starts_with("path=") && !text.is_empty() {
            return Ok(Self { path: text.into(), namespaces: None });
        }
        let root: DesiredRoot = text.parse().map_err(|_| "write it as DIR or path=DIR,namespaces=A:B".to_owned())?;
        match root {
            DesiredRoot { path, namespaces, patterns: None } => Ok(Self { path, namespaces }),
            DesiredRoot { .. } => Err("it is narrowed by namespaces only".to_owned()),
        }
    }
}

fn names_of<T: FromStr<Err = String>>(names: &str) -> Result<Vec<T>, String> {
    names.split(':').map(str::parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upper_layer_wins_setting_by_setting() {
        let upper = Settings { max_errors: Some(3), ..Settings::default() };
        let lower = Settings { max_errors: Some(9), max_unavailable: Some(2), ..Settings::default() };
        let both = upper.over(lower);
        assert_eq!((both.max_errors, both.max_unavailable), (Some(3), Some(2)));
    }

    #[test]
    fn the_desired_roots_of_a_layer_are_one_setting() {
        let upper = Settings { desired_dir: Some(vec!["a".into()]), ..Settings::default() };
        let lower = Settings { desired: Some(vec![DesiredRoot::open("b")]), ..Settings::default() };
        assert_eq!(upper.clone().over(lower), upper);
    }

    #[test]
    fn a_narrowed_root_reads_from_one_argument() {
        let root: DesiredRoot = "path=/srv/team-a,namespaces=a:b,patterns=consumer".parse().unwrap();
        assert_eq!(root.path, Path::new("/srv/team-a"));
        assert_eq!(root.namespaces.map(|names| names.len()), Some(2));
        for bad in ["", "/srv", "namespaces=a", "path=", "path=x,names=y", "path=x,namespaces=a..b"] {
            assert!(bad.parse::<DesiredRoot>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_folder_of_credentials_reads_from_one_argument() {
        let read = |text: &str| text.parse::<CredentialsDir>().unwrap();
        assert_eq!(read("/etc/creds"), CredentialsDir { path: "/etc/creds".into(), namespaces: None });
        let narrowed = read("path=/etc/creds/a,namespaces=a:b");
        assert_eq!((narrowed.path, narrowed.namespaces.map(|names| names.len())), ("/etc/creds/a".into(), Some(2)));
        for bad in ["", "path=", "path=x,namespaces=a..b", "path=x,patterns=p"] {
            assert!(bad.parse::<CredentialsDir>().is_err(), "{bad}");
        }
    }
}
