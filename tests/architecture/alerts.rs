//! The alerts in `deploy/prometheus`, and whatever else names a metric, name metrics that exist.

use pattern_launcher::metrics::{Metrics, Standing};
use pattern_launcher::model::{DesiredStatus, Key};
use pattern_launcher::observed::ProbeOutcome;
use pattern_launcher::{Code, metrics::Labels};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

/// How every name begins.
const PREFIX: &str = "pattern_launcher_";

/// Every metric that a launcher can tell: its name, and the names of its labels.
fn told() -> BTreeMap<String, BTreeSet<String>> {
    let metrics = Metrics::new(Labels::default());
    let key = Key::parse("ns:a:p").unwrap();
    // What is counted by label is told once there is something to count.
    metrics.appeared(&key);
    metrics.failed(&key, Code::ProcessCrashed);
    metrics.probed(&key, &ProbeOutcome::Success);
    metrics.warmed_up(&key, Duration::from_millis(1));
    metrics.usage_begins(&key);
    metrics.used_cpu(&key, Duration::from_millis(1));
    metrics.holds_memory(&key, 1);
    let desired = DesiredStatus::default();
    let standing = Standing { statuses: &[], desired: &desired, ready: true, uptime: Duration::ZERO };
    let text = metrics.prometheus(&standing);
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let sample = line.rsplit_once(' ').unwrap().0;
        let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
        let labels = labels.split(',').filter_map(|pair| pair.split_once('=')).map(|(label, _)| label.to_owned());
        found.entry(name.to_owned()).or_default().extend(labels);
    }
    found
}

/// Every metric that a text names, with the labels by which it is selected.
fn named(text: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices(PREFIX) {
        let rest = &text[at..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let labels = after.strip_prefix('{').and_then(|inner| inner.split_once('}')).map_or("", |(inside, _)| inside);
        let label = |pair: &str| pair.split_once('=').map(|(label, _)| label.trim_end_matches(['!']).trim().to_owned());
        found.push((name.to_owned(), labels.split(',').filter_map(label).collect()));
    }
    found
}

fn read(path: &str) -> String {
    fs::read_to_string(crate::repository().join(path)).unwrap()
}

#[test]
fn whatever_the_alerts_ask_for_is_told() {
    let told = told();
    for path in ["deploy/prometheus/rules.yml", "deploy/prometheus/rules.test.yml", "deploy/prometheus/README.md"] {
        let named = named(&read(path));
        assert!(named.len() > 5, "{path} names {named:?}");
        for (name, labels) in named {
            let known = told.get(&name).unwrap_or_else(|| panic!("{path} names {name}, which no launcher tells"));
            for label in labels {
                // What the server adds to everything it scrapes.
                let added = label == "job" || label == "instance";
                assert!(added || known.contains(&label), "{path} asks for {name} by {label}; it has {known:?}");
            }
        }
    }
}

#[test]
fn every_alert_is_explained_and_tested() {
    let rules = read("deploy/prometheus/rules.yml");
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() >= 8, "{alerts:?}");
    let (readme, tests) = (read("deploy/prometheus/README.md"), read("deploy/prometheus/rules.test.yml"));
    for alert in alerts {
        assert!(readme.contains(&format!("| `{alert}` |")), "{alert} is not in the README beside it");
        let fires = tests.contains(&format!("alertname: {alert}\n        exp_alerts:"));
        assert!(fires, "no test of the rules shows {alert} firing");
        assert!(tests.contains(&format!("alertname: {alert} }}")), "no test of the rules shows {alert} silent");
    }
}

#[test]
fn every_metric_that_the_readme_names_is_told() {
    let told = told();
    for (name, _) in named(&read("README.md")).into_iter().filter(|(name, _)| name != PREFIX) {
        assert!(told.contains_key(&name), "the README names {name}, which no launcher tells");
    }
}

#[test]
fn an_unknown_name_would_be_found() {
    let text = "sum(pattern_launcher_nonsense_total{job=\"a\", other!=\"b\"}) + pattern_launcher_ready";
    let expected = [("pattern_launcher_nonsense_total", vec!["job", "other"]), ("pattern_launcher_ready", vec![])];
    let expected: Vec<(String, Vec<String>)> = expected
        .into_iter()
        .map(|(name, labels)| (name.to_owned(), labels.into_iter().map(str::to_owned).collect()))
        .collect();
    assert_eq!(named(text), expected);
}
