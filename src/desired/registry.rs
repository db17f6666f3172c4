//! The patterns directory: what patterns there are, as their manifests and executables were when last read well.
//!
//! A change counts once it has held still: two looks `SETTLE` apart that see the same manifest and the same
//! executable. So a half-written manifest or a program that is being copied replaces nothing. A pattern that becomes
//! invalid, or cannot be read, stays what it was, with a problem. Deliberately absent: watching for events (whoever
//! owns the registry refreshes it), and the clock.

mod book;
mod executable;
mod pattern;

pub use book::PatternBook;

use super::yaml::nearest;
use crate::error::{Code, Error};
use crate::model::{Manifest, Moment, PatternName};
use pattern::{Belief, Pattern, Presence};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long a change must hold still before it counts.
const SETTLE: Duration = Duration::from_millis(400);

/// The patterns of one directory.
#[derive(Debug)]
pub struct Registry {
    paths: Paths,
    /// By the names of their folders, all of them valid names of patterns.
    patterns: BTreeMap<String, Pattern>,
    problems: Vec<Problem>,
    /// Why the directory could not be read at the last refresh.
    unreadable: Option<Error>,
    refreshed: bool,
}

/// What a refresh found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistryChange {
    /// Patterns whose [`Registry::lookup`] answers differently than before: their instances are to be resolved again.
    pub changed: BTreeSet<PatternName>,
    /// Whether [`Registry::problems`] differ from before.
    pub problems_changed: bool,
    /// Something is still settling: refresh again after this long.
    pub look_again: Option<Duration>,
}

/// Something that is wrong with a pattern, or with the patterns directory itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The pattern, by the name of its folder; `None` for the directory itself.
    pub pattern: Option<String>,
    /// What is wrong, with file and line where there is one.
    pub error: Error,
}

/// What the registry knows of a pattern.
#[derive(Debug, Clone, PartialEq)]
pub enum Lookup {
    /// It is there and its manifest is good.
    Found(Arc<Manifest>),
    /// Its manifest cannot be used now; this is the last good one. New instances may use it, with the error as a
    /// condition.
    LastGood(Arc<Manifest>, Error),
    /// Its manifest has never been good.
    Invalid(Error),
    /// It was there and is not any more: its instances go on as last resolved.
    Gone(Error),
    /// There is no such pattern.
    Unknown(Error),
}

/// Where things are.
#[derive(Debug, Clone)]
struct Paths {
    /// As configured, for people.
    dir: PathBuf,
    /// Absolute, links not resolved.
    absolute: PathBuf,
}

impl Paths {
    /// The folder of a pattern, absolute.
    fn folder(&self, name: &str) -> PathBuf {
        self.absolute.join(name)
    }

    fn manifest(&self, name: &str) -> PathBuf {
        self.folder(name).join("manifest.yaml")
    }

    /// The manifest as people are told.
    fn shown(&self, name: &str) -> String {
        self.dir.join(name).join("manifest.yaml").display().to_string()
    }

    fn gone(&self, name: &PatternName) -> Error {
        Error::new(Code::PatternNotFound, format!("Pattern '{name}' has disappeared"))
            .with("pattern_name", name)
            .with("patterns_dir", self.dir.display())
            .suggest(format!("bring back {}; instances that run go on as they are", self.shown(name.as_str())))
    }
}

impl Registry {
    /// A registry of the patterns in `dir`; nothing is read before the first refresh.
    pub fn open(dir: PathBuf) -> Self {
        let absolute = std::path::absolute(&dir).unwrap_or_else(|_| dir.clone());
        Self {
            paths: Paths { dir, absolute },
            patterns: BTreeMap::new(),
            problems: Vec::new(),
            unreadable: None,
            refreshed: false,
        }
    }

    /// Looks at every manifest and executable, and reads those that changed. Blocks on the file system. The first
    /// refresh believes what it reads; later, a change counts once it has held still for 400 ms.
    pub fn refresh(&mut self, now: Moment) -> RegistryChange {
        let belief = if self.refreshed { Belief::Settled } else { Belief::AtOnce };
        self.refreshed = true;
        let before = self.answers();
        let mut problems = Vec::new();
        let mut look_again = None;
        match folders(&self.paths.absolute) {
            Ok(names) => {
                self.unreadable = None;
                look_again = self.look(&names, now, belief, &mut problems);
            }
            Err(error) => {
                // Not being able to look is not absence: everything stays as it was.
                let error = self.cannot_read(&error);
                problems.push(Problem { pattern: None, error: error.clone() });
                self.unreadable = Some(error);
            }
        }
        for (name, pattern) in &self.patterns {
            problems.extend(pattern.problems().map(|error| Problem { pattern: Some(name.clone()), error }));
        }
        let problems_changed = problems != self.problems;
        self.problems = problems;
        RegistryChange { changed: self.differing(before), problems_changed, look_again }
    }

    /// Looks at every folder, and at every pattern whose folder is gone.
    fn look(
        &mut self,
        names: &BTreeSet<String>,
        now: Moment,
        belief: Belief,
        problems: &mut Vec<Problem>,
    ) -> Option<Duration> {
        let mut waits = Vec::new();
        for (name, pattern) in &mut self.patterns {
            if !names.contains(name) {
                waits.extend(pattern.disappear());
            }
        }
        for name in names {
            if let Err(reason) = PatternName::new(name) {
                if self.paths.manifest(name).exists() {
                    problems.push(Problem { pattern: Some(name.clone()), error: self.misnamed(name, &reason) });
                }
                continue;
            }
            let pattern = self.patterns.entry(name.clone()).or_insert_with(Pattern::new);
            let (presence, wait) = pattern.look(&self.paths, name, now, belief);
            if presence == Presence::Absent && !pattern.is_known() {
                self.patterns.remove(name);
            }
            waits.extend(wait);
        }
        waits.into_iter().min()
    }

    /// What is known of a pattern as of the last refresh.
    pub fn lookup(&self, name: &PatternName) -> Lookup {
        let known = self.patterns.get(name.as_str()).and_then(|pattern| pattern.lookup(&self.paths, name));
        known.unwrap_or_else(|| Lookup::Unknown(self.not_found(name)))
    }

    /// The patterns that can be used, by name.
    pub fn manifests(&self) -> impl Iterator<Item = &Arc<Manifest>> {
        self.patterns.values().filter_map(Pattern::manifest)
    }

    /// Everything that is wrong as of the last refresh: the directory, then folders with wrong names, then patterns.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Patterns whose executable is a bare word that is not on `search_path` (folders separated by `:`). What a
    /// process is started with decides in the end, so that this is no problem of the pattern itself.
    pub fn missing_on_path(&self, search_path: &str) -> Vec<Problem> {
        let missing = |manifest: &Arc<Manifest>| {
            let error = executable::missing_on_path(manifest, search_path)?;
            Some(Problem { pattern: Some(manifest.name.to_string()), error })
        };
        self.manifests().filter_map(missing).collect()
    }

    fn answers(&self) -> BTreeMap<PatternName, Lookup> {
        let answer = |(name, pattern): (&String, &Pattern)| {
            let name = PatternName::new(name).ok()?;
            let lookup = pattern.lookup(&self.paths, &name)?;
            Some((name, lookup))
        };
        self.patterns.iter().filter_map(answer).collect()
    }

    fn differing(&self, mut before: BTreeMap<PatternName, Lookup>) -> BTreeSet<PatternName> {
        let mut changed: BTreeSet<_> = self
            .answers()
            .into_iter()
            .filter(|(name, now)| before.remove(name).as_ref() != Some(now))
            .map(|(name, _)| name)
            .collect();
        changed.extend(before.into_keys());
        changed
    }

    fn cannot_read(&self, cause: &io::Error) -> Error {
        let dir = self.paths.dir.display().to_string();
        let error = Error::new(Code::StoreUnavailable, format!("the patterns directory {dir} cannot be read"))
            .with("patterns_dir", &dir)
            .caused_by(cause);
        if cause.kind() == io::ErrorKind::NotFound {
            error.suggest(format!("mkdir -p {dir}, or name another with --patterns-dir"))
        } else {
            error.suggest(format!("make it readable: ls -lad {dir}"))
        }
    }

    fn misnamed(&self, folder: &str, reason: &str) -> Error {
        let file = self.paths.shown(folder);
        let shown = Error::echo(folder);
        Error::new(Code::InvalidManifest, format!("{file}: the folder '{shown}' cannot be a pattern: {reason}"))
            .with("file", &file)
            .suggest(format!("rename the folder {}", self.paths.dir.join(folder).display()))
    }

    fn not_found(&self, name: &PatternName) -> Error {
        let appearing = self.patterns.get(name.as_str()).is_some_and(Pattern::is_known);
        let known = self.manifests().map(|manifest| manifest.name.as_str());
        not_found(name, &self.paths.dir, self.unreadable.as_ref(), appearing, known)
    }
}

/// There is no pattern of that name in `dir`, as far as that could be read.
fn not_found<'a>(
    name: &PatternName,
    dir: &Path,
    unreadable: Option<&Error>,
    appearing: bool,
    known: impl Iterator<Item = &'a str>,
) -> Error {
    let dir = dir.display().to_string();
    let error = Error::new(Code::PatternNotFound, format!("Pattern '{name}' not found"))
        .with("pattern_name", name)
        .with("patterns_dir", &dir);
    if let Some(unreadable) = unreadable {
        let cause = unreadable.cause().unwrap_or_default();
        let suggestion = unreadable.suggestion().unwrap_or_default();
        return error.because(format!("{}: {cause}", unreadable.message())).suggest(suggestion);
    }
    if appearing {
        return error.because("it has only just appeared").suggest("wait a second");
    }
    match nearest(name.as_str(), known) {
        Some(meant) => error.suggest(format!("did you mean '{meant}'? The patterns there are: ls {dir}")),
        None => error.suggest(format!("ls {dir}; or make it: pattern-launcher init {name}")),
    }
}

/// The names of the folders in a directory, links followed, hidden ones left out.
fn folders(dir: &Path) -> io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        // A name that is not UTF-8 is no valid name either, and is told as one.
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && (kind.is_dir() || kind.is_symlink()) {
            names.insert(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests;
