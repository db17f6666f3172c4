//! Reads YAML that strangers wrote: bounded before it is parsed, and refused with file, line and column.
//!
//! Two parsers read each text and both must accept it. The first (`saphyr-parser`, linear) gives events with places:
//! limits, duplicate keys, unknown keys and missing values are found there. Only then does `serde_yaml` give the text
//! its meaning; it is quadratic on nested flow collections, which the limits keep away from it.

mod settings;
mod shape;
mod source;
mod tree;

pub use settings::{Settings, Written};
pub use shape::known_keys;
pub use source::{Kind, Source, nearest};
pub use tree::{Node, Place};

use crate::error::Result;
use serde::Deserialize as _;
use serde::de::DeserializeOwned;

/// One document: what it says, and where it says it.
#[derive(Debug)]
pub struct Document<T> {
    /// The raw form, structure checked and values as written.
    pub raw: T,
    /// The places of everything in it; a mapping.
    pub root: std::rc::Rc<Node>,
}

/// Reads every document of a text; empty ones are skipped.
pub fn read<T: DeserializeOwned>(source: &Source<'_>) -> Result<Vec<Document<T>>> {
    let roots = tree::read(source)?;
    for root in &roots {
        shape::check(source, root)?;
    }
    let mut raws = Vec::with_capacity(roots.len());
    for document in serde_yaml::Deserializer::from_str(source.text()) {
        match Option::<T>::deserialize(document) {
            Ok(Some(raw)) => raws.push(raw),
            Ok(None) => {}
            Err(error) => return Err(second_opinion(source, &error)),
        }
    }
    if raws.len() != roots.len() {
        let place = roots.last().map_or(Place::START, |root| root.place());
        return Err(source
            .error(place, "where its documents begin and end is ambiguous")
            .suggest(format!("put a line '---' between the documents of {}", source.file())));
    }
    Ok(raws.into_iter().zip(roots).map(|(raw, root)| Document { raw, root }).collect())
}

/// What only the second parser finds wrong, such as a control character. Its text may quote a value, so that only its
/// place is told where values are secret.
fn second_opinion(source: &Source<'_>, error: &serde_yaml::Error) -> crate::error::Error {
    let place = error.location().map_or(Place::START, |location| Place::new(location.line(), location.column()));
    let text = error.to_string();
    let reason = match text.split(" at line ").next() {
        Some(reason) if source.is_open(place) => reason,
        _ => "this is not valid YAML",
    };
    source.syntax_error(place, reason)
}

#[cfg(test)]
mod tests;
