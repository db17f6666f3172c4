//! What the launcher and its spawner say to each other: length-prefixed requests, fixed-size replies with descriptors.
//!
//! Both ends are the same executable, so the encoding has no versions.

use super::privileges::ChildPrivileges;
use std::ffi::CString;

/// The largest request. Arguments and environment of one exec are limited by the kernel to a quarter of the stack
/// limit, 2 MiB on most machines; beyond that even a held child could never be executed.
pub(super) const REQUEST_LIMIT: usize = 16 << 20;
/// The size of every reply.
pub(super) const REPLY_LEN: usize = 8;
/// The descriptors of a reply that made a child: pidfd, write end of the hold, read end of the report.
pub(super) const REPLY_FDS: usize = 3;

/// The most cgroups that a child joins besides the one that it is made in: one for each controller.
pub(super) const LIMITS: usize = 3;

/// What a child is made from. No string contains a NUL; all paths are absolute.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SpawnRequest {
    /// The file to execute.
    pub(crate) program: CString,
    /// Its arguments, the first being its own name.
    pub(crate) arguments: Vec<CString>,
    /// Its environment as `NAME=value`.
    pub(crate) environment: Vec<CString>,
    /// Its working directory.
    pub(crate) folder: CString,
    /// The file that takes its output.
    pub(crate) log: CString,
    /// The cgroup to make it in.
    pub(crate) cgroup: Option<CString>,
    /// Cgroups of other hierarchies that it is to join besides; at most [`LIMITS`].
    pub(crate) limits: Vec<CString>,
    /// The soft limit of open files it gets, since the launcher raises its own.
    pub(crate) open_files: u64,
    /// What else it makes of itself.
    pub(crate) privileges: ChildPrivileges,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    /// A child exists and is held.
    Made {
        /// Its pid.
        pid: i32,
        /// Whether it is in the cgroup that was asked for.
        in_cgroup: bool,
        /// Which of the others it has joined: a bit for each, from the lowest.
        joined: u8,
    },
    /// There is no child.
    Failed {
        /// What did not work.
        stage: Stage,
        /// The kernel's reason.
        errno: i32,
    },
}

/// What did not work in the making or the exec of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Stage {
    /// Reading the request.
    Request = 1,
    /// Opening the log file.
    Log = 2,
    /// Making pipes.
    Pipes = 3,
    /// Making the process.
    Clone = 4,
    /// Preparing the child: session, descriptors, limits.
    SetUp = 5,
    /// Changing to the working directory.
    Folder = 6,
    /// Executing the program.
    Exec = 7,
    /// Handing the child over: the launcher has no descriptors left, or the spawner died twice.
    HandOver = 8,
    /// Setting one of its limits.
    Limit = 9,
    /// Setting its scheduling priority.
    Nice = 10,
    /// Setting how readily the kernel kills it.
    OomScore = 11,
    /// Giving up its capabilities.
    Capabilities = 12,
    /// Becoming another user.
    User = 13,
}

impl Stage {
    /// The stage with this number; an unknown one counts as the last thing that can go wrong.
    pub(crate) const fn from_u8(number: u8) -> Self {
        match number {
            1 => Self::Request,
            2 => Self::Log,
            3 => Self::Pipes,
            4 => Self::Clone,
            5 => Self::SetUp,
            6 => Self::Folder,
            7 => Self::Exec,
            9 => Self::Limit,
            10 => Self::Nice,
            11 => Self::OomScore,
            12 => Self::Capabilities,
            13 => Self::User,
            _ => Self::HandOver,
        }
    }
}

impl SpawnRequest {
    /// The request with its length before it.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; 4];
        for text in [&self.program, &self.folder, &self.log] {
            put(&mut out, text.as_bytes());
        }
        put(&mut out, self.cgroup.as_ref().map_or(b"", |c| c.as_bytes()));
        out.extend(self.open_files.to_le_bytes());
        // Most processes have none of their own, and writing a few small fields cannot fail.
        put(&mut out, &serde_json::to_vec(&self.privileges).unwrap_or_default());
        for list in [&self.arguments, &self.environment, &self.limits] {
            put_len(&mut out, list.len());
            for text in list {
                put(&mut out, text.as_bytes());
            }
        }
        let body = u32::try_from(out.len() - 4).unwrap_or(u32::MAX);
        out[..4].copy_from_slice(&body.to_le_bytes());
        out
    }

    /// Reads a request without its length; `None` if it is none.
    pub(super) fn decode(body: &[u8]) -> Option<Self> {
        let mut rest = body;
        let [program, folder, log, cgroup] = [text(&mut rest)?, text(&mut rest)?, text(&mut rest)?, text(&mut rest)?];
        let open_files = u64::from_le_bytes(*rest.split_first_chunk().map(|(n, tail)| (rest = tail, n).1)?);
        let privileges = serde_json::from_slice(text(&mut rest)?.as_bytes()).ok()?;
        let arguments = list(&mut rest)?;
        let environment = list(&mut rest)?;
        let limits = list(&mut rest)?;
        let cgroup = Some(cgroup).filter(|c| !c.is_empty());
        let whole = rest.is_empty() && limits.len() <= LIMITS;
        let request = Self { program, arguments, environment, folder, log, cgroup, limits, open_files, privileges };
        whole.then_some(request)
    }
}

impl Reply {
    /// The reply as it is sent.
    pub(super) fn encode(self) -> [u8; REPLY_LEN] {
        let (tag, detail, joined, number) = match self {
            Self::Made { pid, in_cgroup, joined } => (0, u8::from(in_cgroup), joined, pid),
            Self::Failed { stage, errno } => (1, stage as u8, 0, errno),
        };
        let [a, b, c, d] = number.to_le_bytes();
        [tag, detail, joined, 0, a, b, c, d]
    }

    /// Reads a reply.
    pub(super) const fn decode(bytes: [u8; REPLY_LEN]) -> Self {
        let [tag, detail, joined, _, a, b, c, d] = bytes;
        let number = i32::from_le_bytes([a, b, c, d]);
        if tag == 0 {
            Self::Made { pid: number, in_cgroup: detail != 0, joined }
        } else {
            Self::Failed { stage: Stage::from_u8(detail), errno: number }
        }
    }
}

fn put_len(out: &mut Vec<u8>, len: usize) {
    out.extend(u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
}

fn put(out: &mut Vec<u8>, text: &[u8]) {
    put_len(out, text.len());
    out.extend(text);
}

fn len(rest: &mut &[u8]) -> Option<usize> {
    let (number, tail) = rest.split_first_chunk()?;
    *rest = tail;
    usize::try_from(u32::from_le_bytes(*number)).ok()
}

fn text(rest: &mut &[u8]) -> Option<CString> {
    let len = len(rest)?;
    let (text, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    CString::new(text).ok()
}

fn list(rest: &mut &[u8]) -> Option<Vec<CString>> {
    let count = len(rest)?;
    (0..count).map(|_| text(rest)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::privileges::ChildUser;
    use super::*;
    use crate::model::{LimitName, ProcessLimit};
    use proptest::prelude::*;

    fn c(text: &str) -> CString {
        CString::new(text).expect("no NUL")
    }

    #[test]
    fn a_request_reads_back_whatever_its_size() {
        for cgroup in [None, Some(c("/sys/fs/cgroup/x"))] {
            let request = SpawnRequest {
                program: c("/bin/true"),
                arguments: vec![c("true"), c("")],
                environment: vec![c(&format!("BIG={}", "x".repeat(256 << 10)))],
                folder: c("/"),
                log: c("/dev/null"),
                cgroup,
                limits: vec![c("/sys/fs/cgroup/memory/x")],
                open_files: 1024,
                privileges: ChildPrivileges {
                    rlimits: vec![(LimitName::Core, ProcessLimit { soft: Some(0), hard: None })],
                    user: Some(ChildUser { uid: 7, gid: u32::MAX - 1, groups: vec![8] }),
                    no_new_privileges: true,
                    ..ChildPrivileges::default()
                },
            };
            assert_eq!(SpawnRequest::decode(&request.encode()[4..]), Some(request));
        }
    }

    #[test]
    fn a_reply_reads_back() {
        for reply in [
            Reply::Made { pid: 4_194_303, in_cgroup: true, joined: 0b101 },
            Reply::Made { pid: 2, in_cgroup: false, joined: 0 },
            Reply::Failed { stage: Stage::Clone, errno: 11 },
        ] {
            assert_eq!(Reply::decode(reply.encode()), reply);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(SpawnRequest::decode(&body));
        }
    }
}
