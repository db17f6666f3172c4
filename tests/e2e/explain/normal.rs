//! Texts of different runs made equal: paths, pids, ports, times and spans of time.

use std::path::Path;

/// How lines begin that differ between machines, by what these can do; they are left out.
const OF_MACHINES: [&str; 3] = ["Its processes are tracked by", "Its limits in force", "It is confined by"];

/// The text with placeholders for what differs between runs.
pub(super) fn normal(text: &str, root: &Path) -> String {
    let lines = text.split_inclusive('\n').filter(|line| !OF_MACHINES.iter().any(|begin| line.starts_with(begin)));
    let text = lines.collect::<String>().replace(&root.display().to_string(), "/ROOT");
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find(|c: char| c.is_ascii_hexdigit()) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        // A word goes on while it may be a time, an id, a hash or a span.
        let end = from.find(|c: char| !c.is_ascii_alphanumeric() && !"-_".contains(c)).unwrap_or(from.len());
        let word = &from[..end.max(1)];
        let after = &from[word.len()..];
        let (said, after) = replaced(&out, word, after);
        out.push_str(&said);
        rest = after;
    }
    out + rest
}

/// What stands for a word, and what follows it.
fn replaced<'a>(before: &str, word: &str, after: &'a str) -> (String, &'a str) {
    let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
    let (name, hash) = word.rsplit_once('-').unwrap_or(("", word));
    if word.len() == 13 && word[4..].starts_with('-') && word.contains('T') {
        // 2026-01-02T03:04:05.678901Z
        let end = after.find('Z').map_or(after.len(), |at| at + 1);
        return ("TIME".to_owned(), &after[end..]);
    }
    if word.len() == 36 && word.matches('-').count() == 4 {
        return ("RUN".to_owned(), after);
    }
    if hash.len() == 32 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return (format!("{name}-HASH"), after);
    }
    if is_number && ["pid ", "pid=", "uid "].iter().any(|name| before.ends_with(name)) {
        return ("NUMBER".to_owned(), after);
    }
    if is_number && word.len() > 3 {
        return ("NUMBER".to_owned(), after);
    }
    if is_span(word) {
        return ("SPAN".to_owned(), after);
    }
    // 1.5 s
    let fraction =
        after.strip_prefix('.').map_or(0, |rest| 1 + rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len()));
    if is_number && after[fraction..].starts_with(" s") {
        return ("SPAN".to_owned(), &after[fraction + 2..]);
    }
    (word.to_owned(), after)
}

/// Whether a word is a span of time, such as `1m30s`; those of settings, such as `200ms`, are as they are.
fn is_span(word: &str) -> bool {
    let units = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    word.starts_with(|c: char| c.is_ascii_digit())
        && word.len() > units.len()
        && word.bytes().all(|byte| byte.is_ascii_digit() || b"dhms".contains(&byte))
        && word != "200ms"
}
