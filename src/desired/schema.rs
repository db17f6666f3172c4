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

#[cfg(test)]
mod tests {
    use super::super::yaml::known_keys;
    use super::*;

    #[test]
    fn the_schema_names_every_key_of_the_contract() {
        let keys = |schema: &Value| known_keys(schema).map(str::to_owned).collect::<Vec<_>>().join(" ");
        assert_eq!(
            keys(manifest()),
            "name version executable args isolation_level minimum_isolation healthcheck resources environment \
             backend_slots lifecycle user group umask nice oom_score_adj rlimits protection description author"
        );
        assert_eq!(
            keys(instance()),
            "pattern isolation namespace namespaces session config slots credentials resources grace_period \
             state ttl"
        );
        let at = |pointer: &str| keys(manifest().pointer(pointer).expect(pointer));
        assert_eq!(
            at("/properties/healthcheck"),
            "type port path command interval timeout failure_threshold success_threshold startup_timeout \
             answered_by"
        );
        assert_eq!(
            at("/properties/resources"),
            "cpu_limit memory_limit cpu_request memory_request pids_limit oom_policy"
        );
        assert_eq!(at("/properties/lifecycle"), "stop_signal grace_period restart");
        assert_eq!(at("/properties/backend_slots/items"), "name type required");
    }

    #[test]
    fn unknown_keys_are_closed_and_x_keys_free_at_every_level() {
        for pointer in ["", "/properties/healthcheck", "/properties/backend_slots/items"] {
            let schema = manifest_schema().pointer(pointer).expect(pointer).clone();
            assert_eq!(schema["additionalProperties"], json!(false), "{pointer}");
            assert_eq!(schema["patternProperties"], json!({ "^x-": {} }), "{pointer}");
        }
        assert_eq!(manifest()["required"], json!(["name", "version", "executable"]));
        assert_eq!(instance()["required"], json!(["pattern"]));
    }

    #[test]
    fn every_key_is_described() {
        for schema in [manifest(), instance()] {
            for (key, property) in schema["properties"].as_object().expect("properties") {
                assert!(property["description"].is_string(), "{key}: {property}");
            }
        }
    }
}
