//! Texts of the daemon made fit for a terminal: escaped, shortened, and durations as people say them.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text with everything escaped that a terminal could take for more than text: control characters, and characters
/// that change the direction of what follows or that cannot be seen.
pub(super) fn escaped(text: &str) -> Cow<'_, str> {
    escaped_but(text, &[])
}

/// The same for what a process printed: lines and tabs stay.
pub(super) fn escaped_log(bytes: &[u8]) -> String {
    escaped_but(&String::from_utf8_lossy(bytes), &['\n', '\t']).into_owned()
}

fn escaped_but<'a>(text: &'a str, kept: &[char]) -> Cow<'a, str> {
    if text.chars().all(|c| is_plain(c) || kept.contains(&c)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_plain(c) || kept.contains(&c) {
            out.push(c);
        } else {
            out.extend(c.escape_default());
        }
    }
    Cow::Owned(out)
}

/// JSON in which no character is left that a terminal acts on. The daemon's texts stand in strings only, where an
/// escape means the same as the character.
pub(super) fn escaped_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if is_plain(c) || c == '\n' {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(out, "\\u{unit:04x}").unwrap_or_default();
            }
        }
    }
    out
}

/// YAML in which no character is left that a terminal acts on. What its writer has not escaped itself is shown as an
/// escape.
pub(super) fn escaped_yaml(yaml: &str) -> String {
    escaped_but(yaml, &['\n']).into_owned()
}

/// Whether a terminal shows the character and does nothing else.
fn is_plain(c: char) -> bool {
    let unseen = matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    !c.is_control() && !unseen
}

/// How many columns the text takes at most. What is not ASCII is counted as wide, so that nothing is found to fit that
/// does not.
pub(super) fn columns(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

const fn columns_of(c: char) -> usize {
    if c.is_ascii() { 1 } else { 2 }
}

/// The text with its middle replaced by `…` when it takes more than `limit` columns.
pub(super) fn shortened(text: &str, limit: usize) -> String {
    if columns(text) <= limit {
        return text.to_owned();
    }
    let room = limit.saturating_sub(1);
    let head = prefix(text.chars(), room.div_ceil(2));
    let tail: Vec<char> = prefix(text.chars().rev(), room / 2).chars().rev().collect();
    head + "…" + &tail.into_iter().collect::<String>()
}

fn prefix(chars: impl Iterator<Item = char>, limit: usize) -> String {
    let mut used = 0;
    chars
        .take_while(|c| {
            used += columns_of(*c);
            used <= limit
        })
        .collect()
}

/// A duration in its two largest units: `1d 4h`, `3m 12s`, `5s`.
pub(super) fn lasting(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let units = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];
    let largest = units.iter().position(|(_, size)| seconds >= *size).unwrap_or(units.len() - 1);
    let (name, size) = units[largest];
    let (count, rest) = (seconds / size, seconds % size);
    match units.get(largest + 1) {
        Some((next, next_size)) if rest / next_size > 0 => format!("{count}{name} {}{next}", rest / next_size),
        _ => format!("{count}{name}"),
    }
}

/// Yes or no, as people write it.
pub(super) const fn yes(fact: bool) -> &'static str {
    if fact { "yes" } else { "no" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_said_in_two_units() {
        for (seconds, said) in [
            (-5, "0s"),
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (192, "3m 12s"),
            (3_600, "1h"),
            (3_659, "1h"),
            (7_380, "2h 3m"),
            (100_800, "1d 4h"),
            (i64::MAX, "106751991167300d 15h"),
        ] {
            assert_eq!(lasting(seconds), said, "{seconds}");
        }
    }

    #[test]
    fn what_a_terminal_acts_on_is_escaped() {
        assert_eq!(escaped("ns:tenant-ä:日本"), "ns:tenant-ä:日本");
        assert_eq!(
            escaped("\u{1b}]0;title\u{7}\r\n\u{9b}2J\u{202e}x"),
            "\\u{1b}]0;title\\u{7}\\r\\n\\u{9b}2J\\u{202e}x"
        );
        assert_eq!(escaped_log(b"a\tb\n\x1b[2Jc\xff\n"), "a\tb\n\\u{1b}[2Jc\u{fffd}\n");
    }

    #[test]
    fn escaped_json_means_the_same() {
        let value = serde_json::json!({ "error": "\u{1b}[2J\u{9b}\u{202e}\u{e0041} ä" });
        let text = escaped_json(&serde_json::to_string_pretty(&value).unwrap());
        assert!(text.chars().all(|c| is_plain(c) || c == '\n'), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }

    #[test]
    fn a_long_text_loses_its_middle() {
        assert_eq!(shortened("ns:tenant-a:consumer", 20), "ns:tenant-a:consumer");
        assert_eq!(shortened("ns:tenant-a:consumer", 13), "ns:ten…nsumer");
        assert_eq!(shortened("ns:tenant-a:consumer", 1), "…");
        assert_eq!(shortened("日本日本日本", 7), "日…本");
        assert!(columns(&shortened("äöüäöüäöü", 8)) <= 8 + 1);
    }
}
