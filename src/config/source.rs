//! Where settings come from: a file and the environment.

use super::settings::Settings;
use crate::error::{Code, Error, Result};
use clap::{Args as _, FromArgMatches as _};
use std::collections::BTreeMap;
use std::path::Path;

/// What every variable begins with.
pub const ENV_PREFIX: &str = "PATTERN_LAUNCHER_";
/// The variable that names the configuration file.
pub const ENV_CONFIG: &str = "PATTERN_LAUNCHER_CONFIG";
/// A configuration file larger than this is refused unread: a person's is a few kilobytes.
const FILE_LIMIT: u64 = 1 << 20;

/// Reads a TOML file.
///
/// # Errors
/// `INVALID_CONFIGURATION`, with file, line and column where the file's content is at fault.
pub(super) fn read_file(path: &Path) -> Result<Settings> {
    let unreadable = |cause: &dyn std::error::Error| {
        Error::new(Code::InvalidConfiguration, "the configuration file cannot be read")
            .with("file", path.display())
            .caused_by(cause)
            .suggest(format!("ls -l {}, or leave out --config", path.display()))
    };
    let size = std::fs::metadata(path).map_err(|e| unreadable(&e))?.len();
    if size > FILE_LIMIT {
        return Err(Error::new(Code::InvalidConfiguration, "the configuration file is too large")
            .with("file", path.display())
            .with("bytes", size)
            .suggest(format!("keep it under {FILE_LIMIT} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|e| unreadable(&e))?;
    parse_file(path, &text)
}

/// Reads the text of a TOML file.
///
/// # Errors
/// As [`read_file`].
pub(super) fn parse_file(path: &Path, text: &str) -> Result<Settings> {
    toml::from_str(text).map_err(|error| {
        let (line, column) = error.span().map_or((1, 1), |span| line_and_column(text, span.start));
        let shown = text.lines().nth(line - 1).unwrap_or("").trim_end();
        let mut refusal = Error::new(Code::InvalidConfiguration, "the configuration file cannot be used")
            .with("file", format!("{}:{line}:{column}", path.display()))
            .with("line", format!("'{}'", Error::echo(shown)))
            .because(first_sentence(error.message()));
        let unknown = unknown_key(error.message());
        refusal = match unknown.and_then(|key| nearest(key, expected_keys(error.message()))) {
            Some(known) => refusal.suggest(format!("write '{known}' in line {line} of {}", path.display())),
            None => refusal.suggest(format!(
                "correct line {line} of {}; pattern-launcher schema config prints every key",
                path.display()
            )),
        };
        refusal
    })
}

/// Reads the variables that begin with `PATTERN_LAUNCHER_`; the second part is what people should be told: variables
/// of that kind that are no settings. They are no errors, since a Kubernetes service named `pattern-launcher` puts
/// variables of such names into every environment of its namespace. An empty variable counts as absent.
///
/// # Errors
/// `INVALID_CONFIGURATION`, naming the variable.
pub(super) fn read_environment(variables: &BTreeMap<String, String>) -> Result<(Settings, Vec<String>)> {
    let command = Settings::augment_args(clap::Command::new("environment").no_binary_name(true))
        .disable_help_flag(true)
        .disable_version_flag(true);
    let known: Vec<String> = flag_names().iter().map(|flag| variable_of(flag)).collect();
    let mut arguments = Vec::new();
    let mut remarks = Vec::new();
    let ours = variables.iter().filter(|(name, value)| name.starts_with(ENV_PREFIX) && !value.is_empty());
    for (name, value) in ours.filter(|(name, _)| *name != ENV_CONFIG) {
        if !known.contains(name) {
            let hint = nearest(name, known.iter().map(String::as_str));
            remarks.push(match hint {
                Some(hint) => format!("{name} is no setting and is ignored; nearest: {hint}"),
                None => format!("{name} is no setting and is ignored"),
            });
            continue;
        }
        let flag = flag_of(name);
        let parts: Vec<String> = match flag.as_str() {
            "desired-dir" => value.split(':').filter(|part| !part.is_empty()).map(str::to_owned).collect(),
            "desired" | "credentials-dir" | "namespace-limits" => {
                value.split(';').filter(|part| !part.is_empty()).map(str::to_owned).collect()
            }
            _ => vec![value.clone()],
        };
        let these: Vec<String> = parts.iter().map(|part| format!("--{flag}={part}")).collect();
        command.clone().try_get_matches_from(&these).map_err(|error| refused_variable(name, value, &error))?;
        arguments.extend(these);
    }
    let settings = command
        .try_get_matches_from(&arguments)
        .and_then(|matches| Settings::from_arg_matches(&matches))
        .map_err(|error| refused_variable(ENV_PREFIX, "", &error))?;
    Ok((settings, remarks))
}

/// The long flag of every setting, such as `resync-interval`.
pub(super) fn flag_names() -> Vec<String> {
    Settings::augment_args(clap::Command::new("settings"))
        .get_arguments()
        .filter_map(|argument| argument.get_long().map(str::to_owned))
        .collect()
}

fn variable_of(flag: &str) -> String {
    format!("{ENV_PREFIX}{}", flag.replace('-', "_").to_uppercase())
}

fn flag_of(variable: &str) -> String {
    variable.trim_start_matches(ENV_PREFIX).to_lowercase().replace('_', "-")
}

fn refused_variable(name: &str, value: &str, error: &clap::Error) -> Error {
    let cause = std::error::Error::source(error).map_or_else(
        || error.to_string().lines().next().unwrap_or("").trim_start_matches("error: ").to_owned(),
        ToString::to_string,
    );
    Error::new(Code::InvalidConfiguration, "an environment variable cannot be used")
        .with("variable", name)
        .with("value", format!("'{}'", Error::echo(value)))
        .because(cause)
        .suggest(format!("correct or unset {name}; pattern-launcher --help describes its flag --{}", flag_of(name)))
}

fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    (line, column)
}

fn first_sentence(message: &str) -> String {
    message.split(", expected one of").next().unwrap_or(message).replace('`', "'").replace('\n', "; ")
}

fn unknown_key(message: &str) -> Option<&str> {
    message.strip_prefix("unknown field `")?.split('`').next()
}

fn expected_keys(message: &str) -> impl Iterator<Item = &str> {
    message.split_once("expected ").map_or("", |(_, list)| list).split('`').skip(1).step_by(2)
}

/// The name nearest to `wrong`, if one is near enough to be meant.
pub fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|name| (strsim::damerau_levenshtein(wrong, name), name))
        .filter(|(distance, name)| *distance <= 1 + name.len().min(wrong.len()) / 4)
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::super::value::Span;
    use super::*;
    use std::collections::BTreeSet;
    use std::time::Duration;

    fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn flags_variables_and_file_keys_are_the_same_names() {
        let flags: BTreeSet<String> = flag_names().into_iter().map(|flag| flag.replace('-', "_")).collect();
        let schema = serde_json::to_value(schemars::schema_for!(Settings)).unwrap();
        let keys: BTreeSet<String> = schema["properties"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(flags, keys);
        for flag in flag_names() {
            let refused = read_environment(&variables(&[(&variable_of(&flag), "\u{1}")]));
            let ignored = refused.as_ref().is_ok_and(|(settings, _)| *settings == Settings::default());
            assert!(!ignored, "{} is not read", variable_of(&flag));
        }
        assert_eq!(read_environment(&variables(&[("PATTERN_LAUNCHER_PATTERNS", "x")])).unwrap().1.len(), 1);
    }

    #[test]
    fn an_unknown_key_names_the_nearest_and_its_place() {
        let error = parse_file(Path::new("launcher.toml"), "max_errors = 3\nresync_intervall = \"5s\"\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "[INVALID_CONFIGURATION] the configuration file cannot be used; Context: file=launcher.toml:2:1, \
             line='resync_intervall = \\\"5s\\\"'; Cause: unknown field 'resync_intervall'; \
             Suggestion: write 'resync_interval' in line 2 of launcher.toml"
        );
    }

    #[test]
    fn a_bad_value_names_its_place() {
        let error = parse_file(Path::new("x.toml"), "\nresync_interval = \"soon\"").unwrap_err();
        assert_eq!(error.context_value("file"), Some("x.toml:2:19"));
        assert!(error.cause().unwrap().contains("not a duration"), "{error}");
        assert!(parse_file(Path::new("x.toml"), "max_errors = 1\nmax_errors = 2").is_err());
        assert!(parse_file(Path::new("x.toml"), "[[desired]]\npath = 'a'\nnamespace = ['x']").is_err());
    }

    #[test]
    fn a_variable_reads_like_its_flag() {
        let (settings, remarks) = read_environment(&variables(&[
            ("PATTERN_LAUNCHER_RESYNC_INTERVAL", "3s"),
            ("PATTERN_LAUNCHER_DESIRED_DIR", "a:b"),
            ("PATTERN_LAUNCHER_INHERIT_ENV", "A,B"),
            ("PATTERN_LAUNCHER_STATE_DIR", ""),
            ("PATTERN_LAUNCHER_CONFIG", "other.toml"),
            ("PATTERN_LAUNCHER_PORT", "tcp://10.0.0.1:80"),
            ("HOME", "/"),
        ]))
        .unwrap();
        assert_eq!(settings.resync_interval, Some(Span(Duration::from_secs(3))));
        assert_eq!(settings.desired_dir, Some(vec!["a".into(), "b".into()]));
        assert_eq!(settings.inherit_env.map(|names| names.len()), Some(2));
        assert_eq!(settings.state_dir, None);
        assert_eq!(remarks.len(), 1);
    }

    #[test]
    fn a_bad_variable_is_named() {
        let error = read_environment(&variables(&[("PATTERN_LAUNCHER_MAX_ERRORS", "many")])).unwrap_err();
        assert_eq!(error.code(), Code::InvalidConfiguration);
        assert_eq!(error.context_value("variable"), Some("PATTERN_LAUNCHER_MAX_ERRORS"));
    }
}
