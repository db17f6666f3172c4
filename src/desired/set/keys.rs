//! From what the files declare to what is said of each key.

use super::file::{Absence, Entry, FileState};
use super::{Desired, FileId, KeyState};
use crate::desired::guard::{Change, Held};
use crate::desired::owner::{Choice, Claim, Presence, choose};
use crate::desired::sight::Emptiness;
use crate::error::{Code, Error};
use crate::model::{Condition, Instance, Key, Moment, Origin};
use crate::observed::event::DesiredChange;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One document that declares a key.
struct Document {
    id: FileId,
    instance: Arc<Instance>,
    presence: Presence,
}

impl Desired {
    fn documents(&self, key: &Key, state: &KeyState) -> Vec<Document> {
        let mut all = Vec::new();
        for id in &state.claims {
            let Some(file) = self.files.get(id) else { continue };
            for entry in file.entries.iter().filter(|entry| entry.instance.key == *key) {
                all.push(Document {
                    id: id.clone(),
                    instance: Arc::clone(&entry.instance),
                    presence: file.presence(entry),
                });
            }
        }
        all
    }

    /// Says who owns a key, if that or what the owner says is news.
    pub(super) fn decide_key(&mut self, key: &Key, change: &mut DesiredChange, now: Moment) {
        self.going.remove(key);
        self.leaving.remove(key);
        let Some(state) = self.keys.get(key) else { return };
        let said = state.said.clone();
        let documents = self.documents(key, state);
        let claims: Vec<Claim<'_>> =
            documents.iter().map(|doc| Claim { instance: &doc.instance, presence: doc.presence }).collect();
        let choice = choose(&claims, said.as_ref().map(|said| &said.origin));
        if documents.iter().any(|document| document.presence == Presence::Live) {
            self.spared.remove(key);
        } else if said.is_some() && choice != Choice::Nobody {
            self.leaving.insert(key.clone());
        }
        let duplicates = match choice {
            Choice::Owner(owner) => losers(&documents, owner),
            Choice::AsBefore | Choice::Nobody => Vec::new(),
        };
        if let Choice::Owner(owner) = choice {
            self.contested.extend(outranked(&documents, owner));
        }
        if let Some(state) = self.keys.get_mut(key) {
            state.duplicates = duplicates;
        }
        match (choice, said) {
            (Choice::Owner(owner), said) => {
                let instance = Arc::clone(&documents[owner].instance);
                self.forget_absent(key, &documents);
                if said.as_ref() != Some(&instance) {
                    self.say(key, &instance, said.as_deref(), now);
                    change.declared.push(instance);
                }
            }
            (Choice::AsBefore, _) => {}
            (Choice::Nobody, Some(_)) => {
                self.going.insert(key.clone());
            }
            (Choice::Nobody, None) => {
                self.forget_absent(key, &documents);
                self.keys.remove(key);
            }
        }
    }

    fn say(&mut self, key: &Key, instance: &Arc<Instance>, said: Option<&Instance>, now: Moment) {
        let root = &instance.origin.root;
        if said.is_none_or(|said| said.origin.root != *root) {
            *self.counts.entry(root.clone()).or_default() += 1;
            self.guards.entry(root.clone()).or_default().note(key, Change::Added, now);
            if let Some(said) = said {
                self.leave(&said.origin.root, key, Change::Left, now);
            }
        }
        if let Some(state) = self.keys.get_mut(key) {
            state.said = Some(Arc::clone(instance));
        }
    }

    fn leave(&mut self, root: &Path, key: &Key, how: Change, now: Moment) {
        if let Some(count) = self.counts.get_mut(root) {
            *count = count.saturating_sub(1);
        }
        self.guards.entry(root.to_path_buf()).or_default().note(key, how, now);
    }

    fn forget_absent(&mut self, key: &Key, documents: &[Document]) {
        for document in documents.iter().filter(|document| document.presence == Presence::Gone) {
            self.change_file(&document.id, |file, _| {
                file.forget(key);
                false
            });
            let still = self
                .files
                .get(&document.id)
                .is_some_and(|file| file.entries.iter().any(|entry| entry.instance.key == *key));
            if let Some(state) = self.keys.get_mut(key).filter(|_| !still) {
                state.claims.remove(&document.id);
            }
        }
    }

    /// Withdraws what nothing declares any more, as far as the guard permits.
    pub(super) fn decide_absent(&mut self, change: &mut DesiredChange, touched: &mut BTreeSet<Key>, now: Moment) {
        self.spare_awaited(now);
        let mut by_root: BTreeMap<PathBuf, BTreeSet<Key>> = BTreeMap::new();
        for key in self.going.iter().cloned().collect::<Vec<_>>() {
            let Some(said) = self.keys.get(&key).and_then(|state| state.said.clone()) else { continue };
            if !self.is_readable(&said.origin.root) || self.spared.contains_key(&key) {
                continue;
            }
            if self.is_expected(&key) {
                self.withdraw(&key, &said.origin.root, Change::Left, change, now);
            } else {
                by_root.entry(said.origin.root.clone()).or_default().insert(key);
            }
        }
        for (root, guard) in &self.guards {
            if guard.held().is_some() && self.is_readable(root) {
                by_root.entry(root.clone()).or_default();
            }
        }
        for (root, going) in by_root {
            let declared = self.counts.get(&root).copied().unwrap_or(0);
            let emptiness =
                self.roots.iter().find(|r| r.spec.path == root).map_or(Emptiness::Ordinary, |r| r.emptiness);
            let leaving = if going.is_empty() { BTreeSet::new() } else { self.leaving_from(&root) };
            let guard = self.guards.entry(root.clone()).or_default();
            let before = guard.held().cloned();
            let permits = guard.permits(&going, &leaving, declared, emptiness, now);
            let after = guard.held().cloned();
            if before != after {
                touched.extend(before.into_iter().chain(after).flat_map(|held| held.keys));
            }
            for key in going.iter().filter(|_| permits) {
                self.withdraw(key, &root, Change::Removed, change, now);
            }
        }
    }

    /// The keys of a root that are missing and may follow those that are going. What is deleted together is not noticed
    /// together: an edited file has to hold still before the absence of what it declared begins to count.
    fn leaving_from(&self, root: &Path) -> BTreeSet<Key> {
        let spared = self.going.iter().filter(|key| self.spared.contains_key(*key));
        let of_root = |key: &&Key| {
            let said = self.keys.get(*key).and_then(|state| state.said.as_ref());
            said.is_some_and(|said| said.origin.root == root) && !self.is_expected(key)
        };
        self.leaving.iter().chain(spared).filter(of_root).cloned().collect()
    }

    /// Keeps what a file that waits for its pattern may have declared, until complete scans have told for long enough
    /// that none does.
    fn spare_awaited(&mut self, now: Moment) {
        let awaited = self.awaited_patterns();
        for key in self.going.iter().chain(&self.leaving).filter(|key| awaited.contains(key.pattern())) {
            self.spared.insert(key.clone(), Absence::Noticed);
        }
        let mut spared = std::mem::take(&mut self.spared);
        spared.retain(|key, absence| {
            let said = self.keys.get(key).and_then(|state| state.said.as_ref());
            if !awaited.contains(key.pattern()) && said.is_some_and(|said| self.is_readable(&said.origin.root)) {
                absence.step(now);
            }
            said.is_some() && *absence != Absence::Counts
        });
        self.spared = spared;
    }

    /// The patterns of files that cannot be resolved now. Any of these may be what declares a key from now on, as when a
    /// file is renamed while its pattern is gone: what runs of these patterns goes on meanwhile.
    fn awaited_patterns(&self) -> BTreeSet<String> {
        let files = self.unresolved.iter().filter_map(|id| self.files.get(id));
        files.flat_map(FileState::unresolved_patterns).map(|name| name.as_str().to_owned()).collect()
    }

    fn is_expected(&self, key: &Key) -> bool {
        self.keys.get(key).is_some_and(|state| {
            !state.claims.is_empty()
                && state.claims.iter().all(|id| self.files.get(id).is_none_or(|file| file.deletion_expected))
        })
    }

    pub(super) fn withdraw(&mut self, key: &Key, root: &Path, how: Change, change: &mut DesiredChange, now: Moment) {
        let documents = self.keys.get(key).map(|state| self.documents(key, state)).unwrap_or_default();
        self.forget_absent(key, &documents);
        self.keys.remove(key);
        self.going.remove(key);
        self.leaving.remove(key);
        self.spared.remove(key);
        self.leave(root, key, how, now);
        change.withdrawn.push(key.clone());
    }

    /// Says what is not as it should be with a key, if that is news.
    pub(super) fn renew_conditions(&mut self, key: &Key, change: &mut DesiredChange) {
        let Some(state) = self.keys.get(key) else { return };
        let mut conditions = Vec::new();
        for id in &state.claims {
            let Some(file) = self.files.get(id) else { continue };
            let mut entries = file.entries.iter().filter(|entry| entry.instance.key == *key).peekable();
            if entries.peek().is_some() {
                conditions.extend(file.problem.iter().map(|error| condition("InvalidFile", error)));
            }
            let launched = |entry: &&Entry| entry.instance.origin.api_managed;
            if entries.clone().filter(launched).any(|entry| file.presence(entry) == Presence::Missing) {
                conditions.push(condition(Condition::FILE_MISSING, &missing(id)));
            }
            conditions.extend(
                entries.filter_map(|entry| entry.concern.as_ref()).map(|error| condition("InvalidPattern", error)),
            );
        }
        conditions.extend(state.duplicates.iter().map(|error| condition("DuplicateInstance", error)));
        let held =
            state.said.as_ref().and_then(|said| self.guards.get(&said.origin.root)?.held().map(|held| (said, held)));
        if let Some((said, held)) = held.filter(|(_, held)| held.keys.contains(key)) {
            conditions.push(condition("PruneBlocked", &blocked(&said.origin.root, held)));
        }
        if state.conditions != conditions {
            change.conditions.push((key.clone(), conditions.clone()));
            if let Some(state) = self.keys.get_mut(key) {
                state.conditions = conditions;
            }
        }
    }
}

fn missing(id: &FileId) -> Error {
    Error::new(Code::StoreUnavailable, format!("{} is not there any more", id.path().display()))
        .with("file", id.path().display())
        .suggest("launch it again to keep it; else its process ends once the absence is confirmed")
}

pub(super) fn condition(kind: &str, error: &Error) -> Condition {
    Condition { kind: kind.to_owned(), message: error.to_string() }
}

fn losers(documents: &[Document], owner: usize) -> Vec<Error> {
    let winner = &documents[owner].instance;
    let others = documents.iter().enumerate().filter(|(index, _)| *index != owner);
    others
        .filter(|(_, document)| document.presence == Presence::Live)
        .map(|(_, document)| duplicate(&winner.key, &winner.origin, &document.instance.origin))
        .collect()
}

/// The launched files that lose to a person's.
fn outranked(documents: &[Document], owner: usize) -> impl Iterator<Item = FileId> {
    let by_person = !documents[owner].instance.origin.api_managed;
    let launched = documents.iter().filter(move |document| by_person && document.instance.origin.api_managed);
    launched.map(|document| document.id.clone())
}

fn duplicate(key: &Key, winner: &Origin, loser: &Origin) -> Error {
    Error::new(Code::DuplicateInstance, format!("{loser} declares {key}, which {winner} declares already"))
        .with("process_id", key)
        .with("file", loser)
        .with("owner", winner)
        .suggest(format!("remove the instance from {} or from {}", loser.path().display(), winner.path().display()))
}

/// Why a deletion is held, and how to let it happen.
pub(super) fn blocked(root: &Path, held: &Held) -> Error {
    let why = match held.emptiness {
        Emptiness::Ordinary => "so many at once may be a mistake",
        Emptiness::Suspicious => "the root is empty and not the folder it was, as when a file system is not mounted",
    };
    Error::new(
        Code::PermissionDenied,
        format!(
            "{} of the {} instances of {} would end within a minute, so {} are held: {why}",
            held.gone,
            held.of,
            root.display(),
            held.keys.len()
        ),
    )
    .with("root", root.display())
    .with("token", &held.token)
    .suggest(format!("restore the files, or let them end: pattern-launcher confirm-prune {}", held.token))
}
