//! `check`: every manifest and every instance, without a launcher: for people, for a hook before a commit, for a pipeline.

use super::{Answer, Format};
use crate::act::clock;
use crate::config::Config;
use crate::desired::registry::Registry;
use crate::desired::store::survey;
use crate::error::{Error, Result};
use crate::launcher::offline_settings;
use serde::Serialize;
use std::fmt::Write as _;

/// What a program reads: one object.
#[derive(Debug, Serialize)]
struct Report<'a> {
    /// Patterns that can be used.
    patterns: usize,
    /// Instances that are declared.
    instances: usize,
    /// What is wrong; none of it when the exit code is 0.
    findings: Vec<Finding<'a>>,
}

/// Something that is wrong; a part that is not known is null.
#[derive(Debug, Serialize)]
struct Finding<'a> {
    file: Option<&'a str>,
    /// From 1.
    line: Option<u32>,
    /// From 1.
    column: Option<u32>,
    code: &'static str,
    message: &'a str,
    cause: Option<&'a str>,
    suggestion: Option<&'a str>,
}

/// What is wrong, one line each, or one line that says how much is right; or all of it as one JSON object.
pub(super) fn check(config: &Config, format: Format) -> Result<Answer> {
    clock::boot()?;
    let now = clock::now();
    let found = survey(&offline_settings(config), &[], now);
    let mut registry = Registry::open(config.patterns_dir.clone());
    registry.refresh(now);
    let (patterns, instances) = (registry.manifests().count(), found.instances.len());
    let code = u8::from(!found.errors.is_empty());
    let text = match format {
        Format::Json => {
            let findings = found.errors.iter().map(Finding::of).collect();
            super::json(&Report { patterns, instances, findings })
        }
        Format::Text if found.errors.is_empty() => {
            format!("{} and {} are fine\n", counted(patterns, "pattern"), counted(instances, "instance"))
        }
        Format::Text => listed(&found.errors),
    };
    Ok(Answer { text, code })
}

fn listed(errors: &[Error]) -> String {
    let mut text = String::new();
    for error in errors {
        // Nothing fails here: it is written to a string.
        writeln!(text, "{}", located(error)).unwrap_or_default();
    }
    writeln!(text, "{}", counted(errors.len(), "error")).unwrap_or_default();
    text
}

impl<'a> Finding<'a> {
    fn of(error: &'a Error) -> Self {
        let (file, line, column) = place(error);
        // The message need not repeat what has a field of its own.
        let prefix = file
            .zip(line)
            .zip(column)
            .map(|((file, line), column)| format!("{file}:{line}:{column}: "))
            .unwrap_or_default();
        Self {
            file,
            line,
            column,
            code: error.code().as_str(),
            message: error.message().strip_prefix(&prefix).unwrap_or(error.message()),
            cause: error.cause(),
            suggestion: error.suggestion(),
        }
    }
}

/// Where an error is: its file, and line and column where they are known.
fn place(error: &Error) -> (Option<&str>, Option<u32>, Option<u32>) {
    let number = |part: &str| error.context_value(part).and_then(|text| text.parse().ok());
    // What is right by itself and asks for what is not there is told with the place of its document.
    let file = error.context_value("file").or_else(|| error.context_value("declared_at"));
    match (file, number("line")) {
        // Some name the line behind the file.
        (Some(file), None) => match file.rsplit_once(':').map(|(path, line)| (path, line.parse())) {
            Some((path, Ok(line))) => (Some(path), Some(line), None),
            _ => (Some(file), None, None),
        },
        (file, line) => (file, line, number("column")),
    }
}

/// The error behind its place, as editors and build tools read it.
fn located(error: &Error) -> String {
    let place: Vec<&str> = ["file", "line", "column"].iter().map_while(|part| error.context_value(part)).collect();
    if place.is_empty() {
        return error.to_string();
    }
    let place = place.join(":");
    // Most messages name the place themselves, for the log; once is enough here.
    format!("{place}: {}", error.to_string().replacen(&format!("] {place}: "), "] ", 1))
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use crate::error::Code;
    use std::fs;
    use std::path::Path;

    fn config(folder: &Path) -> Config {
        let settings = Settings {
            patterns_dir: Some(folder.join("patterns")),
            desired_dir: Some(vec![folder.join("desired")]),
            state_dir: Some(folder.join("state")),
            ..Settings::default()
        };
        fs::create_dir_all(folder.join("patterns/a")).unwrap();
        fs::create_dir_all(folder.join("desired")).unwrap();
        fs::write(folder.join("patterns/a/manifest.yaml"), "name: a\nversion: 1\nexecutable: sh\n").unwrap();
        fs::write(folder.join("desired/a.yaml"), "pattern: a\nnamespace: t\n").unwrap();
        Config::decide(settings, None).unwrap()
    }

    #[test]
    fn good_files_are_counted_and_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let answer = check(&config(folder.path()), Format::Text).unwrap();
        assert_eq!((answer.code, answer.text.as_str()), (0, "1 pattern and 1 instance are fine\n"));
        assert!(!folder.path().join("state").exists());
    }

    #[test]
    fn a_place_is_named_once() {
        let error = Error::new(Code::InvalidManifest, "p/manifest.yaml:4:1: unknown key")
            .with("file", "p/manifest.yaml")
            .with("line", 4)
            .with("column", 1);
        let said = located(&error);
        assert!(said.starts_with("p/manifest.yaml:4:1: [INVALID_MANIFEST] unknown key; Context"), "{said}");
    }

    #[test]
    fn each_error_begins_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        fs::write(folder.path().join("desired/b.yaml"), "pattern: a\nnamespace: u\nconfg: {}\n").unwrap();
        fs::write(folder.path().join("desired/c.yaml"), "pattern: a\nnamespace: t\n").unwrap();
        let answer = check(&config, Format::Text).unwrap();
        assert_eq!(answer.code, 1);
        let place = format!("{}/desired/b.yaml:3", folder.path().display());
        assert!(answer.text.lines().any(|line| line.starts_with(&place)), "{}", answer.text);
        assert!(answer.text.contains("DUPLICATE_INSTANCE"), "{}", answer.text);
        assert!(answer.text.ends_with("2 errors\n"), "{}", answer.text);
    }

    #[test]
    fn programs_read_one_object_with_every_place() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let read = || {
            let answer = check(&config, Format::Json).unwrap();
            (answer.code, serde_json::from_str::<serde_json::Value>(&answer.text).unwrap())
        };
        let (code, report) = read();
        assert_eq!((code, &report["patterns"], &report["instances"]), (0, &1.into(), &1.into()));
        assert_eq!(report["findings"], serde_json::json!([]));
        fs::write(folder.path().join("desired/b.yaml"), "pattern: a\nnamespace: u\nconfg: {}\n").unwrap();
        fs::write(folder.path().join("desired/c.yaml"), "\npattern: a\nnamespace: t\n").unwrap();
        fs::write(folder.path().join("desired/d.yaml"), "pattern: nobody\nnamespace: t\n").unwrap();
        let (code, report) = read();
        assert_eq!(code, 1);
        let findings = report["findings"].as_array().unwrap();
        let find = |file: &str| {
            let path = folder.path().join("desired").join(file).display().to_string();
            findings
                .iter()
                .find(|finding| finding["file"] == path.as_str())
                .unwrap_or_else(|| panic!("{file}: {report}"))
        };
        let unknown = find("b.yaml");
        assert_eq!(
            (&unknown["line"], &unknown["column"], &unknown["code"]),
            (&3.into(), &1.into(), &"INVALID_INSTANCE".into())
        );
        assert!(unknown["message"].as_str().unwrap().starts_with("unknown key 'confg'"), "{unknown}");
        assert!(unknown["suggestion"].as_str().unwrap().contains("config"), "{unknown}");
        let duplicate = find("c.yaml");
        assert_eq!((&duplicate["line"], &duplicate["code"]), (&2.into(), &"DUPLICATE_INSTANCE".into()));
        assert_eq!((&find("d.yaml")["line"], &find("d.yaml")["code"]), (&1.into(), &"PATTERN_NOT_FOUND".into()));
        assert_eq!(findings.len(), 3, "{report}");
    }
}
