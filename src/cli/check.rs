//! `check`: every manifest and every instance, without a launcher.

use super::Answer;
use crate::act::clock;
use crate::config::Config;
use crate::desired::registry::Registry;
use crate::desired::store::survey;
use crate::error::{Error, Result};
use crate::launcher::offline_settings;
use std::fmt::Write as _;

/// What is wrong, one line each, or one line that says how much is right.
pub(super) fn check(config: &Config) -> Result<Answer> {
    clock::boot()?;
    let now = clock::now();
    let found = survey(&offline_settings(config), &[], now);
    if found.errors.is_empty() {
        let mut registry = Registry::open(config.patterns_dir.clone());
        registry.refresh(now);
        return Ok(Answer::fine(format!(
            "{} and {} are fine\n",
            counted(registry.manifests().count(), "pattern"),
            counted(found.instances.len(), "instance")
        )));
    }
    let mut text = String::new();
    for error in &found.errors {
        // Nothing fails here: it is written to a string.
        writeln!(text, "{}", located(error)).unwrap_or_default();
    }
    writeln!(text, "{}", counted(found.errors.len(), "error")).unwrap_or_default();
    Ok(Answer { text, code: 1 })
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
        let answer = check(&config(folder.path())).unwrap();
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
        let answer = check(&config).unwrap();
        assert_eq!(answer.code, 1);
        let place = format!("{}/desired/b.yaml:3", folder.path().display());
        assert!(answer.text.lines().any(|line| line.starts_with(&place)), "{}", answer.text);
        assert!(answer.text.contains("DUPLICATE_INSTANCE"), "{}", answer.text);
        assert!(answer.text.ends_with("2 errors\n"), "{}", answer.text);
    }
}
