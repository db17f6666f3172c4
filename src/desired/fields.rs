//! What single fields mean, with errors that point to them. Shared by the readers of both file formats.

use super::bindings::{self, Fault};
use super::format::RawResources;
use super::yaml::{Node, Settings, Source, Written, nearest};
use crate::error::{Error, Result};
use crate::model::{OomPolicy, Resources, Secret, units};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

/// The longest of any duration: a day. What is longer is a slip of the pen.
pub(crate) const DAY: Duration = Duration::from_secs(86_400);
/// The shortest duration of anything that is done again and again.
pub(super) const SHORTEST: Duration = Duration::from_millis(1);
/// The most cores, in thousandths: more than any machine has.
const CPU_LIMIT: u64 = 10_000_000;

/// A document's fields by their paths.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    pub(super) source: &'a Source<'a>,
    pub(super) root: &'a Node,
}

impl Fields<'_> {
    /// An error about the value at a path.
    pub(super) fn error(&self, path: &[&str], message: &str) -> Error {
        self.source.error(self.root.place_of(path), message)
    }

    /// An error about the key at a path.
    pub(super) fn key_error(&self, path: &[&str], message: &str) -> Error {
        self.source.error(self.root.place_of_key(path), message)
    }

    /// A field that must be there and not be empty.
    pub(super) fn required(&self, path: &[&str], value: Option<&Written>, example: &str) -> Result<String> {
        let name = path.join(".");
        match value.map(Written::as_str) {
            None => Err(self
                .error(path, &format!("'{name}' is missing"))
                .suggest(format!("add '{}: {example}'", path.last().unwrap_or(&"")))),
            Some(text) if text.trim().is_empty() => Err(self
                .error(path, &format!("'{name}' is empty"))
                .suggest(format!("write a value, such as {example}"))),
            Some(text) => self.text(path, text),
        }
    }

    /// A text that can be given to a process.
    pub(super) fn text(&self, path: &[&str], text: &str) -> Result<String> {
        if text.contains('\0') {
            return Err(self.error(path, &format!("'{}' contains a NUL character", path.join("."))));
        }
        Ok(text.to_owned())
    }

    /// A list of texts that can be given to a process.
    pub(super) fn texts(&self, path: &[&str], texts: Option<Vec<Written>>) -> Result<Vec<String>> {
        let check = |(i, text): (usize, Written)| {
            let number = i.to_string();
            self.text(&[path, &[number.as_str()]].concat(), text.as_str())
        };
        texts.unwrap_or_default().into_iter().enumerate().map(check).collect()
    }

    /// A duration within a range.
    pub(super) fn duration(
        &self,
        path: &[&str],
        value: Option<&Written>,
        range: RangeInclusive<Duration>,
    ) -> Result<Option<Duration>> {
        let Some(written) = value else { return Ok(None) };
        let name = path.join(".");
        let duration = units::parse_duration(written.as_str())
            .map_err(|reason| self.error(path, &format!("'{name}': {reason}")))?;
        if range.contains(&duration) {
            return Ok(Some(duration));
        }
        let [shortest, longest] = [range.start(), range.end()].map(|bound| units::format_duration(*bound));
        let found = Error::echo(written.as_str());
        Err(self.error(path, &format!("'{name}' must be {shortest} to {longest}, and is '{found}'")))
    }

    /// A whole number within a range.
    pub(super) fn number(
        &self,
        path: &[&str],
        value: Option<&Written>,
        range: RangeInclusive<u64>,
    ) -> Result<Option<u64>> {
        let Some(written) = value else { return Ok(None) };
        let text = written.as_str();
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match text.parse() {
            Ok(number) if digits && range.contains(&number) => Ok(Some(number)),
            _ => {
                let bound = if *range.end() == u64::MAX { "or more".to_owned() } else { format!("to {}", range.end()) };
                let name = path.join(".");
                let message = format!(
                    "'{name}' must be a whole number, {} {bound}, and is '{}'",
                    range.start(),
                    Error::echo(text)
                );
                Err(self.error(path, &message))
            }
        }
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &self,
        path: &[&str],
        value: Option<&Written>,
        choices: &[(&str, T)],
    ) -> Result<Option<T>> {
        let Some(written) = value else { return Ok(None) };
        if let Some((_, choice)) = choices.iter().find(|(word, _)| *word == written.as_str()) {
            return Ok(Some(*choice));
        }
        let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
        let found = Error::echo(written.as_str());
        let error =
            self.error(path, &format!("'{}' must be {}, and is '{found}'", path.join("."), alternatives(&words)));
        let part = written.as_str().to_lowercase();
        let whole = |word: &&str| part.len() >= 3 && word.to_lowercase().contains(&part);
        let meant = nearest(written.as_str(), words.iter().copied()).or_else(|| words.iter().copied().find(whole));
        Err(match meant {
            Some(meant) => error.suggest(format!("write '{meant}' in place of '{found}'")),
            None => error,
        })
    }

    /// Limits and requests. That no request is above its limit is checked once all overrides are known.
    pub(super) fn resources(&self, raw: Option<&RawResources>) -> Result<Resources> {
        let Some(raw) = raw else { return Ok(Resources::default()) };
        let resources = Resources {
            cpu_limit_millis: self.cores("cpu_limit", raw.cpu_limit.as_ref())?,
            memory_limit: self.size("memory_limit", raw.memory_limit.as_ref())?,
            cpu_request_millis: self.cores("cpu_request", raw.cpu_request.as_ref())?,
            memory_request: self.size("memory_request", raw.memory_request.as_ref())?,
            pids_limit: self.number(&["resources", "pids_limit"], raw.pids_limit.as_ref(), 1..=u64::from(u32::MAX))?,
            oom_policy: self.choice(
                &["resources", "oom_policy"],
                raw.oom_policy.as_ref(),
                &[OomPolicy::Kill, OomPolicy::Continue].map(|policy| (policy.as_str(), policy)),
            )?,
        };
        match excess(&resources) {
            None => Ok(resources),
            Some((request, limit)) => {
                let message = format!("'{request}' is more than '{limit}'");
                Err(self
                    .error(&["resources", request], &message)
                    .suggest(format!("raise '{limit}' or lower '{request}'")))
            }
        }
    }

    fn cores(&self, name: &str, value: Option<&Written>) -> Result<Option<u64>> {
        let Some(written) = value else { return Ok(None) };
        match parse_cores(written.as_str()) {
            Some(millis) if (1..=CPU_LIMIT).contains(&millis) => Ok(Some(millis)),
            _ => {
                let found = Error::echo(written.as_str());
                let message = format!("'resources.{name}' must be a number of cores above 0, and is '{found}'");
                Err(self.error(&["resources", name], &message).suggest("write it as 0.5, 2 or 500m"))
            }
        }
    }

    fn size(&self, name: &str, value: Option<&Written>) -> Result<Option<u64>> {
        let Some(written) = value else { return Ok(None) };
        let path = ["resources", name];
        match units::parse_size(written.as_str()) {
            Ok(0) => Err(self.error(&path, &format!("'resources.{name}' must be more than 0"))),
            Ok(bytes) => Ok(Some(bytes)),
            Err(reason) => Err(self.error(&path, &format!("'resources.{name}': {reason}"))),
        }
    }

    /// Environment variables whose names are valid and not the launcher's own.
    pub(super) fn variables(&self, key: &str, settings: Option<Settings>) -> Result<BTreeMap<String, Secret>> {
        let variables = settings.unwrap_or_default().0;
        for (name, value) in &variables {
            let path = [key, name.as_str()];
            bindings::check_variable(key, name).map_err(|fault| self.fault(&path, fault))?;
            self.value(&path, value)?;
        }
        Ok(variables)
    }

    /// Checks that a value can stand in an environment.
    pub(super) fn value(&self, path: &[&str], value: &Secret) -> Result<()> {
        bindings::check_value(path, value).map_err(|fault| self.fault(path, fault))
    }

    /// What is wrong with a binding, as an error about its key.
    pub(super) fn fault(&self, path: &[&str], fault: Fault) -> Error {
        let error = self.key_error(path, &fault.message);
        match fault.suggestion {
            Some(suggestion) => error.suggest(suggestion),
            None => error,
        }
    }
}

/// `a, b or c`.
pub(super) fn alternatives(words: &[&str]) -> String {
    match words.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

/// The request that is above its limit, and that limit.
pub(super) fn excess(resources: &Resources) -> Option<(&'static str, &'static str)> {
    let above = |request: Option<u64>, limit: Option<u64>| request.zip(limit).is_some_and(|(r, l)| r > l);
    if above(resources.cpu_request_millis, resources.cpu_limit_millis) {
        Some(("cpu_request", "cpu_limit"))
    } else if above(resources.memory_request, resources.memory_limit) {
        Some(("memory_request", "memory_limit"))
    } else {
        None
    }
}

/// Reads `1`, `0.5` or `500m` as thousandths of a core; what is finer than a thousandth is cut off.
pub(super) fn parse_cores(text: &str) -> Option<u64> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if let Some(millis) = text.strip_suffix('m') {
        return if digits(millis) { millis.parse().ok() } else { None };
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let thousandths: String = fraction.chars().chain("00".chars()).take(3).collect();
    whole.parse::<u64>().ok()?.checked_mul(1_000)?.checked_add(thousandths.parse().ok()?)
}
