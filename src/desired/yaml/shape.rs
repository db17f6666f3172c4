//! Keys and kinds of values against the schema of the file.

use super::settings::MERGE;
use super::source::{Source, nearest};
use super::tree::{Content, Entry, Node};
use crate::error::{Error, Result};
use serde_json::Value;

/// Keys that begin with this are the user's own.
pub(crate) const FREE_PREFIX: &str = "x-";

/// Checks that a document has known keys only, and that values are of the kinds that the schema names.
pub(super) fn check(source: &Source<'_>, root: &Node) -> Result<()> {
    Walk { source, path: Vec::new() }.value(root, source.kind().schema)
}

/// The keys of an object schema, in its order.
pub fn known_keys(schema: &Value) -> impl Iterator<Item = &str> {
    schema.get("properties").and_then(Value::as_object).into_iter().flatten().map(|(key, _)| key.as_str())
}

/// The part of a schema that is not `null`.
fn present(schema: &Value) -> &Value {
    let is_null = |schema: &&Value| schema.get("type").and_then(Value::as_str) == Some("null");
    match schema.get("anyOf").and_then(Value::as_array) {
        Some(choices) => choices.iter().find(|choice| !is_null(choice)).unwrap_or(schema),
        None => schema,
    }
}

fn allows(schema: &Value, kind: &str) -> bool {
    let named = |schema: &Value| match schema.get("type") {
        Some(Value::String(name)) => name == kind,
        Some(Value::Array(names)) => names.iter().any(|name| name == kind),
        _ => false,
    };
    named(schema) || schema.get("anyOf").and_then(Value::as_array).is_some_and(|choices| choices.iter().any(named))
}

struct Walk<'s, 'a> {
    source: &'s Source<'a>,
    path: Vec<String>,
}

impl Walk<'_, '_> {
    fn name(&self) -> String {
        Error::echo(&self.path.join("."))
    }

    fn value(&mut self, node: &Node, schema: &Value) -> Result<()> {
        let open = present(schema);
        match node.content() {
            Content::Null if allows(schema, "null") => Ok(()),
            Content::Map(entries) if allows(open, "object") => self.map(entries, open),
            Content::List(items) if allows(open, "array") => self.list(items, open),
            Content::Scalar if !allows(open, "object") && !allows(open, "array") => Ok(()),
            Content::Null | Content::Scalar | Content::List(_) | Content::Map(_) => Err(self.wrong_kind(node, open)),
        }
    }

    fn list(&mut self, items: &[std::rc::Rc<Node>], schema: &Value) -> Result<()> {
        let Some(of) = schema.get("items") else { return Ok(()) };
        for (i, item) in items.iter().enumerate() {
            self.path.push(i.to_string());
            self.value(item, of)?;
            self.path.pop();
        }
        Ok(())
    }

    fn map(&mut self, entries: &[Entry], schema: &Value) -> Result<()> {
        let fixed = schema.get("properties");
        let free = schema.get("additionalProperties").filter(|free| free.is_object());
        for entry in entries {
            let known = fixed.and_then(|properties| properties.get(&entry.key)).or(free);
            self.path.push(entry.key.clone());
            match known {
                Some(_) if entry.key == MERGE && free.is_some_and(|free| !allows(free, "object")) => {
                    self.merge(&entry.value, schema)?;
                }
                Some(of) => self.value(&entry.value, of).map_err(|error| match entry.value.content() {
                    // An empty value has no text of its own: the error points to its key.
                    Content::Null => self.no_value(entry, free.is_some()),
                    Content::Scalar | Content::List(_) | Content::Map(_) => error,
                })?,
                None if entry.key.starts_with(FREE_PREFIX) => {}
                None => return Err(self.unknown(entry, schema)),
            }
            self.path.pop();
        }
        Ok(())
    }

    fn merge(&mut self, node: &Node, schema: &Value) -> Result<()> {
        match node.content() {
            Content::Map(entries) => self.map(entries, schema),
            Content::List(items) if items.iter().all(|item| matches!(item.content(), Content::Map(_))) => {
                items.iter().try_for_each(|item| self.merge(item, schema))
            }
            Content::Null | Content::Scalar | Content::List(_) => {
                Err(self.source.error(node.place(), "what '<<' merges must be a mapping or a list of mappings"))
            }
        }
    }

    fn no_value(&self, entry: &Entry, free: bool) -> Error {
        let key = Error::echo(&entry.key);
        let error = self.source.error(entry.place, &format!("'{}' has no value", self.name()));
        if free {
            error.suggest(format!("write {key}: \"\" for an empty text, or remove the key"))
        } else {
            error.suggest(format!("write a value after '{key}:'"))
        }
    }

    fn wrong_kind(&self, node: &Node, schema: &Value) -> Error {
        let wanted = if allows(schema, "object") {
            "a mapping"
        } else if allows(schema, "array") {
            "a list"
        } else {
            "a single text, number or boolean"
        };
        let found = match node.content() {
            Content::Null => "empty",
            Content::Scalar => "a single value",
            Content::List(_) => "a list",
            Content::Map(_) => "a mapping",
        };
        self.source.error(node.place(), &format!("'{}' must be {wanted}, and is {found}", self.name()))
    }

    fn unknown(&self, entry: &Entry, schema: &Value) -> Error {
        let written = Error::echo(&entry.key);
        let within = match self.path.split_last() {
            Some((_, parents)) if !parents.is_empty() => format!(" in '{}'", Error::echo(&parents.join("."))),
            _ => String::new(),
        };
        let error = self.source.error(entry.place, &format!("unknown key '{written}'{within}"));
        if let Some(meant) = nearest(&entry.key, known_keys(schema)) {
            return error.suggest(format!("write '{meant}' in place of '{written}'"));
        }
        let known: Vec<_> = known_keys(schema).collect();
        error.suggest(format!("use one of {}; a key of your own begins with '{FREE_PREFIX}'", known.join(", ")))
    }
}
