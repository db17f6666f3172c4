//! What a request comes to, given what is declared and what the files say.

use super::files::Deed;
use super::pass::{Book, Pass};
use super::refusals::{being_edited, declared_by_file, deleted, unwritten};
use super::request::{Answer, Edit, Launch, Update, What, Write};
use super::writing::Batch;
use crate::desired::instance_file::{Author, parse_instances, write_instances};
use crate::desired::resolve::{explicit, launched_file};
use crate::desired::scan;
use crate::desired::set::{Patterns as _, Standing};
use crate::desired::sight::Sight;
use crate::desired::spec::InstanceSpec;
use crate::error::{Code, Error, Result};
use crate::model::{Caller, Instance, Isolation, IsolationLevel, Key, Namespace, Origin};
use crate::observed::ask::not_declared;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What becomes of a request next.
pub(super) enum Step {
    /// It is answered, if anybody waits.
    Answer(Option<Answer>),
    /// Something is written about the same key; this comes after it.
    Later(Write),
    /// The files are not as they are known to be.
    Look(Write),
    /// This is to be written.
    Do(Plan),
}

/// What is to be written for a request.
pub(super) struct Plan {
    pub(super) key: Key,
    pub(super) deeds: Vec<Deed>,
    pub(super) write: Write,
}

/// What a request comes to.
enum Decision {
    /// Nothing has to be written: this stands.
    Stands(Arc<Instance>),
    /// This stands, and it is not what was expected.
    Moved(Arc<Instance>),
    Wait,
    Look,
    Write(Key, Vec<Deed>),
}

/// What a launched file says when something is to be written about it.
enum Text {
    /// It is not there.
    Gone,
    /// It is not what it is known to be.
    Unknown,
    /// It cannot be used.
    Wrong(Error),
    /// Its documents, each with its key where that can be told.
    Says(Vec<(InstanceSpec, Option<Key>)>),
}

/// The launch directory, or why nothing can be written there.
pub(super) type LaunchDir<'a> = Result<&'a PathBuf, &'a Error>;

impl Pass {
    /// Decides what becomes of a request.
    pub(super) fn plan(&mut self, write: Write, batch: &mut Batch, launch_dir: LaunchDir<'_>) -> Step {
        let decision = match &write.what {
            What::Launch { launch, .. } => self.decide_launch(launch, batch, launch_dir),
            What::Remove { key, .. } if batch.is_busy(key) => Ok(Decision::Wait),
            What::Remove { key, by, .. } => self.decide_removal(key, by, write.looked, launch_dir),
            What::Update { update, .. } if batch.is_busy(&update.key) => Ok(Decision::Wait),
            What::Update { update, .. } => self.decide_update(update, write.looked, launch_dir),
        };
        match decision {
            Ok(Decision::Stands(instance)) => Step::Answer(write.what.stands(instance)),
            Ok(Decision::Moved(instance)) => Step::Answer(write.what.moved(instance)),
            Ok(Decision::Wait) => Step::Later(write),
            Ok(Decision::Look) => Step::Look(write),
            Ok(Decision::Write(key, deeds)) => Step::Do(Plan { key, deeds, write }),
            Err(error) => Step::Answer(write.what.refuse(error)),
        }
    }

    fn decide_launch(&mut self, launch: &Launch, batch: &mut Batch, launch_dir: LaunchDir<'_>) -> Result<Decision> {
        let wished = self.resolve_launch(&launch.spec, batch)?;
        let key = wished.key;
        if batch.is_busy(&key) {
            return Ok(Decision::Wait);
        }
        match self.desired.standing(&key) {
            Standing::ByFile(instance) => return Ok(Decision::Stands(instance)),
            Standing::Launched { instance, present } => {
                // Where nothing can be written, nothing can be said of what is there either.
                if launch_dir.is_err() || (present && is_there(&instance.origin.path())) {
                    return Ok(Decision::Stands(instance));
                }
            }
            Standing::Undeclared => {}
        }
        launch_dir.map_err(Error::clone)?;
        let spec = explicit(&launch.spec, &wished.isolation);
        let remark = format!("Launched on request by {}. Deleting this file ends its process.", launch.by);
        let bytes = render(&[spec], &remark)?;
        Ok(Decision::Write(key.clone(), vec![Deed::Create { file: launched_file(&key), bytes }]))
    }

    /// Resolves a launch; a pattern that is not known may have been dropped a moment ago.
    fn resolve_launch(&mut self, spec: &InstanceSpec, batch: &mut Batch) -> Result<Instance> {
        let resolved = self.published.load().resolve_request(spec);
        match resolved {
            Err(error) if error.code() == Code::PatternNotFound && !batch.refreshed => {
                batch.refreshed = true;
                self.refresh_patterns((self.clock)());
                self.publish_patterns();
                self.published.load().resolve_request(spec)
            }
            resolved => resolved,
        }
    }

    fn decide_removal(&self, key: &Key, by: &Caller, looked: bool, launch_dir: LaunchDir<'_>) -> Result<Decision> {
        self.launched(key)?;
        let folder = launch_dir.map_err(Error::clone)?;
        let mut deeds = Vec::new();
        for file in self.desired.files_declaring(folder, key) {
            let only_this = || self.desired.keys_of(folder, &file) == BTreeSet::from([key.clone()]);
            match self.read(folder, &file, looked) {
                Text::Gone => {}
                Text::Unknown => return Ok(Decision::Look),
                Text::Wrong(_) if only_this() => deeds.push(Deed::Remove { file }),
                Text::Wrong(error) => return Err(being_edited(&folder.join(file), key, &error)),
                Text::Says(documents) if documents.iter().any(|(_, told)| told.is_none()) && !only_this() => {
                    let unclear = Error::new(Code::InvalidInstance, "one of its documents cannot be resolved");
                    return Err(being_edited(&folder.join(file), key, &unclear));
                }
                Text::Says(documents) => {
                    let declared = documents.len();
                    let is_other = |told: &Option<Key>| told.as_ref().is_some_and(|told| told != key);
                    let rest: Vec<InstanceSpec> =
                        documents.into_iter().filter(|(_, told)| is_other(told)).map(|(spec, _)| spec).collect();
                    if rest.is_empty() {
                        deeds.push(Deed::Remove { file });
                    } else if rest.len() < declared {
                        let remark = format!("Rewritten when {by} ended another instance of this file.");
                        deeds.push(Deed::Replace { file, bytes: render(&rest, &remark)? });
                    }
                }
            }
        }
        Ok(Decision::Write(key.clone(), deeds))
    }

    fn decide_update(&self, update: &Update, looked: bool, launch_dir: LaunchDir<'_>) -> Result<Decision> {
        let Update { key, edit, expected, by } = update;
        let instance = self.launched(key)?;
        if expected.as_ref().is_some_and(|expected| expected.content != instance.content) {
            return Ok(Decision::Moved(instance));
        }
        let folder = launch_dir.map_err(Error::clone)?;
        let file = instance.origin.file.clone();
        let path = folder.join(&file);
        let mut documents = match self.read(folder, &file, looked) {
            Text::Unknown => return Ok(Decision::Look),
            Text::Gone if !looked => return Ok(Decision::Look),
            Text::Gone => return Err(deleted(&path, key)),
            Text::Wrong(error) => return Err(being_edited(&path, key, &error)),
            Text::Says(documents) => documents,
        };
        let Some((spec, _)) = documents.iter_mut().find(|(_, told)| told.as_ref() == Some(key)) else {
            let other = Error::new(Code::InvalidInstance, "it declares something else now");
            return Err(being_edited(&path, key, &other));
        };
        let edited = edit.apply(spec);
        if edited == *spec {
            return Ok(Decision::Stands(instance));
        }
        self.published.load().resolve_request(&edited)?;
        *spec = edited;
        let specs: Vec<InstanceSpec> = documents.into_iter().map(|(spec, _)| spec).collect();
        let remark = format!("Changed on request by {by}. Deleting this file ends its process.");
        let bytes = render(&specs, &remark)?;
        Ok(Decision::Write(key.clone(), vec![Deed::Replace { file, bytes }]))
    }

    /// What a launched file says of a key.
    fn launched(&self, key: &Key) -> Result<Arc<Instance>> {
        match self.desired.said(key) {
            None => Err(not_declared(key, self.desired.instances().map(|instance| &instance.key))),
            Some(instance) if !instance.origin.api_managed => Err(declared_by_file(instance)),
            Some(instance) => Ok(Arc::clone(instance)),
        }
    }

    fn read(&self, folder: &Path, file: &Path, looked: bool) -> Text {
        let path = folder.join(file);
        let Some(sight) = scan::look_at(folder, file) else { return Text::Gone };
        if !looked && self.desired.accepted(folder, file) != Some(sight.fingerprint()) {
            return Text::Unknown;
        }
        let parsed = match &sight {
            Sight::Content { bytes, .. } => parse_instances(&path, bytes, Author::Launcher),
            Sight::Trouble(error) => Err(error.clone()),
        };
        match parsed {
            Ok(specs) => {
                Text::Says(specs.into_iter().map(|spec| (spec.clone(), self.key_of(&spec, folder, file))).collect())
            }
            Err(error) => Text::Wrong(error),
        }
    }

    /// The key that a document of a launched file declares: it says so itself, unless a person has rewritten it.
    fn key_of(&self, spec: &InstanceSpec, folder: &Path, file: &Path) -> Option<Key> {
        let isolation = match (spec.isolation, &spec.namespace, &spec.session) {
            (Some(IsolationLevel::None), None, _) => Isolation::None,
            (Some(IsolationLevel::Namespace), Some(namespace), _) => Isolation::Namespace(namespace.clone()),
            (Some(IsolationLevel::Session), namespace, Some(session)) => {
                let namespace = namespace.clone().unwrap_or_else(Namespace::default_namespace);
                Isolation::Session(namespace, session.clone())
            }
            _ => {
                let book = Book { registry: &self.registry, defaults: &self.settings.defaults };
                let origin =
                    Origin { root: folder.to_path_buf(), file: file.to_path_buf(), line: spec.line, api_managed: true };
                return book.resolve(spec, origin).ok().map(|(instance, _)| instance.key);
            }
        };
        Some(isolation.key(&spec.pattern))
    }
}

impl Edit {
    fn apply(&self, spec: &InstanceSpec) -> InstanceSpec {
        let mut edited = spec.clone();
        if let Some(config) = &self.config {
            edited.config.clone_from(config);
        }
        if let Some(slots) = &self.slots {
            edited.slots.clone_from(slots);
        }
        edited.grace_period = self.grace_period.or(spec.grace_period);
        edited
    }
}

fn is_there(path: &Path) -> bool {
    // What cannot be looked at may be there.
    !path.symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

/// The text of a launched file, which is certain to be read as it was meant.
pub(super) fn render(specs: &[InstanceSpec], remark: &str) -> Result<Vec<u8>> {
    let text = write_instances(specs, remark);
    let read = parse_instances(Path::new("the launched file"), text.as_bytes(), Author::Launcher);
    let unplaced = |spec: &InstanceSpec| InstanceSpec { line: 0, ..spec.clone() };
    match read {
        Ok(read) if read.iter().map(unplaced).eq(specs.iter().map(unplaced)) => Ok(text.into_bytes()),
        Ok(_) => Err(unwritten(None)),
        Err(error) => Err(unwritten(Some(&error))),
    }
}
