//! Values that must not be printed by accident.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A configuration value: shown as `***` by `Debug`, without `Display`; [`Secret::reveal`] is the one way to read it.
///
/// It serializes as it is, since records and launch files need the value; both are readable by the owner only.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the process it is meant for.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
