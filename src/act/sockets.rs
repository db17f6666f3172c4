//! Who listens where, as `/proc` tells it.

use super::identity::all_pids;
use crate::plan::squatting::Reach;
use std::collections::HashSet;
use std::path::Path;

/// The state of a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";
/// 127.0.0.1 there, as the kernel prints its bytes, and all addresses.
const LOOPBACK: [u8; 4] = [127, 0, 0, 1];
const ANY: [u8; 4] = [0, 0, 0, 0];

/// A socket that listens.
pub(super) struct Listener {
    /// On which port.
    pub(super) port: u16,
    /// Which connections to 127.0.0.1 it can be given; `None` for one that is given none.
    pub(super) reach: Option<Reach>,
    /// By what it is found under the descriptors of a process.
    pub(super) inode: String,
}

/// All TCP sockets that listen, of either family.
pub(super) fn listening() -> Vec<Listener> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| std::fs::read_to_string(table).unwrap_or_default());
    tables.iter().flat_map(|table| table.lines().skip(1)).filter_map(listener).collect()
}

/// A process with sockets like these, if it can be seen from here.
pub(super) fn holder(has: impl Fn(&HashSet<String>) -> bool) -> Option<i32> {
    all_pids().ok()?.into_iter().find(|pid| of(*pid).is_some_and(|all| has(&all)))
}

/// The inodes of the sockets that a process has open; `None` where that cannot be seen.
pub(super) fn of(pid: i32) -> Option<HashSet<String>> {
    let inode = |link: &Path| {
        let target = std::fs::read_link(link).ok()?;
        Some(target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
    };
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    Some(entries.flatten().filter_map(|entry| inode(&entry.path())).collect())
}

/// What a line of `/proc/net/tcp` or `tcp6` tells of, if it listens.
fn listener(line: &str) -> Option<Listener> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (address, port) = fields.next()?.rsplit_once(':')?;
    let (state, inode) = (fields.nth(1)?, fields.nth(5)?);
    let port = u16::from_str_radix(port, 16).ok()?;
    (state == LISTEN).then(|| Listener { port, reach: reach(address), inode: inode.to_owned() })
}

fn reach(address: &str) -> Option<Reach> {
    let words: Vec<[u8; 4]> = address
        .as_bytes()
        .chunks(8)
        // Each 32 bits are printed as a number of this machine.
        .map(|word| Some(u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?.to_ne_bytes()))
        .collect::<Option<_>>()?;
    match words.as_slice() {
        [LOOPBACK] | [ANY, ANY, [0, 0, 0xff, 0xff], LOOPBACK] => Some(Reach::Loopback),
        [ANY] => Some(Reach::AnyV4),
        [ANY, ANY, [0, 0, 0xff, 0xff] | ANY, ANY] => Some(Reach::AnyV6),
        _ => None,
    }
}
