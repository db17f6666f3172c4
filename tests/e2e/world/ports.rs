//! Ports that no other test uses at the same time, in this process or in another.

use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::path::PathBuf;

/// The first port that is handed out. All lie below the ephemeral range, so that no client of anybody takes one.
const FIRST: u16 = 15_000;
/// The last port that is handed out.
const LAST: u16 = 32_767;
/// Ports are handed out in blocks of so many.
const BLOCK: u16 = 202;

/// A row of blocks, held by locks on files: the kernel gives them back when the process ends, however it does.
pub(crate) struct Ports {
    first: u16,
    last: u16,
    _locks: Vec<File>,
}

impl Ports {
    /// Ports for so many instances, two each, and two for the daemon itself.
    pub(crate) fn reserve(instances: u16) -> Self {
        let blocks = (instances * 2 + 2).div_ceil(BLOCK);
        let count = (LAST - FIRST) / BLOCK;
        // Different processes begin at different places, so that they seldom meet.
        let begin = u16::try_from(std::process::id() % u32::from(count)).unwrap();
        for at in (0..count).map(|n| (begin + n) % count).filter(|at| at + blocks <= count) {
            let locks: Vec<File> = (at..at + blocks).map_while(lock).collect();
            if locks.len() == usize::from(blocks) {
                let first = FIRST + at * BLOCK;
                return Self { first, last: first + blocks * BLOCK - 1, _locks: locks };
            }
        }
        panic!("no {blocks} blocks of ports in a row are free");
    }

    /// The port that the daemon's own HTTP listens on.
    pub(crate) fn http(&self) -> u16 {
        self.first
    }

    /// The port of a server that a test starts beside the daemon.
    pub(crate) fn beside(&self) -> u16 {
        self.first + 1
    }

    /// What instances are given ports from, as the daemon is told.
    pub(crate) fn range(&self) -> String {
        format!("{}-{}", self.first + 2, self.last)
    }

    /// Whether instances may be given this port.
    pub(crate) fn holds(&self, port: u16) -> bool {
        (self.first + 2..=self.last).contains(&port)
    }
}

/// Locks one block; `None` when another test has it.
fn lock(block: u16) -> Option<File> {
    let folder: PathBuf = std::env::temp_dir().join("launcher-e2e-ports");
    std::fs::create_dir_all(&folder).unwrap();
    let file = OpenOptions::new().create(true).append(true).open(folder.join(block.to_string())).unwrap();
    flock(&file, FlockOperation::NonBlockingLockExclusive).ok().map(|()| file)
}
