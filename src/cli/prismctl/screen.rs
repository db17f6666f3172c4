//! Where results go: standard output as it is, a terminal or not.

use super::arguments::Format;
use super::failure::{Failure, REFUSED, Result, Told};
use super::text::{escaped_json, escaped_yaml};
use serde::Serialize;
use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal as _, Write};

/// How results look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    /// For whom.
    pub(super) format: Format,
    /// Columns and lines of the terminal; `None` without one.
    pub(super) terminal: Option<(usize, usize)>,
    /// Whether what matters is coloured.
    pub(super) colours: bool,
}

impl Look {
    /// The columns of the terminal, without one as many as it takes.
    pub(super) fn width(&self) -> Option<usize> {
        self.terminal.map(|(columns, _)| columns)
    }

    /// One result: the object for programs, or the text for people.
    pub(super) fn shown(&self, object: &impl Serialize, text: impl FnOnce() -> String) -> String {
        match self.format {
            Format::Table => text(),
            Format::Json => {
                escaped_json(&serde_json::to_string_pretty(object).unwrap_or_else(|e| format!("\"{e}\""))) + "\n"
            }
            Format::Yaml => escaped_yaml(&yaml(object)),
        }
    }

    /// One result of several that follow each other.
    pub(super) fn shown_in_a_row(&self, object: &impl Serialize, text: impl FnOnce() -> String) -> String {
        match self.format {
            Format::Table => text(),
            Format::Json => escaped_json(&serde_json::to_string(object).unwrap_or_else(|e| format!("\"{e}\""))) + "\n",
            Format::Yaml => format!("---\n{}", escaped_yaml(&yaml(object))),
        }
    }
}

fn yaml(object: &impl Serialize) -> String {
    serde_yaml::to_string(object).unwrap_or_else(|error| format!("# {error}\n"))
}

/// Standard output and standard error.
pub(super) struct Screen {
    results: Box<dyn Write>,
    notes: Box<dyn Write>,
    /// How results look.
    pub(super) look: Look,
    /// Whether what is being waited for is shown on standard error.
    pub(super) progress: bool,
    /// Whether errors are coloured.
    error_colours: bool,
}

impl fmt::Debug for Screen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Screen").field("look", &self.look).finish_non_exhaustive()
    }
}

impl Screen {
    /// That of this process.
    pub(super) fn of_process(format: Format) -> Self {
        let (out, err) = (io::stdout(), io::stderr());
        let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let terminal = out.is_terminal().then(size);
        let look = Look { format, terminal, colours: colours && terminal.is_some() };
        let (progress, error_colours) = (err.is_terminal(), colours && err.is_terminal());
        Self { results: Box::new(out), notes: Box::new(err), look, progress, error_colours }
    }

    /// One that tests read.
    #[cfg(test)]
    pub(super) fn to(results: Box<dyn Write>, notes: Box<dyn Write>, look: Look) -> Self {
        Self { results, notes, look, progress: false, error_colours: false }
    }

    /// Prints a part of the result.
    pub(super) fn print(&mut self, text: impl AsRef<[u8]>) -> Result<()> {
        let written = self.results.write_all(text.as_ref()).and_then(|()| self.results.flush());
        written.map_err(|cause| {
            if cause.kind() == io::ErrorKind::BrokenPipe {
                return Failure::Unread;
            }
            Told::new(REFUSED, "the result cannot be written").because(cause.to_string()).into()
        })
    }

    /// Tells people something that is no part of the result. Nothing else is lost when it cannot be told.
    pub(super) fn note(&mut self, text: &str) {
        if self.look.format == Format::Table {
            drop(writeln!(self.notes, "{text}"));
        }
    }

    /// Tells why the command failed.
    pub(super) fn fail(&mut self, told: &Told) {
        let text = match self.look.format {
            Format::Table => told.text(self.error_colours),
            Format::Json | Format::Yaml => told.json(),
        };
        drop(self.notes.write_all(text.as_bytes()));
    }

    /// Shows a text in place of what is on the terminal, as much of it as there is room for.
    pub(super) fn redraw(&mut self, text: &str, first: bool) -> Result<()> {
        let clear = if first { "\u{1b}[2J" } else { "" };
        let body = fitting(text, self.look.terminal.unwrap_or(DEFAULT_SIZE));
        self.print(format!("{clear}\u{1b}[H{body}\u{1b}[J"))
    }

    /// Takes over the size that the terminal has by now.
    pub(super) fn resize(&mut self) {
        if self.look.terminal.is_some() {
            self.look.terminal = Some(size());
        }
    }
}

/// The size of a terminal that does not tell its own.
const DEFAULT_SIZE: (usize, usize) = (80, 24);

fn size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(rustix::stdio::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        Ok(_) | Err(_) => DEFAULT_SIZE,
    }
}

/// The lines that a terminal has room for, the last line left free; each erases what stood to the right of it.
fn fitting(text: &str, (columns, lines): (usize, usize)) -> String {
    let room = lines.saturating_sub(1);
    let mut used = 0;
    let mut out = String::new();
    let all = text.lines().count();
    for (number, line) in text.lines().enumerate() {
        let takes = super::text::columns(&without_colours(line)).div_ceil(columns.max(1)).max(1);
        let last = number + 1 == all;
        if used + takes > room || (used + takes == room && !last) {
            writeln!(out, "… {} more lines\u{1b}[K", all - number).unwrap_or_default();
            break;
        }
        used += takes;
        out.push_str(line);
        out.push_str("\u{1b}[K\n");
    }
    out
}

/// The text without the sequences that colour it, which are the only ones in it.
fn without_colours(text: &str) -> String {
    let mut parts = text.split('\u{1b}');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(part.split_once('m').map_or("", |(_, rest)| rest));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_shows_as_many_lines_as_it_has() {
        assert_eq!(fitting("a\nb\n", (10, 3)), "a\u{1b}[K\nb\u{1b}[K\n");
        assert_eq!(fitting("a\nb\nc\n", (10, 3)), "a\u{1b}[K\n… 2 more lines\u{1b}[K\n");
        assert_eq!(fitting("12345678901\nb\n", (10, 3)), "… 2 more lines\u{1b}[K\n");
        assert_eq!(without_colours("a\u{1b}[38;5;9mb\u{1b}[0mc"), "abc");
    }

    #[test]
    fn programs_read_what_the_daemon_said() {
        let said = serde_json::json!({ "last_error": "\u{1b}[2J\u{9b}: yes\n", "n": 1 });
        let look = |format| Look { format, terminal: None, colours: false };
        let json = look(Format::Json).shown(&said, String::new);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), said);
        let yaml = look(Format::Yaml).shown(&said, String::new);
        assert!(yaml.chars().all(|c| c == '\n' || !c.is_control()), "{yaml:?}");
        assert_eq!(look(Format::Json).shown_in_a_row(&said, String::new).lines().count(), 1);
        assert!(look(Format::Yaml).shown_in_a_row(&said, String::new).starts_with("---\n"));
    }
}
