//! The samples of the repository are good: their files parse, and they refer to each other.

use pattern_launcher::desired::{Author, InstanceSpec, parse_instances, parse_manifest};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

/// The sample patterns, by the names of their folders.
fn patterns() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(crate::repository().join("patterns")).unwrap() {
        let folder = entry.unwrap().path();
        let path = folder.join("manifest.yaml");
        let manifest = parse_manifest(&path, &folder, &fs::read(&path).unwrap()).unwrap();
        names.insert(manifest.name.as_str().to_owned());
    }
    names
}

/// The sample instances, those included that are only declared where a program is installed.
fn instances() -> Vec<(PathBuf, InstanceSpec)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(crate::repository().join("desired")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let specs = parse_instances(&path, &fs::read(&path).unwrap(), Author::Person).unwrap();
            found.extend(specs.into_iter().map(|spec| (path.clone(), spec)));
        }
    }
    found
}

#[test]
fn sample_manifests_parse() {
    let names = patterns();
    assert!(names.contains("hello") && names.contains("static-files"), "{names:?}");
}

#[test]
fn sample_instances_parse_and_name_sample_patterns() {
    let patterns = patterns();
    let instances = instances();
    for (path, spec) in &instances {
        assert!(patterns.contains(spec.pattern.as_str()), "{} names {}", path.display(), spec.pattern.as_str());
    }
    let hello: Vec<_> = instances.iter().filter(|(_, spec)| spec.pattern.as_str() == "hello").collect();
    assert!(hello.iter().any(|(_, spec)| spec.namespace.is_some()), "no sample by namespace");
    assert!(hello.iter().any(|(_, spec)| spec.namespace.is_none()), "no shared sample");
}
