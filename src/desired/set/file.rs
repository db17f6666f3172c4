//! One desired file: what it said last that was good, and what stands in the way of what it says now.

use super::{FileId, Patterns};
use crate::desired::instance_file::{Author, parse_instances};
use crate::desired::owner::Presence;
use crate::desired::root::RootSpec;
use crate::desired::settle::{Settle, Settled};
use crate::desired::sight::{Fingerprint, Sight};
use crate::desired::spec::InstanceSpec;
use crate::error::{Code, Error};
use crate::model::{Instance, Key, Moment, Origin, PatternName};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Absence counts after two complete scans at least this far apart.
pub const ABSENT_FOR: Duration = Duration::from_secs(2);

/// Whether something is there, as complete scans tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Absence {
    #[default]
    Present,
    /// It is not there any more, and no complete scan has confirmed that yet.
    Noticed,
    /// Since this complete scan it is not there.
    Since(Moment),
    /// It counts.
    Counts,
}

impl Absence {
    /// A complete scan did not find it. Returns whether something changed.
    pub(super) fn step(&mut self, now: Moment) -> bool {
        let next = match *self {
            Self::Present | Self::Noticed => Self::Since(now),
            Self::Since(since) if now.since(since) >= ABSENT_FOR => Self::Counts,
            waiting @ (Self::Since(_) | Self::Counts) => waiting,
        };
        std::mem::replace(self, next) != next
    }

    pub(super) fn due(self) -> Option<Moment> {
        match self {
            Self::Since(since) => Some(since.after(ABSENT_FOR)),
            Self::Present | Self::Noticed | Self::Counts => None,
        }
    }
}

/// One document that is in force.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// What it asks for; `None` for one that is only known from a persisted memory.
    spec: Option<InstanceSpec>,
    /// As last resolved.
    pub(super) instance: Arc<Instance>,
    /// Why it can no longer be resolved, or is resolved by an older manifest than the one that is there.
    pub(super) concern: Option<Error>,
    /// Whether the file still says it.
    dropped: Absence,
}

/// What is known of one file.
#[derive(Debug, Clone, Default)]
pub(super) struct FileState {
    pub(super) settle: Settle,
    /// What the last content that could be parsed asks for.
    wanted: Vec<InstanceSpec>,
    pub(super) entries: Vec<Entry>,
    /// Why what the file says now is not in force.
    pub(super) problem: Option<Error>,
    /// Whether `problem` may vanish by a change of a pattern.
    unresolved: bool,
    /// Instances that the root may not declare.
    pub(super) refused: Vec<Error>,
    absence: Absence,
    /// The launcher itself deletes it: no loss.
    pub(super) deletion_expected: bool,
}

/// What a file is read against.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) root: &'a RootSpec,
    pub(super) id: &'a FileId,
    pub(super) patterns: &'a dyn Patterns,
}

enum Found {
    Entry(Box<Entry>),
    Refused(Error),
}

impl FileState {
    /// What a persisted memory says the file declared.
    pub(super) fn restore(&mut self, instance: Arc<Instance>) {
        self.entries.push(Entry { spec: None, instance, concern: None, dropped: Absence::Present });
    }

    /// A persisted memory says that the file no longer declared `key`. Returns whether that is news.
    pub(super) fn restore_dropped(&mut self, key: &Key) -> bool {
        let mut news = false;
        for entry in self.entries.iter_mut().filter(|entry| entry.instance.key == *key && entry.spec.is_none()) {
            entry.dropped = Absence::Noticed;
            news = true;
        }
        news
    }

    /// Whether the file is known to declare `key` no longer.
    pub(super) fn has_dropped(&self, key: &Key) -> bool {
        self.entries.iter().any(|entry| entry.instance.key == *key && entry.dropped == Absence::Counts)
    }

    /// Takes note of a look at the file. Returns whether what it says may have changed.
    pub(super) fn look(&mut self, sight: &Sight, context: Context<'_>, now: Moment) -> bool {
        if self.settle.look(sight.fingerprint(), sight.stillness(), now) != Settled::Accepted {
            return false;
        }
        match sight {
            Sight::Trouble(error) => {
                self.problem = Some(error.clone());
                self.unresolved = false;
            }
            Sight::Content { bytes, .. } => self.parse(bytes, context),
        }
        true
    }

    /// The launcher has written the file: it is whole, and what it says counts.
    pub(super) fn written(&mut self, bytes: &[u8], context: Context<'_>) {
        self.absence = Absence::Present;
        self.deletion_expected = false;
        self.settle.take_over(Fingerprint::of(bytes));
        self.parse(bytes, context);
    }

    /// The launcher has removed the file, and with it what it said.
    pub(super) fn removed(&mut self) {
        *self = Self { absence: Absence::Counts, ..Self::default() };
    }

    fn parse(&mut self, bytes: &[u8], context: Context<'_>) {
        let author = if context.root.api_managed { Author::Launcher } else { Author::Person };
        self.unresolved = false;
        match parse_instances(&context.id.path(), bytes, author) {
            Ok(specs) if specs.is_empty() && self.declares() => self.problem = Some(emptied(context.id, &self.entries)),
            Ok(specs) => {
                self.wanted = specs;
                self.resolve(context);
            }
            Err(error) => self.problem = Some(error),
        }
    }

    fn declares(&self) -> bool {
        self.entries.iter().any(|entry| entry.dropped == Absence::Present)
    }

    /// Puts what the file asks for in force, if all of it can be resolved.
    fn resolve(&mut self, context: Context<'_>) {
        let mut fresh = Vec::new();
        let mut refused = Vec::new();
        for spec in &self.wanted {
            match self.find(spec, context) {
                Ok(Found::Entry(entry)) => fresh.push(*entry),
                Ok(Found::Refused(error)) => refused.push(error),
                Err(error) => {
                    self.problem = Some(error);
                    self.unresolved = true;
                    return;
                }
            }
        }
        let said: BTreeSet<&Key> = fresh.iter().map(|entry| &entry.instance.key).collect();
        let mut former: Vec<Entry> = std::mem::take(&mut self.entries);
        former.retain(|entry| !said.contains(&entry.instance.key));
        for entry in &mut former {
            // A file of which something is refused is wrong: that ends nothing which the root may declare.
            let goes_on = !refused.is_empty() && allows(context.root, &entry.instance);
            if entry.dropped == Absence::Present && !goes_on {
                entry.dropped = Absence::Noticed;
            }
        }
        fresh.extend(former);
        // Most files declare one instance, and a vector that grows makes room for four.
        fresh.shrink_to_fit();
        self.entries = fresh;
        self.refused = refused;
        self.problem = None;
        self.unresolved = false;
    }

    fn find(&self, spec: &InstanceSpec, context: Context<'_>) -> Result<Found, Error> {
        let origin = context.id.origin(spec.line, context.root);
        if !context.root.patterns.is_empty() && !context.root.patterns.contains(&spec.pattern) {
            return Ok(Found::Refused(not_allowed(&origin, "pattern", spec.pattern.as_str())));
        }
        match context.patterns.resolve(spec, origin.clone()) {
            Ok((instance, _)) if !allows(context.root, &instance) => {
                let namespace = instance.isolation.namespace().map_or("", |namespace| namespace.as_str());
                Ok(Found::Refused(not_allowed(&origin, "namespace", namespace)))
            }
            Ok((instance, concern)) => Ok(Found::Entry(Box::new(Entry {
                spec: Some(spec.clone()),
                instance: Arc::new(instance),
                concern,
                dropped: Absence::Present,
            }))),
            Err(error) => self.as_last_resolved(spec, origin, error).map(|entry| Found::Entry(Box::new(entry))),
        }
    }

    /// What could be resolved before goes on as last resolved; anything else makes the file wrong.
    fn as_last_resolved(&self, spec: &InstanceSpec, origin: Origin, error: Error) -> Result<Entry, Error> {
        let same = |entry: &&Entry| {
            entry.dropped == Absence::Present
                && entry.spec.as_ref().is_some_and(|known| InstanceSpec { line: spec.line, ..known.clone() } == *spec)
        };
        let Some(entry) = self.entries.iter().find(same) else { return Err(error) };
        let instance = Arc::new(Instance { origin, ..Instance::clone(&entry.instance) });
        Ok(Entry { spec: Some(spec.clone()), instance, concern: Some(error), dropped: Absence::Present })
    }

    /// Some patterns are not what they were. Returns whether what the file says may have changed.
    pub(super) fn patterns_changed(&mut self, changed: Option<&BTreeSet<PatternName>>, context: Context<'_>) -> bool {
        let concerns = |spec: &InstanceSpec| changed.is_none_or(|changed| changed.contains(&spec.pattern));
        let mut touched = false;
        for entry in &mut self.entries {
            let Some(spec) = entry.spec.as_ref().filter(|spec| concerns(spec)) else { continue };
            if entry.dropped != Absence::Present {
                continue;
            }
            touched = true;
            match context.patterns.resolve(spec, entry.instance.origin.clone()) {
                Ok((instance, concern)) if allows(context.root, &instance) => {
                    entry.instance = Arc::new(instance);
                    entry.concern = concern;
                }
                Ok((instance, _)) => {
                    let namespace = instance.isolation.namespace().map_or("", |namespace| namespace.as_str());
                    entry.concern = Some(not_allowed(&instance.origin, "namespace", namespace));
                }
                Err(error) => entry.concern = Some(error),
            }
        }
        if self.unresolved && self.wanted.iter().any(concerns) {
            self.resolve(context);
            touched = true;
        }
        touched
    }

    /// The root may declare other things than before.
    pub(super) fn scope_changed(&mut self, context: Context<'_>) {
        if !self.wanted.is_empty() && (self.problem.is_none() || self.unresolved) {
            self.resolve(context);
        }
    }

    /// A scan saw that the file is there. Returns whether that is news.
    pub(super) fn found(&mut self) -> bool {
        std::mem::take(&mut self.absence) != Absence::Present
    }

    /// A complete scan did not see the file. Returns whether that changes anything.
    pub(super) fn not_found(&mut self, now: Moment) -> bool {
        let stepped = self.absence.step(now);
        if self.deletion_expected && self.absence != Absence::Counts {
            self.absence = Absence::Counts;
            return true;
        }
        stepped
    }

    /// A complete scan has gone by: what the file no longer says has been absent for longer.
    pub(super) fn age(&mut self, now: Moment) -> bool {
        let mut changed = false;
        for entry in self.entries.iter_mut().filter(|entry| entry.dropped != Absence::Present) {
            changed |= entry.dropped.step(now);
        }
        changed
    }

    /// Whether the document of `entry` is there.
    pub(super) fn presence(&self, entry: &Entry) -> Presence {
        match (self.absence, entry.dropped) {
            (Absence::Counts, _) | (_, Absence::Counts) => Presence::Gone,
            (Absence::Present, Absence::Present) => Presence::Live,
            _ => Presence::Missing,
        }
    }

    /// Forgets what the file declared of `key` and no longer does. Returns whether nothing of the file is left to know.
    pub(super) fn forget(&mut self, key: &Key) -> bool {
        let gone = |entry: &Entry| entry.instance.key == *key && self.presence(entry) == Presence::Gone;
        let keep: Vec<bool> = self.entries.iter().map(|entry| !gone(entry)).collect();
        let mut keep = keep.into_iter();
        let known = self.entries.len();
        self.entries.retain(|_| keep.next().unwrap_or(true));
        if self.absence == Absence::Counts && self.entries.len() < known {
            // Should the file come back as it was, it has to be read anew to know all that it declares.
            self.settle = Settle::default();
            self.wanted.clear();
            self.unresolved = false;
        }
        self.is_forgotten()
    }

    /// Whether it declares a key, or did.
    pub(super) fn declares_key(&self, key: &Key) -> bool {
        self.entries.iter().any(|entry| entry.instance.key == *key)
    }

    /// Whether nothing of the file is left to know.
    pub(super) fn is_forgotten(&self) -> bool {
        self.entries.is_empty() && self.absence == Absence::Counts
    }

    /// Whether the file does not say what it should.
    pub(super) fn is_troubled(&self) -> bool {
        (self.problem.is_some() || !self.refused.is_empty()) && self.absence == Absence::Present
    }

    /// The patterns that it asks for, while it is not in force because one cannot be resolved.
    pub(super) fn unresolved_patterns(&self) -> impl Iterator<Item = &PatternName> {
        let unresolved = self.unresolved && self.absence != Absence::Counts;
        self.wanted.iter().filter(move |_| unresolved).map(|spec| &spec.pattern)
    }

    /// When it has to be looked at again although nothing seems to have changed.
    pub(super) fn due(&self) -> Option<Moment> {
        let dropped = self.entries.iter().filter_map(|entry| entry.dropped.due());
        let settle = self.settle.due().filter(|_| self.absence == Absence::Present);
        let all = dropped.chain(self.absence.due()).chain(settle);
        all.reduce(|a, b| if a.since_boot <= b.since_boot { a } else { b })
    }

    /// Whether a part of it has been noticed as absent and waits for a complete scan to say so.
    pub(super) fn awaits_scan(&self) -> bool {
        self.entries.iter().any(|entry| entry.dropped == Absence::Noticed)
    }
}

fn allows(root: &RootSpec, instance: &Instance) -> bool {
    let pattern = root.patterns.is_empty() || root.patterns.contains(&instance.pattern);
    let namespace = root.namespaces.is_empty()
        || instance.isolation.namespace().is_some_and(|namespace| root.namespaces.contains(namespace));
    pattern && namespace
}

fn not_allowed(origin: &Origin, what: &str, value: &str) -> Error {
    let message = if value.is_empty() {
        format!("{origin} declares a shared process, which its root may not declare")
    } else {
        format!("{origin} declares {what} '{value}', which its root may not declare")
    };
    Error::new(Code::PermissionDenied, message).with("file", origin).with("root", origin.root.display()).suggest(
        format!(
            "move the instance to another desired root, or allow it by the {what}s of the [[desired]] entry of {}",
            origin.root.display()
        ),
    )
}

fn emptied(id: &FileId, entries: &[Entry]) -> Error {
    let path = id.path();
    let keys: Vec<&str> = entries.iter().map(|entry| entry.instance.key.as_str()).take(3).collect();
    Error::new(Code::InvalidInstance, format!("{} is empty though it declared something", path.display()))
        .with("file", format!("{}:1", path.display()))
        .with("declared", keys.join(" "))
        .suggest(format!("delete {} if what it declared should end, or restore its content", path.display()))
}
