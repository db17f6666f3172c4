//! What is told by files: the commit of a work tree, and what a program printed last.

use crate::act::Output;
use crate::desired::scan::{Checkout, checkout};
use crate::model::Key;
use std::path::PathBuf;
use std::sync::Arc;

/// How many of the last lines that were printed are shown.
const LINES: usize = 20;
/// How far back they are looked for, in bytes.
const TAIL: u64 = 16 * 1024;
/// How much of a line is shown, in characters.
const WIDTH: usize = 400;

/// What files tell about a key.
#[derive(Debug)]
pub(super) struct Places {
    /// What the git work tree of its declaration has checked out.
    pub(super) checkout: Option<Checkout>,
    /// The last lines that were printed, oldest first.
    pub(super) printed: Vec<String>,
}

impl Places {
    /// Reads a handful of small files, where that may block, in the turn of the key's namespace.
    pub(super) async fn look(output: &Arc<Output>, key: &Key, declared: Option<PathBuf>) -> Self {
        let (own, of) = (Arc::clone(output), key.clone());
        let look = move || Self {
            checkout: declared.as_deref().and_then(checkout),
            printed: own
                .end_of(&of, None, TAIL)
                .map_or_else(|_| Vec::new(), |end| last_lines(&end.data, end.missed > 0)),
        };
        output.blocking(key, look).await
    }
}

/// The last lines of the end of a log; where that is cut, the first of it is the end of a line.
fn last_lines(end: &[u8], cut: bool) -> Vec<String> {
    let text = String::from_utf8_lossy(end);
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
        assert_eq!(last_lines(b"", false), [""; 0]);
        assert_eq!(last_lines(b"one\ntwo", false), ["one", "two"]);
        assert_eq!(last_lines(b"one\ntwo", true), ["two"]);
        let many: Vec<String> = (0..10_000).map(|n| format!("line {n}")).collect();
        let last = last_lines(many.join("\n").as_bytes(), false);
        assert_eq!((last.len(), last[0].as_str(), last[19].as_str()), (20, "line 9980", "line 9999"));
        assert_eq!(last_lines(&b"x".repeat(100), true), [""; 0], "no line begins where it is looked for");
        let last = last_lines(&[b"y".repeat(1_000), b"\n\xff".to_vec()].concat(), false);
        assert_eq!(last[0].chars().count(), WIDTH + 1);
    }
}
