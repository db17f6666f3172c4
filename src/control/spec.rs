//! What a caller asks to be launched, and the checks that need neither a manifest nor the store.
//!
//! Whoever asks, over gRPC or from a program, passes through here and gets the same errors.

use crate::desired::bindings::{self, Fault, check_slot_name};
use crate::desired::{DAY, InstanceSpec, TTL_LIMIT};
use crate::error::{Code, Error, Result};
use crate::model::{DesiredState, IsolationLevel, Namespace, PatternName, Resources, Secret, SessionId, units};
use std::collections::BTreeMap;
use std::time::Duration;

/// The most entries in `config`, and the most values in `slots`: what people write by hand has a few dozen.
const ENTRIES_LIMIT: usize = 256;
/// The longest value, in bytes: a certificate or a key fits, and a quarter of what the kernel allows for one variable.
const VALUE_LIMIT: usize = 32 * 1024;
/// All names and values of `config`, and likewise of `slots`, in bytes. A launch is written to a file of at most
/// 256 KiB, in which escaping makes a byte four at worst: `2 · 28 KiB · 4`, and the rest is for names and punctuation.
const TOTAL_LIMIT: usize = 28 * 1024;
/// The shortest `ttl`: shorter ones would end what they launch before anybody has spoken to it.
const TTL_SHORTEST: Duration = Duration::from_secs(1);

/// What to launch, and for whom. It is checked when it is launched.
///
/// ```
/// use pattern_launcher::LaunchSpec;
/// use std::time::Duration;
///
/// let spec = LaunchSpec::new("consumer")
///     .namespace("tenant-a")
///     .config("KAFKA_BROKERS", "localhost:9092")
///     .slot("storage", "url", "postgres://localhost/a")
///     .ttl(Duration::from_secs(1800));
/// assert_eq!(spec.pattern(), "consumer");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct LaunchSpec {
    pattern: String,
    isolation: Option<IsolationLevel>,
    namespace: Option<String>,
    session: Option<String>,
    config: BTreeMap<String, Secret>,
    slots: BTreeMap<String, BTreeMap<String, Secret>>,
    grace_period: Option<Duration>,
    ttl: Option<Duration>,
    waits: bool,
}

impl LaunchSpec {
    /// A launch of the pattern of that name, at the level that its manifest names, else the launcher's.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self {
            pattern: pattern.into(),
            isolation: None,
            namespace: None,
            session: None,
            config: BTreeMap::new(),
            slots: BTreeMap::new(),
            grace_period: None,
            ttl: None,
            waits: true,
        }
    }

    /// Who shares the process; overrides the manifest's level.
    pub fn isolation(self, level: IsolationLevel) -> Self {
        Self { isolation: Some(level), ..self }
    }

    /// For which tenant. Ignored at level `none`.
    pub fn namespace(self, namespace: impl Into<String>) -> Self {
        Self { namespace: Some(namespace.into()), ..self }
    }

    /// For which session. Ignored unless at level `session`.
    pub fn session(self, session: impl Into<String>) -> Self {
        Self { session: Some(session.into()), ..self }
    }

    /// An environment variable that the process is created with.
    pub fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.config.insert(name.into(), Secret::new(value));
        self
    }

    /// One value of a backend: `slot("storage", "url", "postgres://…")`.
    pub fn slot(mut self, slot: impl Into<String>, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.slots.entry(slot.into()).or_default().insert(key.into(), Secret::new(value));
        self
    }

    /// From the stop signal to the killing of the whole tree, at most a day; overrides the manifest's.
    pub fn grace_period(self, grace: Duration) -> Self {
        Self { grace_period: Some(grace), ..self }
    }

    /// It ends this long after the last launch that named it: a second to 366 days. The first launch decides.
    pub fn ttl(self, ttl: Duration) -> Self {
        Self { ttl: Some(ttl), ..self }
    }

    /// Answer when the launch is on disk, without waiting for the process.
    pub fn no_wait(self) -> Self {
        Self { waits: false, ..self }
    }

    /// The name of the pattern, as given.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// Whether the answer is to come when the process is healthy, or known not to be going to be.
    pub const fn waits(&self) -> bool {
        self.waits
    }

    /// Checks everything that can be checked without the manifest.
    ///
    /// An empty namespace or session is none, as a client in a language without optional fields sends it. A namespace
    /// and a session that the level has no use for are checked and then left out, if the level is named.
    ///
    /// # Errors
    /// `INVALID_INSTANCE`, `MISSING_NAMESPACE`, `MISSING_SESSION_ID`.
    pub fn check(&self) -> Result<InstanceSpec> {
        let pattern = check_pattern(&self.pattern)?;
        let namespace = self.namespace.as_deref().filter(|name| !name.is_empty()).map(check_namespace).transpose()?;
        let session = self.session.as_deref().filter(|id| !id.is_empty()).map(check_session).transpose()?;
        match self.isolation {
            Some(IsolationLevel::Namespace) if namespace.is_none() => return Err(missing_namespace(&pattern)),
            Some(IsolationLevel::Session) if session.is_none() => return Err(missing_session(&pattern)),
            _ => {}
        }
        let least = self.isolation.unwrap_or(IsolationLevel::Session);
        Ok(InstanceSpec {
            pattern,
            isolation: self.isolation,
            namespace: namespace.filter(|_| least >= IsolationLevel::Namespace),
            session: session.filter(|_| least >= IsolationLevel::Session),
            config: check_config(&self.config)?,
            slots: check_slots(&self.slots)?,
            // What the launcher may read is not for whoever may launch.
            credentials: BTreeMap::new(),
            resources: Resources::default(),
            grace_period: self.grace_period.map(check_grace).transpose()?,
            state: DesiredState::Running,
            ttl: self.ttl.map(check_ttl).transpose()?,
            line: 1,
        })
    }
}

/// Checks the name of a pattern.
pub fn check_pattern(name: &str) -> Result<PatternName> {
    PatternName::new(name).map_err(|reason| {
        let error = refused("the pattern name cannot be used").with("pattern_name", shown(name)).because(reason);
        match PatternName::new(&likely(&name.to_lowercase())) {
            Ok(meant) if !name.contains(['/', '.']) => error.suggest(format!("write it as '{meant}'")),
            _ => error.suggest("prismctl manifests lists the patterns; use the name of one of them"),
        }
    })
}

/// Checks the name of a tenant.
pub fn check_namespace(name: &str) -> Result<Namespace> {
    Namespace::new(name).map_err(|reason| {
        let error = refused("the namespace cannot be used").with("namespace", shown(name)).because(reason);
        match Namespace::new(&likely(name)) {
            Ok(valid) => error.suggest(format!("use another namespace, such as '{valid}'")),
            Err(_) => error.suggest("use another namespace, such as 'tenant-a'"),
        }
    })
}

/// Checks the id of a session.
pub fn check_session(id: &str) -> Result<SessionId> {
    SessionId::new(id).map_err(|reason| {
        refused("the session id cannot be used")
            .with("session_id", shown(id))
            .because(reason)
            .suggest("use 1 to 128 bytes of printable text; encode or hash an id that is anything else")
    })
}

/// Checks environment variables.
pub fn check_config(config: &BTreeMap<String, Secret>) -> Result<BTreeMap<String, Secret>> {
    let sizes = config.iter().map(|(name, value)| (name.as_str(), name.len() + value.reveal().len()));
    check_sizes("config", sizes)?;
    for (name, value) in config {
        let at = |fault| faulty("config", name, fault);
        bindings::check_variable("config", name).map_err(at)?;
        bindings::check_config(name).map_err(at)?;
        bindings::check_value(&["config", name], value).map_err(at)?;
    }
    Ok(config.clone())
}

/// Checks bound backends.
pub fn check_slots(
    slots: &BTreeMap<String, BTreeMap<String, Secret>>,
) -> Result<BTreeMap<String, BTreeMap<String, Secret>>> {
    let values = slots.iter().flat_map(|(slot, keys)| keys.iter().map(move |(key, value)| (slot, key, value)));
    let sizes = values.map(|(slot, key, value)| (slot.as_str(), slot.len() + key.len() + value.reveal().len()));
    check_sizes("slots", sizes)?;
    for (slot, binding) in slots {
        check_slot_name(slot).map_err(|message| faulty("slots", slot, Fault { message, suggestion: None }))?;
        bindings::check_keys(slot, binding.keys().map(String::as_str))
            .map_err(|(key, fault)| faulty("slots", &format!("{slot}.{key}"), fault))?;
        for (key, value) in binding {
            bindings::check_value(&["slots", slot, key], value)
                .map_err(|fault| faulty("slots", &format!("{slot}.{key}"), fault))?;
        }
    }
    Ok(slots.clone())
}

/// Checks how long a process is given to end.
pub fn check_grace(grace: Duration) -> Result<Duration> {
    check_span("grace_period", grace, Duration::ZERO, DAY)
}

fn check_ttl(ttl: Duration) -> Result<Duration> {
    check_span("ttl", ttl, TTL_SHORTEST, TTL_LIMIT)
}

fn check_span(name: &str, span: Duration, shortest: Duration, longest: Duration) -> Result<Duration> {
    if (shortest..=longest).contains(&span) {
        return Ok(span);
    }
    let [found, shortest, longest] = [span, shortest, longest].map(units::format_duration);
    Err(refused(&format!("'{name}' is out of its range"))
        .with(name, found)
        .suggest(format!("give '{name}' a value from {shortest} to {longest}")))
}

fn check_sizes<'a>(what: &str, sizes: impl Iterator<Item = (&'a str, usize)>) -> Result<()> {
    let (mut entries, mut total) = (0, 0);
    for (name, size) in sizes {
        entries += 1;
        total += size;
        if size > VALUE_LIMIT {
            return Err(refused(&format!("a value in '{what}' has more than {VALUE_LIMIT} bytes"))
                .with(what, shown(name))
                .suggest("put it into a file that the process can read, and send the file's path"));
        }
    }
    let excess = |is: usize, most: usize, unit: &str| {
        refused(&format!("'{what}' has {is} {unit}, more than {most}"))
            .suggest("put the settings into a file that the process can read, and send the file's path")
    };
    if entries > ENTRIES_LIMIT {
        return Err(excess(entries, ENTRIES_LIMIT, "entries"));
    }
    if total > TOTAL_LIMIT { Err(excess(total, TOTAL_LIMIT, "bytes")) } else { Ok(()) }
}

/// No namespace, at a level that needs one.
pub fn missing_namespace(pattern: &PatternName) -> Error {
    Error::new(Code::MissingNamespace, "the level namespace needs a namespace").with("pattern_name", pattern).suggest(
        format!("name the tenant, as in: prismctl pattern launch {pattern} --namespace tenant-a --isolation namespace; or ask for --isolation none"),
    )
}

/// No session, at a level that needs one.
pub fn missing_session(pattern: &PatternName) -> Error {
    Error::new(Code::MissingSessionId, "the level session needs a session id").with("pattern_name", pattern).suggest(
        format!("name the session, as in: prismctl pattern launch {pattern} --namespace tenant-a --session user-123 --isolation session; or ask for --isolation namespace"),
    )
}

fn refused(message: &str) -> Error {
    Error::new(Code::InvalidInstance, message)
}

fn faulty(what: &str, name: &str, fault: Fault) -> Error {
    let error = refused(&fault.message).with(what, shown(name));
    match fault.suggestion {
        Some(suggestion) => error.suggest(suggestion),
        None => error.suggest(format!("rename or remove that entry of '{what}'")),
    }
}

fn shown(value: &str) -> String {
    Error::echo(value)
}

/// What somebody may have meant who wrote `name`: what no name may hold as `-`, and none of it at the edges.
fn likely(name: &str) -> String {
    let dashed: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect();
    dashed.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

#[cfg(test)]
mod tests;
