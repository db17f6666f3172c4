//! Brings an instance together with its manifest and the launcher's defaults.

use super::bindings::variable_part;
use super::fields::excess;
use super::instance_file::FIRST_LINE;
use super::spec::{Defaults, InstanceSpec};
use super::yaml::nearest;
use crate::error::{Code, Error, Result};
use crate::model::{
    Content, Instance, Isolation, IsolationLevel, Key, Limit, Manifest, Namespace, Origin, Resources, Secret, Slot,
    StartSpec, Supervision,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Resolves one wish of a file. Equal meaning gives equal content, whatever the file looks like.
pub fn resolve(spec: &InstanceSpec, manifest: &Manifest, defaults: &Defaults, origin: Origin) -> Result<Instance> {
    let case = Case { spec, manifest, place: Place::File(&origin) };
    let isolation = case.isolation(defaults.isolation)?;
    let content = case.content(defaults)?;
    let defaulted = case.defaulted(defaults);
    let pattern = manifest.name.clone();
    Ok(Instance { key: isolation.key(&pattern), pattern, isolation, content, origin, defaulted })
}

/// Resolves one wish of a request, as the launched file below `launch_dir` would declare it. Names that the level has
/// no use for are ignored.
pub fn resolve_request(
    spec: &InstanceSpec,
    manifest: &Manifest,
    defaults: &Defaults,
    launch_dir: &Path,
) -> Result<Instance> {
    let isolation = request_isolation(spec, manifest, defaults)?;
    let key = isolation.key(&manifest.name);
    let origin =
        Origin { root: launch_dir.to_path_buf(), file: launched_file(&key), line: FIRST_LINE, api_managed: true };
    let case = Case { spec, manifest, place: Place::Request };
    let (content, defaulted) = (case.content(defaults)?, case.defaulted(defaults));
    Ok(Instance { key, pattern: manifest.name.clone(), isolation, content, origin, defaulted })
}

/// Who would share the process of a request, without the rest of it.
pub fn request_isolation(spec: &InstanceSpec, manifest: &Manifest, defaults: &Defaults) -> Result<Isolation> {
    Case { spec, manifest, place: Place::Request }.isolation(defaults.isolation)
}

/// The wish of a request as its launched file says it: who shares the process is said in full, so that no later change
/// of a default makes another process of it.
pub fn explicit(spec: &InstanceSpec, isolation: &Isolation) -> InstanceSpec {
    InstanceSpec {
        isolation: Some(isolation.level()),
        namespace: isolation.namespace().cloned(),
        session: isolation.session().cloned(),
        line: FIRST_LINE,
        ..spec.clone()
    }
}

/// The file that declares a launched instance, relative to the launch directory.
pub fn launched_file(key: &Key) -> PathBuf {
    PathBuf::from(format!("{}.yaml", key.file_name()))
}

/// Where a wish was made, which decides how its errors read.
#[derive(Clone, Copy)]
enum Place<'a> {
    File(&'a Origin),
    Request,
}

struct Case<'a> {
    spec: &'a InstanceSpec,
    manifest: &'a Manifest,
    place: Place<'a>,
}

impl Case<'_> {
    /// An error that is `edit` to mend where a file made the wish, and by `ask` where a request did. `edit` is given the
    /// file.
    fn error(&self, code: Code, message: &str, edit: impl FnOnce(&str) -> String, ask: &str) -> Error {
        let name = &self.manifest.name;
        match self.place {
            Place::File(origin) => {
                let file = origin.path().display().to_string();
                let suggestion = edit(&file);
                Error::new(code, format!("{origin}: {message}"))
                    .with("file", file)
                    .with("line", origin.line)
                    .with("pattern_name", name)
                    .suggest(suggestion)
            }
            Place::Request => Error::new(code, message).with("pattern_name", name).suggest(ask),
        }
    }

    fn manifest_path(&self) -> String {
        self.manifest.revision.folder.join("manifest.yaml").display().to_string()
    }

    fn content(&self, defaults: &Defaults) -> Result<Content> {
        let (spec, manifest) = (self.spec, self.manifest);
        let mut config = spec.config.clone();
        self.bind_slots(&mut config)?;
        let launch = StartSpec { pattern: manifest.revision.clone(), config, credentials: spec.credentials.clone() };
        let supervision = Supervision {
            healthcheck: manifest.healthcheck.clone(),
            stop_signal: manifest.lifecycle.stop_signal,
            grace_period: spec.grace_period.unwrap_or(manifest.lifecycle.grace_period),
            restart: manifest.lifecycle.restart,
            resources: self.resources(&defaults.resources)?,
        };
        Ok(Content { launch: Arc::new(launch), supervision, state: spec.state, ttl: spec.ttl })
    }

    /// The level asked for, else the manifest's, else the launcher's.
    fn level(&self, default: IsolationLevel) -> Result<IsolationLevel> {
        let minimum = self.manifest.minimum_isolation;
        let level = match (self.spec.isolation, self.manifest.isolation_level) {
            (Some(asked), _) => asked,
            (None, Some(own)) => own,
            // A pattern that only says what is too little gets at least that.
            (None, None) => minimum.map_or(default, |minimum| minimum.max(default)),
        };
        match minimum {
            Some(minimum) if level < minimum => {
                let name = &self.manifest.name;
                let message =
                    format!("the level {level} is less than {minimum}, the least that pattern '{name}' allows");
                let edit = |file: &str| format!("write 'isolation: {minimum}' in {file}");
                let ask = format!("ask for more: --isolation {minimum}");
                Err(self
                    .error(Code::InvalidIsolationLevel, &message, edit, &ask)
                    .with("isolation", level)
                    .with("minimum_isolation", minimum))
            }
            _ => Ok(level),
        }
    }

    /// The level together with the names that it needs.
    fn isolation(&self, default: IsolationLevel) -> Result<Isolation> {
        let level = self.level(default)?;
        let in_file = matches!(self.place, Place::File(_));
        if in_file && level != IsolationLevel::Session && self.spec.session.is_some() {
            let message = format!("'session' belongs to level session, and the level is {level}");
            let edit = |file: &str| format!("remove 'session' from {file}, or add 'isolation: session'");
            return Err(self.error(Code::InvalidInstance, &message, edit, ""));
        }
        match (level, &self.spec.namespace, &self.spec.session) {
            (IsolationLevel::None, Some(_), _) if in_file => Err(self.error(
                Code::InvalidInstance,
                "an instance at level none is shared by everyone and has no namespace",
                |file| format!("remove the namespace from {file}, or add 'isolation: namespace'"),
                "",
            )),
            (IsolationLevel::None, ..) => Ok(Isolation::None),
            (IsolationLevel::Namespace, Some(namespace), _) => Ok(Isolation::Namespace(namespace.clone())),
            (IsolationLevel::Namespace, None, _) => Err(self.error(
                Code::MissingNamespace,
                "an instance at level namespace needs a namespace",
                |file| format!("add a line such as 'namespace: tenant-a' to {file}"),
                "name the tenant, as by --namespace tenant-a",
            )),
            (IsolationLevel::Session, namespace, Some(session)) => {
                let namespace = namespace.clone().unwrap_or_else(Namespace::default_namespace);
                Ok(Isolation::Session(namespace, session.clone()))
            }
            (IsolationLevel::Session, _, None) => Err(self.error(
                Code::MissingSessionId,
                "an instance at level session needs a session",
                |file| format!("add a line such as 'session: user-123' to {file}"),
                "name the session, as by --session user-123",
            )),
        }
    }

    /// Adds the variables of every bound slot.
    fn bind_slots(&self, config: &mut BTreeMap<String, Secret>) -> Result<()> {
        let declared = &self.manifest.slots;
        if let Some(unknown) = self.spec.slots.keys().find(|name| !declared.iter().any(|slot| slot.name == **name)) {
            return Err(self.unknown_slot(unknown));
        }
        for slot in declared {
            match self.spec.slots.get(&slot.name) {
                Some(binding) => self.bind(slot, binding, config)?,
                None if slot.required => {
                    let message = format!("the slot '{}' of pattern '{}' must be bound", slot.name, self.manifest.name);
                    let edit = |file: &str| format!("add 'slots: {{ {}: {{ url: … }} }}' to {file}", slot.name);
                    let ask = format!("bind it, as by --slot {}.url=URL", slot.name);
                    return Err(self.error(Code::InvalidInstance, &message, edit, &ask).with("slot", &slot.name));
                }
                None => {}
            }
        }
        Ok(())
    }

    fn unknown_slot(&self, written: &str) -> Error {
        let declared = &self.manifest.slots;
        let shown = Error::echo(written);
        let message = format!("pattern '{}' has no slot '{shown}'", self.manifest.name);
        let error = |edit: &dyn Fn(&str) -> String, ask: &str| {
            self.error(Code::InvalidInstance, &message, edit, ask).with("slot", &shown)
        };
        match nearest(written, declared.iter().map(|slot| slot.name.as_str())) {
            Some(meant) => error(
                &|file| format!("write '{meant}' in place of '{shown}' in {file}"),
                &format!("write '{meant}' in place of '{shown}'"),
            ),
            None => error(
                &|file| {
                    format!("remove '{shown}' from {file}, or add it to 'backend_slots' in {}", self.manifest_path())
                },
                &format!(
                    "leave '{shown}' out, or add it to 'backend_slots' in {}; prismctl manifests tells the slots",
                    self.manifest_path()
                ),
            ),
        }
    }

    fn bind(
        &self,
        slot: &Slot,
        binding: &BTreeMap<String, Secret>,
        config: &mut BTreeMap<String, Secret>,
    ) -> Result<()> {
        let prefix = format!("SLOT_{}", variable_part(&slot.name));
        let kind = slot.kind.as_ref().map(|kind| ("type", Secret::new(kind.as_str())));
        let own = binding.iter().map(|(key, value)| (key.as_str(), value.clone()));
        for (key, value) in kind.into_iter().chain(own) {
            let variable = format!("{prefix}_{}", variable_part(key));
            match config.get(&variable) {
                Some(other) if *other != value => {
                    let message = format!("two different values are given for {variable}");
                    let slot = &slot.name;
                    let edit =
                        |file: &str| format!("remove one of them from {file}; '{key}' of the slot '{slot}' is one");
                    let ask = format!("leave out one of them; '{key}' of the slot '{slot}' is one");
                    return Err(self.error(Code::InvalidInstance, &message, edit, &ask).with("slot", slot));
                }
                Some(_) => {}
                None => {
                    config.insert(variable, value);
                }
            }
        }
        Ok(())
    }

    /// Which limits nobody wrote: neither file nor manifest names them, and the launcher's configuration does not either.
    fn defaulted(&self, defaults: &Defaults) -> Vec<Limit> {
        let written = self.manifest.resources.overridden_by(&self.spec.resources);
        defaults.unwritten.iter().copied().filter(|limit| limit.of(&written).is_none()).collect()
    }

    /// The instance's, else the manifest's, else the launcher's. A limit that is only a default gives way to a request
    /// that a person wrote.
    fn resources(&self, defaults: &Resources) -> Result<Resources> {
        let written = self.manifest.resources.overridden_by(&self.spec.resources);
        if let Some((request, limit)) = excess(&written) {
            let message = format!("'{request}' is more than '{limit}' once the manifest's resources are overridden");
            let edit = |file: &str| format!("set both in 'resources' of {file}");
            let ask = format!("lower '{request}' in {}", self.manifest_path());
            return Err(self.error(Code::InvalidInstance, &message, edit, &ask));
        }
        let all = defaults.overridden_by(&written);
        let mut resources = all.clone();
        resources.cpu_limit_millis = all.cpu_limit_millis.max(all.cpu_limit_millis.and(written.cpu_request_millis));
        resources.memory_limit = all.memory_limit.max(all.memory_limit.and(written.memory_request));
        // And the other way round: a default request gives way to a limit that a person wrote.
        if let Some(limit) = resources.cpu_limit_millis {
            resources.cpu_request_millis = resources.cpu_request_millis.map(|request| request.min(limit));
        }
        if let Some(limit) = resources.memory_limit {
            resources.memory_request = resources.memory_request.map(|request| request.min(limit));
        }
        Ok(resources)
    }
}

#[cfg(test)]
mod tests;
