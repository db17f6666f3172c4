//! What a desired root is, and who may read it.

use crate::error::Result;
use crate::model::{Namespace, PatternName};
use std::fmt;
use std::path::{Path, PathBuf};

/// One desired root as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootSpec {
    /// The folder, as configured: it and its ancestors may be symlinks that flip.
    pub path: PathBuf,
    /// The namespaces that it may declare; empty allows all.
    pub namespaces: Vec<Namespace>,
    /// The patterns that it may declare; empty allows all.
    pub patterns: Vec<PatternName>,
    /// Whether it is the launch directory: its instances are api-managed and may have a `ttl`.
    pub api_managed: bool,
}

impl RootSpec {
    /// A root that may declare anything.
    pub const fn open(path: PathBuf) -> Self {
        Self { path, namespaces: Vec::new(), patterns: Vec::new(), api_managed: false }
    }

    /// Whether it may not declare everything: its files are then trusted less, and links may not lead out of it.
    pub const fn is_narrowed(&self) -> bool {
        !self.namespaces.is_empty() || !self.patterns.is_empty()
    }
}

/// Keeps a second launcher from reading the same root.
pub trait RootLock: fmt::Debug + Send + Sync {
    /// Locks the folder that `root` is now, until what is returned is dropped. Called again when the folder behind the
    /// path has changed. `ALREADY_RUNNING` names the pid of the holder.
    fn hold(&self, root: &Path) -> Result<Box<dyn Send>>;

    /// Sees to it that the state folder is this launcher's, before a file is made in it.
    fn hold_state(&self) -> Result<()> {
        Ok(())
    }
}
