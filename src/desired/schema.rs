//! The JSON Schemas of the two file formats, for editors; the list of known keys is read from them, too.

use serde_json::Value;

/// The schema of `manifest.yaml`.
pub fn manifest_schema() -> Value {
    todo!()
}

/// The schema of one document of a desired file.
pub fn instance_schema() -> Value {
    todo!()
}
