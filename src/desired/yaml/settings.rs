//! Values as they are written: `0123`, `1.10` and `yes` stay what they are.

use crate::model::Secret;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// A text, number or boolean as it is written.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Written(String);

impl Written {
    /// The text between the quotes, or the plain text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Written> for String {
    fn from(written: Written) -> Self {
        written.0
    }
}

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl JsonSchema for Written {
    fn schema_name() -> Cow<'static, str> {
        "Written".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number", "boolean"] })
    }

    fn inline_schema() -> bool {
        true
    }
}

/// Names and values, merge keys (`<<`) carried out: what is written beside a merge key wins over what it brings, and an
/// earlier of several merged mappings over a later.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings(pub BTreeMap<String, Secret>);

/// The key that merges other mappings into its own.
pub(super) const MERGE: &str = "<<";

impl JsonSchema for Settings {
    fn schema_name() -> Cow<'static, str> {
        "Settings".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = Written::json_schema(generator);
        json_schema!({ "type": "object", "additionalProperties": value })
    }

    fn inline_schema() -> bool {
        true
    }
}

impl<'de> Deserialize<'de> for Settings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(SettingsVisitor)
    }
}

struct SettingsVisitor;

impl<'de> Visitor<'de> for SettingsVisitor {
    type Value = Settings;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping of names to values")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Settings, A::Error> {
        let mut own = BTreeMap::new();
        let mut merged = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == MERGE {
                merged = map.next_value::<Merged>()?.0;
            } else {
                own.insert(name, map.next_value::<Secret>()?);
            }
        }
        for (name, value) in merged.into_iter().flat_map(|settings| settings.0) {
            own.entry(name).or_insert(value);
        }
        Ok(Settings(own))
    }
}

/// What stands behind a merge key: a mapping or a list of mappings.
struct Merged(Vec<Settings>);

impl<'de> Deserialize<'de> for Merged {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MergedVisitor)
    }
}

struct MergedVisitor;

impl<'de> Visitor<'de> for MergedVisitor {
    type Value = Merged;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping or a list of mappings")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Merged, A::Error> {
        SettingsVisitor.visit_map(map).map(|settings| Merged(vec![settings]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Merged, A::Error> {
        let mut all = Vec::new();
        while let Some(settings) = list.next_element::<Settings>()? {
            all.push(settings);
        }
        Ok(Merged(all))
    }
}
