//! The patterns directory: what patterns there are, as their manifests and executables were when last read well.

use crate::error::Error;
use crate::model::{Manifest, Moment, PatternName};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The patterns of one directory.
#[derive(Debug)]
pub struct Registry {
    dir: PathBuf,
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
#[derive(Debug, Clone)]
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

impl Registry {
    /// A registry of the patterns in `dir`; nothing is read before the first refresh.
    pub fn open(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Looks at every manifest and executable, and reads those that changed. Blocks on the file system. The first
    /// refresh believes what it reads; later, a change counts once it has held still for 400 ms.
    pub fn refresh(&mut self, now: Moment) -> RegistryChange {
        todo!("{now:?} {:?}", self.dir)
    }

    /// What is known of a pattern as of the last refresh.
    pub fn lookup(&self, name: &PatternName) -> Lookup {
        todo!("{name:?}")
    }

    /// The patterns that can be used, by name.
    pub fn manifests(&self) -> impl Iterator<Item = &Arc<Manifest>> {
        std::iter::empty()
    }

    /// Everything that is wrong as of the last refresh, in the order of the folders' names.
    pub fn problems(&self) -> &[Problem] {
        &[]
    }
}
