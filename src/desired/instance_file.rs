//! Reads a file of instances: every document checked by itself, not yet against its manifest.

mod write;

pub use write::{FIRST_LINE, write_instances};

use super::bindings::{self, check_slot_name};
use super::fields::{DAY, Fields, SHORTEST};
use super::format::RawInstance;
use super::manifest::LEVELS;
use super::schema;
use super::spec::InstanceSpec;
use super::yaml::{self, Kind, Node, Settings, Source};
use crate::error::{Code, Result};
use crate::model::{DesiredState, IsolationLevel, Namespace, PatternName, Secret, SessionId};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Who wrote a file, which decides whether its instances may have a `ttl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Author {
    /// A person: `ttl` is an error.
    Person,
    /// The launcher, into its launch directory.
    Launcher,
}

/// The longest `ttl`.
pub(crate) const TTL_LIMIT: Duration = Duration::from_secs(366 * DAY.as_secs());
const STATES: [(&str, DesiredState); 2] = [("running", DesiredState::Running), ("stopped", DesiredState::Stopped)];

/// Reads a file of instances, in the order of the file. One bad document makes the whole file an error. `path` is
/// named in errors.
pub fn parse_instances(path: &Path, bytes: &[u8], author: Author) -> Result<Vec<InstanceSpec>> {
    let kind = Kind { code: Code::InvalidInstance, schema: schema::instance(), secret: &["config", "slots"] };
    let source = Source::new(path, bytes, kind)?;
    let mut specs = Vec::new();
    for document in yaml::read::<RawInstance>(&source)? {
        let fields = Fields { source: &source, root: &document.root };
        Reader { fields, author }.instance(document.raw, &mut specs)?;
    }
    Ok(specs)
}

struct Reader<'a> {
    fields: Fields<'a>,
    author: Author,
}

impl Reader<'_> {
    /// Adds one spec, or one for each of `namespaces`.
    fn instance(&self, raw: RawInstance, specs: &mut Vec<InstanceSpec>) -> Result<()> {
        let fields = self.fields;
        let root: &Node = fields.root;
        let pattern = fields.required(&["pattern"], raw.pattern.as_ref(), "hello")?;
        let pattern = PatternName::new(&pattern).map_err(|reason| fields.error(&["pattern"], &reason))?;
        let tenants = self.tenants(&raw)?;
        let isolation = self.isolation(&raw)?;
        let session = raw
            .session
            .as_ref()
            .map(|id| SessionId::new(id.as_str()).map_err(|reason| fields.error(&["session"], &reason)));
        let spec = InstanceSpec {
            pattern,
            isolation,
            namespace: None,
            session: session.transpose()?,
            config: self.config(raw.config)?,
            slots: self.slots(raw.slots.unwrap_or_default())?,
            credentials: self.credentials(raw.credentials.unwrap_or_default())?,
            resources: fields.resources(raw.resources.as_ref())?,
            grace_period: fields.duration(&["grace_period"], raw.grace_period.as_ref(), Duration::ZERO..=DAY)?,
            state: fields.choice(&["state"], raw.state.as_ref(), &STATES)?.unwrap_or(DesiredState::Running),
            ttl: self.ttl(raw.ttl.as_ref())?,
            line: root.place().line,
        };
        specs.extend(tenants.into_iter().map(|(namespace, line)| InstanceSpec { namespace, line, ..spec.clone() }));
        Ok(())
    }

    /// The namespaces of a document, each with its line.
    fn tenants(&self, raw: &RawInstance) -> Result<Vec<(Option<Namespace>, u32)>> {
        let fields = self.fields;
        let parse = |path: &[&str], text: &str| Namespace::new(text).map_err(|reason| fields.error(path, &reason));
        let Some(list) = &raw.namespaces else {
            let namespace = raw.namespace.as_ref().map(|name| parse(&["namespace"], name.as_str())).transpose()?;
            return Ok(vec![(namespace, fields.root.place().line)]);
        };
        if raw.namespace.is_some() {
            let error = fields.key_error(&["namespaces"], "'namespace' and 'namespaces' are both given");
            return Err(error.suggest("move the one namespace into the list 'namespaces'"));
        }
        if list.is_empty() {
            let error = fields.key_error(&["namespaces"], "'namespaces' is an empty list");
            return Err(error.suggest("name at least one namespace, or remove the document"));
        }
        let mut seen = BTreeSet::new();
        let mut tenants = Vec::with_capacity(list.len());
        for (i, written) in list.iter().enumerate() {
            let number = i.to_string();
            let path = ["namespaces", number.as_str()];
            let namespace = parse(&path, written.as_str())?;
            if !seen.insert(namespace.clone()) {
                let message = format!("the namespace '{namespace}' is given twice");
                return Err(fields.error(&path, &message).suggest(format!("remove one of the two '{namespace}'")));
            }
            tenants.push((Some(namespace), fields.root.place_of(&path).line));
        }
        Ok(tenants)
    }

    /// The level asked for, checked against what it needs as far as the document tells.
    fn isolation(&self, raw: &RawInstance) -> Result<Option<IsolationLevel>> {
        let fields = self.fields;
        let coded = |code| self.fields.source.with_code(code);
        let levels = Fields { source: &coded(Code::InvalidIsolationLevel), ..fields };
        let Some(level) = levels.choice(&["isolation"], raw.isolation.as_ref(), &LEVELS)? else { return Ok(None) };
        let key = if raw.namespaces.is_some() { "namespaces" } else { "namespace" };
        let has_namespace = raw.namespace.is_some() || raw.namespaces.is_some();
        if level == IsolationLevel::None && has_namespace {
            let message = format!("an instance at level none is shared by everyone and has no '{key}'");
            return Err(fields
                .key_error(&[key], &message)
                .suggest(format!("remove '{key}', or write 'isolation: namespace'")));
        }
        if level == IsolationLevel::Namespace && !has_namespace {
            let missing = Fields { source: &coded(Code::MissingNamespace), ..fields };
            return Err(missing
                .key_error(&["isolation"], "an instance at level namespace needs a 'namespace'")
                .suggest("add a line such as 'namespace: tenant-a'"));
        }
        if level == IsolationLevel::Session && raw.session.is_none() {
            let missing = Fields { source: &coded(Code::MissingSessionId), ..fields };
            return Err(missing
                .key_error(&["isolation"], "an instance at level session needs a 'session'")
                .suggest("add a line such as 'session: user-123'"));
        }
        if level != IsolationLevel::Session && raw.session.is_some() {
            let message = format!("'session' belongs to level session, and the level is {level}");
            return Err(fields
                .key_error(&["session"], &message)
                .suggest("remove 'session', or write 'isolation: session'"));
        }
        Ok(Some(level))
    }

    fn config(&self, config: Option<Settings>) -> Result<BTreeMap<String, Secret>> {
        let config = self.fields.variables("config", config)?;
        for name in config.keys() {
            bindings::check_config(name).map_err(|fault| self.fields.fault(&["config", name], fault))?;
        }
        Ok(config)
    }

    fn slots(&self, raws: BTreeMap<String, Settings>) -> Result<BTreeMap<String, BTreeMap<String, Secret>>> {
        let fields = self.fields;
        for (slot, settings) in &raws {
            check_slot_name(slot).map_err(|reason| fields.key_error(&["slots", slot], &reason))?;
            bindings::check_keys(slot, settings.0.keys().map(String::as_str))
                .map_err(|(key, fault)| fields.fault(&["slots", slot, key], fault))?;
            for (key, value) in &settings.0 {
                fields.value(&["slots", slot, key], value)?;
            }
        }
        Ok(raws.into_iter().map(|(slot, settings)| (slot, settings.0)).collect())
    }

    fn credentials(&self, raws: BTreeMap<String, yaml::Written>) -> Result<BTreeMap<String, PathBuf>> {
        let fields = self.fields;
        if raws.len() > bindings::CREDENTIALS_LIMIT {
            let message = format!("'credentials' names more than {} files", bindings::CREDENTIALS_LIMIT);
            return Err(fields.key_error(&["credentials"], &message).suggest("put several values into one file"));
        }
        let check = |(name, written): (String, yaml::Written)| {
            bindings::check_credential_name(&name)
                .map_err(|reason| fields.key_error(&["credentials", &name], &reason))?;
            let path = bindings::credential_path(&name, written.as_str())
                .map_err(|fault| fields.fault(&["credentials", &name], fault))?;
            Ok((name, path))
        };
        raws.into_iter().map(check).collect()
    }

    fn ttl(&self, raw: Option<&yaml::Written>) -> Result<Option<Duration>> {
        match (raw, self.author) {
            (Some(_), Author::Person) => Err(self
                .fields
                .key_error(&["ttl"], "'ttl' is for launched instances, and this file is a person's")
                .suggest("remove 'ttl'; the instance ends when this file is deleted")),
            (ttl, Author::Launcher | Author::Person) => self.fields.duration(&["ttl"], ttl, SHORTEST..=TTL_LIMIT),
        }
    }
}

#[cfg(test)]
mod tests;
