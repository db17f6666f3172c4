//! The patterns as they are now, for anyone to read: a snapshot that does not change.

use super::{Lookup, Paths, Problem, Registry, not_found};
use crate::desired::resolve;
use crate::desired::spec::{Defaults, InstanceSpec};
use crate::error::{Error, Result};
use crate::model::{Instance, Key, Manifest, PatternName};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

/// A snapshot of the patterns, and what launch requests are resolved against.
#[derive(Debug, Clone)]
pub struct PatternBook {
    paths: Paths,
    answers: BTreeMap<PatternName, Lookup>,
    /// Patterns that have just been seen and not yet been read.
    appearing: BTreeSet<String>,
    problems: Vec<Problem>,
    unreadable: Option<Error>,
    defaults: Defaults,
    /// Where launched instances are declared.
    launch_dir: PathBuf,
}

impl PatternBook {
    pub(in crate::desired) fn of(registry: &Registry, defaults: Defaults, launch_dir: PathBuf) -> Self {
        let answers = registry.answers();
        let known = registry.patterns.iter().filter(|(_, pattern)| pattern.is_known()).map(|(name, _)| name);
        let appearing = known.filter(|name| !answers.keys().any(|known| known.as_str() == name.as_str())).cloned();
        Self {
            paths: registry.paths.clone(),
            appearing: appearing.collect(),
            answers,
            problems: registry.problems.clone(),
            unreadable: registry.unreadable.clone(),
            defaults,
            launch_dir,
        }
    }

    /// What is known of a pattern.
    pub fn lookup(&self, name: &PatternName) -> Lookup {
        self.answers.get(name).cloned().unwrap_or_else(|| Lookup::Unknown(self.not_found(name)))
    }

    /// The patterns that can be used, by name.
    pub fn manifests(&self) -> impl Iterator<Item = &Arc<Manifest>> {
        self.answers.values().filter_map(|answer| match answer {
            Lookup::Found(manifest) | Lookup::LastGood(manifest, _) => Some(manifest),
            Lookup::Invalid(_) | Lookup::Gone(_) | Lookup::Unknown(_) => None,
        })
    }

    /// Everything that is wrong: the patterns directory, then folders with wrong names, then patterns.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// What a launch request asks for, as it would be declared. A pattern that has only just been dropped may not be
    /// known here: a launch looks again before it says so.
    ///
    /// # Errors
    /// `PATTERN_NOT_FOUND`, `INVALID_MANIFEST`, `INVALID_ISOLATION_LEVEL`, `MISSING_NAMESPACE`, `MISSING_SESSION_ID`
    /// and `INVALID_INSTANCE`.
    pub fn resolve_request(&self, spec: &InstanceSpec) -> Result<Instance> {
        resolve::resolve_request(spec, self.usable(&spec.pattern)?, &self.defaults, &self.launch_dir)
    }

    /// The process id that a launch request asks for. Costs less than the whole of it, and so does not find all that may
    /// be wrong.
    ///
    /// # Errors
    /// As [`PatternBook::resolve_request`].
    pub fn key(&self, spec: &InstanceSpec) -> Result<Key> {
        let manifest = self.usable(&spec.pattern)?;
        Ok(resolve::request_isolation(spec, manifest, &self.defaults)?.key(&manifest.name))
    }

    fn usable(&self, name: &PatternName) -> Result<&Arc<Manifest>> {
        match self.answers.get(name) {
            Some(Lookup::Found(manifest) | Lookup::LastGood(manifest, _)) => Ok(manifest),
            Some(Lookup::Invalid(error) | Lookup::Gone(error) | Lookup::Unknown(error)) => Err(error.clone()),
            None => Err(self.not_found(name)),
        }
    }

    fn not_found(&self, name: &PatternName) -> Error {
        let known = self.manifests().map(|manifest| manifest.name.as_str());
        let appearing = self.appearing.contains(name.as_str());
        not_found(name, &self.paths.dir, self.unreadable.as_ref(), appearing, known)
    }
}
