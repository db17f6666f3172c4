//! What is told by files: the commit of a work tree, and what a program printed last.

use crate::desired::scan::{Checkout, checkout};
use crate::model::Key;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// How many of the last lines that were printed are shown.
const LINES: usize = 10;
/// How far back they are looked for, in bytes.
const TAIL: u64 = 16 * 1024;
/// How much of a line is shown, in characters.
const WIDTH: usize = 400;

/// What files tell about a key.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// What the git work tree of its declaration has checked out.
    pub(super) checkout: Option<Checkout>,
    /// The last lines that were printed, oldest first.
    pub(super) printed: Vec<String>,
}

impl Places {
    /// Reads a handful of small files, where that may block.
    pub(super) async fn look(log_dir: &Path, key: &Key, declared: Option<PathBuf>) -> Self {
        let log = log_dir.join(format!("{}.log", key.file_name()));
        let look = move || Self { checkout: declared.as_deref().and_then(checkout), printed: last_lines(&log) };
        // A panic in there leaves out what it tells, and nothing else.
        tokio::task::spawn_blocking(look).await.unwrap_or_default()
    }
}

/// The last lines of a log; none where it cannot be read.
fn last_lines(log: &Path) -> Vec<String> {
    let read = || -> std::io::Result<(Vec<u8>, bool)> {
        let mut file = std::fs::File::open(log)?;
        let from = file.metadata()?.len().saturating_sub(TAIL);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes)?;
        Ok((bytes, from > 0))
    };
    let Ok((bytes, cut)) = read() else { return Vec::new() };
    let text = String::from_utf8_lossy(&bytes);
    // The first of a part is the end of a line.
    let lines: Vec<&str> = text.lines().skip(usize::from(cut)).collect();
    let shown = |line: &&str| -> String {
        let start: String = line.chars().take(WIDTH).collect();
        if start.len() < line.len() { start + "…" } else { start }
    };
    lines[lines.len().saturating_sub(LINES)..].iter().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_found_in_any_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("a.log");
        assert_eq!(last_lines(&log), [""; 0]);
        std::fs::write(&log, "one\ntwo").unwrap();
        assert_eq!(last_lines(&log), ["one", "two"]);
        let many: Vec<String> = (0..10_000).map(|n| format!("line {n}")).collect();
        std::fs::write(&log, many.join("\n")).unwrap();
        let last = last_lines(&log);
        assert_eq!((last.len(), last[0].as_str(), last[9].as_str()), (10, "line 9990", "line 9999"));
        std::fs::write(&log, "x".repeat(100_000)).unwrap();
        assert_eq!(last_lines(&log), [""; 0], "no line begins where it is looked for");
        std::fs::write(&log, [b"y".repeat(1_000), b"\n\xff".to_vec()].concat()).unwrap();
        assert_eq!(last_lines(&log)[0].chars().count(), WIDTH + 1);
    }
}
