//! Who asked for something. Travels with every write, and is kept and shown.

use core::net::SocketAddr;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Who asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Caller {
    /// A process of this machine, over the unix socket, as the kernel vouches for it.
    Peer {
        /// Its user.
        uid: u32,
        /// Its process id, where the kernel tells; it may have ended since.
        pid: Option<i32>,
    },
    /// Somebody over TCP, where only the address is known.
    Remote(SocketAddr),
    /// The program that the launcher is embedded in.
    Program,
    /// The launcher itself, as when a `ttl` ends.
    Launcher,
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer { uid, pid: Some(pid) } => write!(f, "uid {uid} (pid {pid})"),
            Self::Peer { uid, pid: None } => write!(f, "uid {uid}"),
            Self::Remote(address) => write!(f, "{address}"),
            Self::Program => f.write_str("this program"),
            Self::Launcher => f.write_str("the launcher"),
        }
    }
}
