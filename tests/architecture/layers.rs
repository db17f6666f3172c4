//! Imports point downwards, pure files are pure, files stay readable.

use crate::source::{Source, crate_paths, names, shown};

/// The layers of `src`, from the bottom up. A module belongs to the longest prefix that fits; an import may go to its
/// own layer or to a lower one.
const LAYERS: &[&[&str]] = &[
    &["error", "model"],
    &[
        "metrics",
        "observed",
        "plan",
        "desired::bindings",
        "desired::fields",
        "desired::format",
        "desired::guard",
        "desired::instance_file",
        "desired::manifest",
        "desired::owner",
        "desired::resolve",
        "desired::root",
        "desired::schema",
        "desired::set",
        "desired::settle",
        "desired::sight",
        "desired::spec",
        "desired::yaml",
    ],
    &["act", "desired", "probe"],
    &["reconciler"],
    &["api", "config", "control", "health", "http", "launcher", "socket", "telemetry"],
    &["bin", "cli", "testing"],
];

/// Modules that decide and never act.
const PURE: &[&str] = &[
    "error",
    "model",
    "observed",
    "plan",
    "reconciler::engine",
    "desired::bindings",
    "desired::fields",
    "desired::format",
    "desired::guard",
    "desired::instance_file",
    "desired::manifest",
    "desired::owner",
    "desired::resolve",
    "desired::root",
    "desired::schema",
    "desired::set",
    "desired::settle",
    "desired::sight",
    "desired::spec",
    "desired::yaml",
];

/// What only code that acts may name.
const IMPURE: &[&str] = &[
    "Instant",
    "SystemTime",
    "libc",
    "hyper",
    "notify",
    "rustix",
    "std::env",
    "std::fs",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    "tokio",
    "tracing",
];

/// The most lines of a file.
const LINES: usize = 500;

/// The re-exports of the library: everybody may name them by `crate::`.
const ROOT_ITEMS: &[&str] = &["Code", "Error", "Result", "self"];

/// Whether `module` is `prefix` or lies below it.
fn within(module: &str, prefix: &str) -> bool {
    module.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The layer of a module path, counted from the bottom; `None` when no layer names it.
fn layer(module: &str) -> Option<usize> {
    let fitting = LAYERS.iter().enumerate().flat_map(|(height, modules)| modules.iter().map(move |m| (height, *m)));
    fitting
        .filter(|(_, prefix)| within(module, prefix))
        .max_by_key(|(_, prefix)| prefix.len())
        .map(|(height, _)| height)
}

/// What is wrong with the imports of one file.
fn upward_imports(module: &[String], code: &str) -> Vec<String> {
    let own = module.join("::");
    let Some(height) = layer(&own) else { return vec![format!("{own} is in no layer")] };
    let mut wrong = Vec::new();
    for path in crate_paths(module, code) {
        let path = path.join("::");
        match layer(&path) {
            Some(target) if target > height => wrong.push(format!("{own} imports {path}, which is above it")),
            None if !ROOT_ITEMS.contains(&path.as_str()) => wrong.push(format!("{own} imports {path}, in no layer")),
            _ => {}
        }
    }
    wrong
}

/// What a pure file names that it may not.
fn impurities(code: &str) -> Vec<&'static str> {
    IMPURE.iter().copied().filter(|name| names(code, name)).collect()
}

/// The library's own files; `lib.rs` composes all layers and belongs to none.
fn layered_files() -> Vec<Source> {
    Source::all("src").into_iter().filter(|source| !source.module().is_empty()).collect()
}

#[test]
fn imports_point_downwards() {
    let wrong: Vec<String> =
        layered_files().iter().flat_map(|source| upward_imports(&source.module(), &source.code())).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_upward_import_is_found() {
    let module = ["plan".to_owned(), "decide".to_owned()];
    assert_eq!(
        upward_imports(&module, "use crate::{model::Key, act::Host};"),
        ["plan::decide imports act::Host, which is above it"]
    );
    assert_eq!(upward_imports(&module, "use super::super::desired::scan::Scan;").len(), 1);
    assert_eq!(upward_imports(&module, "use crate::nowhere::X;").len(), 1);
    assert!(upward_imports(&module, "use crate::desired::spec::InstanceSpec; use super::effect::Effect;").is_empty());
}

#[test]
fn pure_files_name_nothing_that_acts() {
    let mut wrong = Vec::new();
    for source in layered_files() {
        let module = source.module().join("::");
        if PURE.iter().any(|prefix| within(&module, prefix)) {
            let found = impurities(&source.code());
            wrong.extend(found.iter().map(|name| format!("{} names {name}", shown(&source.path))));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_impure_name_is_found() {
    assert_eq!(
        impurities("use std::fs; fn f(now: Instant) { tokio::spawn(async {}); tracing::info!(\"\"); }"),
        ["Instant", "std::fs", "tokio", "tracing"]
    );
    assert!(impurities("use crate::model::Instance; let fs = 1;").is_empty());
}

#[test]
fn every_rule_names_a_module_that_exists() {
    let modules: Vec<String> = layered_files().iter().map(|source| source.module().join("::")).collect();
    let named = PURE.iter().chain(LAYERS.iter().copied().flatten());
    let absent: Vec<_> = named.filter(|rule| !modules.iter().any(|module| within(module, rule))).collect();
    // `api` and `metrics` have their place before they have their code.
    let expected = ["api", "metrics"];
    assert!(absent.iter().all(|rule| expected.contains(rule)), "rules without a module: {absent:?}");
}

#[test]
fn files_stay_readable() {
    let folders = ["src", "tests", "examples", "benches"];
    let long: Vec<String> = folders
        .iter()
        .flat_map(|folder| Source::all(folder))
        .map(|source| (source.text.lines().count(), source.path))
        .filter(|(lines, _)| *lines > LINES)
        .map(|(lines, path)| format!("{} has {lines} lines", shown(&path)))
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn there_is_one_module_style() {
    let all = Source::all("src");
    let old: Vec<_> = all.iter().filter(|source| source.path.ends_with("mod.rs")).map(|s| shown(&s.path)).collect();
    assert!(old.is_empty(), "write foo.rs beside foo/, not foo/mod.rs: {old:?}");
}
