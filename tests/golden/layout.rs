//! Records of launchers with fewer fields, with more, or with another order of them.

use crate::left::Left;
use pattern_launcher::model::{Memory, RunRecord};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::fmt::Debug;

/// What the absence of a field means that earlier layouts did not have.
fn absent(name: &str) -> Option<Value> {
    match name {
        "streak" | "restarts" => Some(json!(0)),
        "circuit" => Some(json!("closed")),
        "rollout" => Some(json!("none")),
        "api_managed" | "signalled" => Some(json!(false)),
        "resources" => Some(json!({})),
        _ => None,
    }
}

/// Objects whose keys are names that users chose, of which one alternative is named, or that are never extended.
const NO_RECORDS: [&str; 8] =
    ["config", "environment", "circuit", "exit", "isolation", "target", "asked_by", "since_boot"];

/// Does something to every record within a record.
fn every_record(value: &mut Value, change: &dyn Fn(&mut Map<String, Value>)) {
    let Value::Object(fields) = value else { return };
    for (name, field) in fields.iter_mut() {
        if !NO_RECORDS.contains(&name.as_str()) && name != "by" {
            every_record(field, change);
        }
    }
    change(fields);
}

fn as_was<T: Serialize + DeserializeOwned + PartialEq + Debug>(record: &T) {
    let written = serde_json::to_value(record).unwrap();
    let read = |value: Value, what: &str| {
        let found: T = serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{what}: {error}: {value}"));
        assert_eq!(found, *record, "{what}");
    };
    let mut fewer = written.clone();
    every_record(&mut fewer, &|fields| {
        fields.retain(|name, value| absent(name).is_none_or(|absent| *value != absent));
    });
    read(fewer, "fewer fields");
    let mut more = written.clone();
    every_record(&mut more, &|fields| {
        fields.insert("a_field_of_a_later_launcher".to_owned(), json!({ "unknown": [1, null, "text"] }));
    });
    read(more, "more fields");
    let mut otherwise = written.clone();
    every_record(&mut otherwise, &|fields| {
        *fields = std::mem::take(fields).into_iter().rev().collect();
    });
    read(otherwise, "another order");
}

#[test]
fn fewer_fields_more_fields_and_another_order_mean_the_same() {
    let left = Left::by_version_1();
    assert!(left.loaded.memories.len() > 10 && left.loaded.runs.len() > 10);
    left.loaded.memories.iter().for_each(as_was::<Memory>);
    left.loaded.runs.iter().for_each(as_was::<RunRecord>);
}
