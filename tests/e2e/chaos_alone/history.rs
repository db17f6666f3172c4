//! Every process that was ever started, by what it wrote when it began.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::str::FromStr;

/// What a process was started from: the version of its instance, and that of its manifest. Both only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) content: u32,
    pub(super) manifest: u32,
}

impl FromStr for Label {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (content, manifest) = text.split_once('/').unwrap_or((text, ""));
        Ok(Self { content: content.parse()?, manifest: manifest.parse()? })
    }
}

/// A process that was started.
#[derive(Debug, Clone)]
struct Start {
    pid: i32,
    label: Label,
    /// The test killed it.
    crashed: bool,
}

/// All of them, key by key.
pub(super) struct History {
    file: PathBuf,
    read: u64,
    count: u64,
    /// The last of each key.
    last: BTreeMap<String, Start>,
    /// The keys that somebody asked to be restarted since the last rest. Each may be started once for that.
    asked: BTreeSet<String>,
    unneeded: Vec<String>,
}

impl History {
    pub(super) fn of(file: PathBuf) -> Self {
        let (last, asked, unneeded) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
        Self { file, read: 0, count: 0, last, asked, unneeded }
    }

    /// Reads what was written since the last time.
    pub(super) fn read(&mut self) {
        let Ok(mut file) = File::open(&self.file) else { return };
        file.seek(SeekFrom::Start(self.read)).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        let Some(end) = text.rfind('\n') else { return };
        self.read += u64::try_from(end + 1).unwrap();
        for line in text[..end].lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [_, id, pid, label] = words[..] else { panic!("{line}") };
            let start = Start { pid: pid.parse().unwrap(), label: label.parse().unwrap(), crashed: false };
            self.add(id, start, line);
        }
    }

    fn add(&mut self, id: &str, start: Start, line: &str) {
        self.count += 1;
        if let Some(before) = self.last.get(id) {
            let (old, new) = (before.label, start.label);
            let grown = new.content >= old.content && new.manifest >= old.manifest;
            assert!(grown, "{line} is started from something older than before: {before:?}");
            if old == new && !before.crashed && !self.asked.remove(id) {
                self.unneeded.push(format!("{line} after {before:?}"));
            }
        }
        self.last.insert(id.to_owned(), start);
    }

    /// What the process of a key was started from; `None` when it is not the last that was.
    pub(super) fn label(&self, id: &str, pid: i32) -> Option<Label> {
        self.last.get(id).filter(|start| start.pid == pid).map(|start| start.label)
    }

    /// The test has killed a process.
    pub(super) fn crashed(&mut self, id: &str, pid: i32) {
        if let Some(start) = self.last.get_mut(id).filter(|start| start.pid == pid) {
            start.crashed = true;
        }
    }

    /// Somebody has asked for a restart.
    pub(super) fn asked(&mut self, id: &str) {
        self.asked.insert(id.to_owned());
    }

    /// Nothing is under way any more: what was asked for has come about, or never will.
    pub(super) fn at_rest(&mut self) {
        self.asked.clear();
    }

    /// The starts that nothing explains.
    pub(super) fn unneeded(&self) -> &[String] {
        &self.unneeded
    }

    pub(super) const fn count(&self) -> u64 {
        self.count
    }
}
