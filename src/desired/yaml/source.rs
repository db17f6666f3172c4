//! The text of a file, and errors that point into it.

use super::tree::Place;
use crate::error::{Code, Error, Result};
use serde_json::Value;
use std::path::Path;

/// The most bytes of a file; an instance has some hundred.
const SIZE_LIMIT: usize = 256 * 1024;
/// The most characters of a source line that an error shows.
const SHOWN_LIMIT: usize = 100;

/// A kind of file.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// The code of its errors.
    pub code: Code,
    /// Its JSON Schema, which says what keys there are.
    pub schema: &'static Value,
    /// Top-level keys whose values are never shown.
    pub secret: &'static [&'static str],
}

/// A text whose size and encoding have been checked.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    path: &'a Path,
    text: &'a str,
    kind: Kind,
}

impl<'a> Source<'a> {
    /// Checks size and encoding; a byte order mark is skipped.
    pub fn new(path: &'a Path, bytes: &'a [u8], kind: Kind) -> Result<Self> {
        let unread = Self { path, text: "", kind };
        if bytes.len() > SIZE_LIMIT {
            let message = format!("the file has {} bytes, more than {SIZE_LIMIT}", bytes.len());
            return Err(unread
                .error(Place::START, &message)
                .suggest(format!("split {} into smaller files", path.display())));
        }
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Self { text, ..unread }),
            Err(error) => {
                let good = std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default();
                let line = good.matches('\n').count() + 1;
                let column = good.rsplit('\n').next().map_or(0, |tail| tail.chars().count()) + 1;
                Err(unread
                    .error(Place::new(line, column), "the file is not valid UTF-8")
                    .suggest(format!("convert it: iconv -t UTF-8 {0} > {0}.new && mv {0}.new {0}", path.display())))
            }
        }
    }

    /// The text without byte order mark.
    pub const fn text(&self) -> &'a str {
        self.text
    }

    /// The file as errors name it.
    pub fn file(&self) -> std::path::Display<'a> {
        self.path.display()
    }

    /// The same text, with another code for its errors.
    #[must_use]
    pub const fn with_code(self, code: Code) -> Self {
        Self { kind: Kind { code, ..self.kind }, ..self }
    }

    /// What kind of file it is.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// An error at a place, with the line it is about.
    pub fn error(&self, place: Place, message: &str) -> Error {
        let file = self.file();
        let error = Error::new(self.kind.code, format!("{file}:{place}: {message}"))
            .with("file", file)
            .with("line", place.line)
            .with("column", place.column);
        match self.shown(place) {
            Some(shown) => error.because(shown),
            None => error,
        }
    }

    /// An error of the YAML itself.
    pub(super) fn syntax_error(&self, place: Place, reason: &str) -> Error {
        let line = self.line(place).unwrap_or_default();
        let indentation = &line[..line.len() - line.trim_start().len()];
        if indentation.contains('\t') {
            return self
                .error(place, "a tab is used as indentation")
                .suggest(format!("indent with spaces: expand -t 2 {0} > {0}.new && mv {0}.new {0}", self.file()));
        }
        self.error(place, &format!("not valid YAML: {reason}")).suggest(format!(
            "correct line {} of {}, or the line before it",
            place.line,
            self.file()
        ))
    }

    fn line(&self, place: Place) -> Option<&'a str> {
        self.text.lines().nth(usize::try_from(place.line).ok()?.checked_sub(1)?)
    }

    /// Whether the values at a place may be shown: it belongs to a top-level key that is known and holds no secrets.
    pub(super) fn is_open(&self, place: Place) -> bool {
        let lines = usize::try_from(place.line).unwrap_or(usize::MAX);
        let key = self
            .text
            .lines()
            .take(lines)
            .filter(|line| !line.starts_with([' ', '\t', '#', '}', ']']) && !line.trim().is_empty())
            .last()
            .and_then(|line| line.split_once(':'))
            .map(|(key, _)| key.trim_matches(['"', '\'', ' ']));
        key.is_some_and(|key| {
            !self.kind.secret.contains(&key)
                && self.kind.schema.pointer("/properties").is_some_and(|properties| properties.get(key).is_some())
        })
    }

    /// The line of a place with a caret below it, values hidden where they may be secret.
    fn shown(&self, place: Place) -> Option<String> {
        let line = self.line(place)?.trim_end();
        if line.is_empty() {
            return None;
        }
        let shown = if self.is_open(place) { line.to_owned() } else { masked(line) };
        let shown: String =
            shown.chars().take(SHOWN_LIMIT).map(|c| if c == '\t' || c.is_control() { ' ' } else { c }).collect();
        let number = place.line.to_string();
        let column = usize::try_from(place.column).unwrap_or(usize::MAX);
        let caret = if column <= shown.chars().count() + 1 {
            format!("\n  {0:1$} | {0:2$}^", "", number.len(), column.saturating_sub(1))
        } else {
            String::new()
        };
        Some(format!("\n  {number} | {shown}{caret}"))
    }
}

/// The key of a line, its value hidden.
fn masked(line: &str) -> String {
    let indentation = &line[..line.len() - line.trim_start().len()];
    match line.trim_start().split_once(':') {
        Some((key, value))
            if !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')) =>
        {
            let value = if value.trim().is_empty() { "" } else { " ***" };
            format!("{indentation}{key}:{value}")
        }
        _ => format!("{indentation}***"),
    }
}

/// The known word that is nearest to what was written, if any is near enough to have been meant.
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Longer texts than any name of ours are not compared: the cost grows with the product of the lengths.
    if written.len() > 128 {
        return None;
    }
    let lower = written.to_lowercase().replace('-', "_");
    known
        .into_iter()
        .map(|word| (strsim::osa_distance(&lower, &word.replace('-', "_")), word))
        .filter(|(distance, word)| *distance <= 1.max(word.len() / 3))
        .min()
        .map(|(_, word)| word)
}
