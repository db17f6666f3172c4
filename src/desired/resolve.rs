//! Brings an instance together with its manifest and the launcher's defaults.

use super::bindings::variable_part;
use super::fields::excess;
use super::spec::{Defaults, InstanceSpec};
use super::yaml::nearest;
use crate::error::{Code, Error, Result};
use crate::model::{
    Content, Instance, Isolation, IsolationLevel, Manifest, Namespace, Origin, Resources, Secret, Slot, StartSpec,
    Supervision,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Resolves one wish. Equal meaning gives equal content, whatever the file looks like.
pub fn resolve(spec: &InstanceSpec, manifest: &Manifest, defaults: &Defaults, origin: Origin) -> Result<Instance> {
    let case = Case { spec, manifest, origin: &origin };
    let isolation = case.isolation(defaults.isolation)?;
    let mut config = spec.config.clone();
    case.bind_slots(&mut config)?;
    let launch = StartSpec { pattern: manifest.revision.clone(), config };
    let supervision = Supervision {
        healthcheck: manifest.healthcheck.clone(),
        stop_signal: manifest.lifecycle.stop_signal,
        grace_period: spec.grace_period.unwrap_or(manifest.lifecycle.grace_period),
        restart: manifest.lifecycle.restart,
        resources: case.resources(&defaults.resources)?,
    };
    Ok(Instance {
        key: isolation.key(&manifest.name),
        pattern: manifest.name.clone(),
        isolation,
        content: Content { launch: Arc::new(launch), supervision, state: spec.state, ttl: spec.ttl },
        origin,
    })
}

struct Case<'a> {
    spec: &'a InstanceSpec,
    manifest: &'a Manifest,
    origin: &'a Origin,
}

impl Case<'_> {
    fn error(&self, code: Code, message: &str) -> Error {
        Error::new(code, format!("{}: {message}", self.origin))
            .with("file", self.origin.path().display())
            .with("line", self.origin.line)
            .with("pattern_name", &self.manifest.name)
    }

    fn manifest_path(&self) -> String {
        self.manifest.revision.folder.join("manifest.yaml").display().to_string()
    }

    /// The level asked for, else the manifest's, else the launcher's; together with the names that it needs.
    fn isolation(&self, default: IsolationLevel) -> Result<Isolation> {
        let minimum = self.manifest.minimum_isolation;
        let level = match (self.spec.isolation, self.manifest.isolation_level) {
            (Some(asked), _) => asked,
            (None, Some(own)) => own,
            // A pattern that only says what is too little gets at least that.
            (None, None) => minimum.map_or(default, |minimum| minimum.max(default)),
        };
        if let Some(minimum) = minimum
            && level < minimum
        {
            let name = &self.manifest.name;
            let message = format!("the level {level} is less than {minimum}, the least that pattern '{name}' allows");
            return Err(self
                .error(Code::InvalidIsolationLevel, &message)
                .with("isolation", level)
                .with("minimum_isolation", minimum)
                .suggest(format!("write 'isolation: {minimum}' in {}", self.origin.path().display())));
        }
        let file = self.origin.path();
        let file = file.display();
        if level != IsolationLevel::Session && self.spec.session.is_some() {
            let message = format!("'session' belongs to level session, and the level is {level}");
            let error = self.error(Code::InvalidInstance, &message);
            return Err(error.suggest(format!("remove 'session' from {file}, or add 'isolation: session'")));
        }
        match (level, &self.spec.namespace, &self.spec.session) {
            (IsolationLevel::None, None, _) => Ok(Isolation::None),
            (IsolationLevel::None, Some(_), _) => Err(self
                .error(Code::InvalidInstance, "an instance at level none is shared by everyone and has no namespace")
                .suggest(format!("remove the namespace from {file}, or add 'isolation: namespace'"))),
            (IsolationLevel::Namespace, Some(namespace), _) => Ok(Isolation::Namespace(namespace.clone())),
            (IsolationLevel::Namespace, None, _) => Err(self
                .error(Code::MissingNamespace, "an instance at level namespace needs a namespace")
                .suggest(format!("add a line such as 'namespace: tenant-a' to {file}"))),
            (IsolationLevel::Session, namespace, Some(session)) => {
                let namespace = namespace.clone().unwrap_or_else(Namespace::default_namespace);
                Ok(Isolation::Session(namespace, session.clone()))
            }
            (IsolationLevel::Session, _, None) => Err(self
                .error(Code::MissingSessionId, "an instance at level session needs a session")
                .suggest(format!("add a line such as 'session: user-123' to {file}"))),
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
                    return Err(self.error(Code::InvalidInstance, &message).with("slot", &slot.name).suggest(format!(
                        "add 'slots: {{ {}: {{ url: … }} }}' to {}",
                        slot.name,
                        self.origin.path().display()
                    )));
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
        let error = self.error(Code::InvalidInstance, &message).with("slot", &shown);
        let file = self.origin.path();
        match nearest(written, declared.iter().map(|slot| slot.name.as_str())) {
            Some(meant) => error.suggest(format!("write '{meant}' in place of '{shown}' in {}", file.display())),
            None => error.suggest(format!(
                "remove '{shown}' from {}, or add it to 'backend_slots' in {}",
                file.display(),
                self.manifest_path()
            )),
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
                    return Err(self.error(Code::InvalidInstance, &message).with("slot", &slot.name).suggest(format!(
                        "remove one of them from {}; '{key}' of the slot '{}' is one",
                        self.origin.path().display(),
                        slot.name
                    )));
                }
                Some(_) => {}
                None => {
                    config.insert(variable, value);
                }
            }
        }
        Ok(())
    }

    /// The instance's, else the manifest's, else the launcher's. A limit that is only a default gives way to a request
    /// that a person wrote.
    fn resources(&self, defaults: &Resources) -> Result<Resources> {
        let written = self.manifest.resources.overridden_by(&self.spec.resources);
        if let Some((request, limit)) = excess(&written) {
            let message = format!("'{request}' is more than '{limit}' once the manifest's resources are overridden");
            return Err(self
                .error(Code::InvalidInstance, &message)
                .suggest(format!("set both in 'resources' of {}", self.origin.path().display())));
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
