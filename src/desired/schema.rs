//! The JSON Schemas of the two file formats, for editors. The keys that the readers know are read from them, too, so
//! that the two cannot differ.

use super::format::{RawInstance, RawManifest};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};
use std::sync::LazyLock;

/// The schema of `manifest.yaml`.
pub fn manifest_schema() -> Value {
    manifest().clone()
}

/// The schema of one document of a desired file.
pub fn instance_schema() -> Value {
    instance().clone()
}

pub(super) fn manifest() -> &'static Value {
    static SCHEMA: LazyLock<Value> = LazyLock::new(schema_of::<RawManifest>);
    &SCHEMA
}

pub(super) fn instance() -> &'static Value {
    static SCHEMA: LazyLock<Value> = LazyLock::new(schema_of::<RawInstance>);
    &SCHEMA
}

fn schema_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    close(&mut schema);
    schema
}

/// Refuses unknown keys in every object that has known ones, and lets those that begin with `x-` be free.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            object.values_mut().for_each(close);
            if object.get("properties").is_some_and(|properties| properties.get("type").is_none_or(Value::is_object)) {
                object.insert("additionalProperties".to_owned(), json!(false));
                object.insert("patternProperties".to_owned(), json!({ "^x-": {} }));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
