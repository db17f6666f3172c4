//! What the launcher itself writes and removes in the launch directory counts at once, without a scan.

use super::file::{Context, FileState};
use super::{Desired, FileId, Patterns, Root};
use crate::desired::guard::Change;
use crate::desired::owner::Presence;
use crate::desired::sight::{Emptiness, Fingerprint};
use crate::model::{Instance, Key, Moment};
use crate::observed::event::DesiredChange;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How a key stands when somebody asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nothing that is there, or may be there still, declares it.
    Undeclared,
    /// A person's file declares it.
    ByFile(Arc<Instance>),
    /// A launched file declares it.
    Launched {
        /// What it says.
        instance: Arc<Instance>,
        /// Whether a complete scan, or the writing of it, found the file there last.
        present: bool,
    },
}

impl Desired {
    /// What is said of a key.
    pub fn said(&self, key: &Key) -> Option<&Arc<Instance>> {
        self.keys.get(key).and_then(|state| state.said.as_ref())
    }

    /// How a key stands.
    pub fn standing(&self, key: &Key) -> Standing {
        let Some(instance) = self.said(key).cloned() else { return Standing::Undeclared };
        if instance.origin.api_managed {
            let present = self.presence(&instance) == Some(Presence::Live);
            Standing::Launched { instance, present }
        } else if self.going.contains(key) {
            Standing::Undeclared
        } else {
            Standing::ByFile(instance)
        }
    }

    fn presence(&self, instance: &Instance) -> Option<Presence> {
        let id = FileId { root: instance.origin.root.as_path().into(), file: instance.origin.file.clone() };
        let file = self.files.get(&id)?;
        file.entries.iter().find(|entry| entry.instance.key == instance.key).map(|entry| file.presence(entry))
    }

    /// The files of a root that declare a key, or did, by path relative to it.
    pub fn files_declaring(&self, root: &Path, key: &Key) -> Vec<PathBuf> {
        let claims = self.keys.get(key).into_iter().flat_map(|state| &state.claims);
        claims.filter(|id| &*id.root == root).map(|id| id.file.clone()).collect()
    }

    /// The keys that a file is known to declare.
    pub fn keys_of(&self, root: &Path, file: &Path) -> BTreeSet<Key> {
        let entries = self.file(root, file).into_iter().flat_map(|file| &file.entries);
        entries.map(|entry| entry.instance.key.clone()).collect()
    }

    /// What tells the content of a file that counts from another.
    pub fn accepted(&self, root: &Path, file: &Path) -> Option<Fingerprint> {
        self.file(root, file).and_then(|file| file.settle.accepted())
    }

    fn file(&self, root: &Path, file: &Path) -> Option<&FileState> {
        self.files.get(&FileId { root: root.into(), file: file.to_path_buf() })
    }

    /// Whether a root is empty, is not the folder that it was, and is still said to declare something: a file that is
    /// written there now may be beneath a file system that is not mounted.
    pub fn is_suspicious(&self, root: &Path) -> bool {
        let suspicious = |root: &Root| root.emptiness == Emptiness::Suspicious;
        self.roots.iter().find(|known| known.spec.path == root).is_some_and(suspicious)
            && self.counts.get(root).is_some_and(|count| *count > 0)
    }

    /// What confirms that what is held of a root may end, while something is.
    pub fn held_token(&self, root: &Path) -> Option<&str> {
        self.guards.get(root)?.held().map(|held| held.token.as_str())
    }

    /// The launcher has written a file: it is there, and nobody is writing it.
    pub fn written(&mut self, root: &Path, file: &Path, bytes: &[u8], patterns: &dyn Patterns) {
        let id = FileId { root: self.intern(root), file: file.to_path_buf() };
        self.files.entry(id.clone()).or_default();
        self.change_file(&id, |file, root| {
            file.written(bytes, Context { root, id: &id, patterns });
            true
        });
    }

    /// The launcher has removed a file.
    pub fn removed(&mut self, root: &Path, file: &Path) {
        let id = FileId { root: self.intern(root), file: file.to_path_buf() };
        self.change_file(&id, |file, _| {
            file.removed();
            true
        });
    }

    /// What launched files said of a key is withdrawn at once: by request, so that no rule about absence holds it and no
    /// guard counts it. A person's file that claims the key comes into its own.
    pub fn withdraw_launched(&mut self, key: &Key, change: &mut DesiredChange, now: Moment) {
        let Some(state) = self.keys.get(key) else { return };
        let said = state.said.clone();
        let is_launched = |id: &&FileId| {
            let entries = self.files.get(*id).into_iter().flat_map(|file| &file.entries);
            entries.filter(|entry| entry.instance.key == *key).any(|entry| entry.instance.origin.api_managed)
        };
        let launched: Vec<FileId> = state.claims.iter().filter(is_launched).cloned().collect();
        for id in &launched {
            self.change_file(id, |file, _| {
                file.entries.retain(|entry| entry.instance.key != *key);
                true
            });
        }
        let Some(said) = said.filter(|said| said.origin.api_managed) else { return };
        let others = self.keys.get(key).map(|state| state.claims.clone()).unwrap_or_default();
        self.withdraw(key, &said.origin.root, Change::Left, change, now);
        let others: BTreeSet<FileId> =
            others.into_iter().filter(|id| self.files.get(id).is_some_and(|file| file.declares_key(key))).collect();
        if !others.is_empty() {
            self.keys.entry(key.clone()).or_default().claims = others;
            self.dirty.insert(key.clone());
        }
    }

    /// Adds to `change` what follows from what was written and removed. Absence, which only scans tell, is not decided.
    pub fn decide_written(&mut self, change: &mut DesiredChange, now: Moment) {
        let touched = std::mem::take(&mut self.dirty);
        for key in &touched {
            self.decide_key(key, change, now);
        }
        for key in &touched {
            self.renew_conditions(key, change);
        }
        change.attempted = self.attempted;
        change.complete = self.complete;
        if let Some(status) = self.renew_status(now) {
            change.status = Some(status);
        }
    }

    /// Launched files all of whose instances people's files declare, by root and path relative to it: they are to be set
    /// aside.
    pub fn outranked(&mut self) -> Vec<(PathBuf, PathBuf)> {
        self.contested.retain(|id| self.files.contains_key(id));
        let lost = |id: &&FileId| {
            self.files.get(id).is_some_and(|file| {
                !file.entries.is_empty()
                    && !file.is_troubled()
                    && file
                        .entries
                        .iter()
                        .all(|entry| file.presence(entry) == Presence::Live && self.is_a_persons(&entry.instance.key))
            })
        };
        let roots = self.roots.iter().filter(|root| root.spec.api_managed);
        let files = roots.flat_map(|root| self.contested.iter().filter(move |id| id.root == root.path));
        files.filter(lost).map(|id| (id.root.to_path_buf(), id.file.clone())).collect()
    }

    /// Whether a person's file that is there declares the key.
    fn is_a_persons(&self, key: &Key) -> bool {
        self.said(key).is_some_and(|said| !said.origin.api_managed && self.presence(said) == Some(Presence::Live))
    }
}
