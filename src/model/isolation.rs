//! Who shares a process.

use super::id::{Key, Namespace, PatternName, SessionId};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How far instances of a pattern are kept apart. Ordered: `None < Namespace < Session`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum IsolationLevel {
    /// One process for a pattern.
    None,
    /// One process for a pattern and namespace.
    Namespace,
    /// One process for a pattern, namespace and session.
    Session,
}

impl IsolationLevel {
    /// All levels, from least to most isolated.
    pub const ALL: [Self; 3] = [Self::None, Self::Namespace, Self::Session];

    /// The level as it is written in files and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Namespace => "namespace",
            Self::Session => "session",
        }
    }
}

impl fmt::Display for IsolationLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for IsolationLevel {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|level| level.as_str() == text)
            .ok_or_else(|| format!("unknown isolation level '{text}'; use none, namespace or session"))
    }
}

/// A level together with the names it needs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Shared by everyone.
    None,
    /// Shared within a namespace.
    Namespace(Namespace),
    /// For one session of a namespace.
    Session(Namespace, SessionId),
}

impl Isolation {
    /// The level alone.
    pub const fn level(&self) -> IsolationLevel {
        match self {
            Self::None => IsolationLevel::None,
            Self::Namespace(_) => IsolationLevel::Namespace,
            Self::Session(..) => IsolationLevel::Session,
        }
    }

    /// The namespace, unless shared by everyone.
    pub const fn namespace(&self) -> Option<&Namespace> {
        match self {
            Self::None => None,
            Self::Namespace(namespace) | Self::Session(namespace, _) => Some(namespace),
        }
    }

    /// The session, at session level.
    pub const fn session(&self) -> Option<&SessionId> {
        match self {
            Self::None | Self::Namespace(_) => None,
            Self::Session(_, session) => Some(session),
        }
    }

    /// The process id of `pattern` at this isolation.
    pub fn key(&self, pattern: &PatternName) -> Key {
        Key::new(self, pattern)
    }
}
