//! What is known of a log besides its bytes: lines of JSON, appended as it becomes known and now and then written anew.
//!
//! Losing it loses nothing that was printed, so it is never synced, and what cannot be read of it is left out.

use super::files;
use crate::model::{Key, RunId};
use serde::{Deserialize, Serialize};
use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// An index is written anew above this; what is known takes half of it at the most.
const LONGEST: u64 = 64 * 1024;

/// One thing that is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Entry {
    /// Whose log it is.
    Key(Key),
    /// The live file is this one, and its first byte has this address.
    File {
        dev: u64,
        ino: u64,
        base: u64,
    },
    /// What has an address before this one is in archives, or gone.
    Live(u64),
    Run(RunStart),
    Mark(Mark),
}

/// Where the output of a run begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RunStart {
    pub(super) run: RunId,
    pub(super) at: u64,
    /// Milliseconds of the wall clock since 1970.
    pub(super) time: u64,
}

/// How far the log had come at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) at: u64,
    /// Milliseconds of the wall clock since 1970.
    pub(super) time: u64,
}

/// Reads an index; one that is not there is empty.
pub(super) fn read(path: &Path) -> io::Result<Vec<Entry>> {
    let file = match OpenOptions::new().read(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    file.take(2 * LONGEST).read_to_end(&mut text)?;
    Ok(text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
}

/// Adds to an index; whether it should be written anew.
pub(super) fn append(path: &Path, entries: &[Entry]) -> io::Result<bool> {
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    file.write_all(&lines(entries)?)?;
    Ok(file.metadata()?.len() > LONGEST)
}

/// Writes an index anew.
pub(super) fn replace(path: &Path, beside: &Path, entries: &[Entry]) -> io::Result<()> {
    files::create(beside)?.write_all(&lines(entries)?)?;
    std::fs::rename(beside, path)
}

/// The first line is empty: what is before it may be half a line, of a launcher that died or a disk that was full.
fn lines(entries: &[Entry]) -> io::Result<Vec<u8>> {
    let mut text = vec![b'\n'];
    for entry in entries {
        serde_json::to_writer(&mut text, entry)?;
        text.push(b'\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_cut_off_or_is_not_known_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let (path, beside) = (folder.path().join("i"), folder.path().join("t"));
        assert_eq!(read(&path).unwrap(), []);
        let mark = Entry::Mark(Mark { at: 7, time: 9 });
        append(&path, &[Entry::Live(1)]).unwrap();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"later\":1}\n{\"li").unwrap();
        append(&path, std::slice::from_ref(&mark)).unwrap();
        assert_eq!(read(&path).unwrap(), [Entry::Live(1), mark.clone()]);
        let many = vec![mark.clone(); 4_000];
        assert!(append(&path, &many).unwrap(), "it has become long");
        replace(&path, &beside, std::slice::from_ref(&mark)).unwrap();
        assert_eq!(read(&path).unwrap(), [mark]);
    }
}
