//! What a look at a root gives: the seam between the scanner, which does I/O, and the desired set, which does not.

use crate::error::Error;
use sha2::{Digest as _, Sha256};
use std::path::PathBuf;
use std::sync::Arc;

/// What tells one content from another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of a file's content.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Of trouble with a file: equal trouble is equal, and never equal to a content.
    fn of_trouble(error: &Error) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"trouble\0");
        hash.update(error.to_string());
        Self(hash.finalize().into())
    }
}

/// Whether somebody may still be writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stillness {
    /// Nobody can be: it arrived by rename, or a read lease was granted.
    Still,
    /// Somebody may be.
    Unknown,
}

/// What one look at one file gave.
#[derive(Debug, Clone)]
pub enum Sight {
    /// It was read.
    Content {
        /// All of it.
        bytes: Arc<[u8]>,
        /// Of `bytes`.
        fingerprint: Fingerprint,
        /// Whether it may be half-written.
        stillness: Stillness,
    },
    /// It is there and cannot be read, or should not be.
    Trouble(Error),
}

impl Sight {
    /// A content that was read.
    pub fn content(bytes: Vec<u8>, stillness: Stillness) -> Self {
        let fingerprint = Fingerprint::of(&bytes);
        Self::Content { bytes: bytes.into(), fingerprint, stillness }
    }

    /// What tells this sight from another.
    pub fn fingerprint(&self) -> Fingerprint {
        match self {
            Self::Content { fingerprint, .. } => *fingerprint,
            Self::Trouble(error) => Fingerprint::of_trouble(error),
        }
    }

    /// Whether it counts at once.
    pub const fn stillness(&self) -> Stillness {
        match self {
            Self::Content { stillness, .. } => *stillness,
            Self::Trouble(_) => Stillness::Unknown,
        }
    }
}

/// How a scan of a root went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All of it was seen at one time: only this may lead to a termination.
    Complete,
    /// It was being changed meanwhile, as by git. Not complete; worth a condition only when it lasts.
    Busy(Error),
    /// It could not be seen, or not all of it.
    Failed(Error),
}

/// Whether an empty root is to be believed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Emptiness {
    /// It is the folder that it was, or it is not empty.
    #[default]
    Ordinary,
    /// It is empty and not the folder that it was, as when a file system has been unmounted.
    Suspicious,
}

/// What one scan of one root gave.
#[derive(Debug, Clone)]
pub struct Scan {
    /// How it went.
    pub outcome: Outcome,
    /// Whether its emptiness, if it is empty, is to be believed.
    pub emptiness: Emptiness,
    /// The files that are new, have changed, are in trouble, or were asked for; by path relative to the root. Files
    /// that are as they were are not among them.
    pub seen: Vec<(PathBuf, Sight)>,
}
