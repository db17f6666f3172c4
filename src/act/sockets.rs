//! Who listens where, as the kernel tells it.

mod diag;

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listener {
    /// On which port.
    pub(super) port: u16,
    /// Which connections to 127.0.0.1 it can be given; `None` for one that is given none.
    pub(super) reach: Option<Reach>,
    /// By what it is found under the descriptors of a process.
    pub(super) inode: u64,
}

/// The TCP sockets that listen on a port, or on any, of either family.
pub(super) fn listening(port: Option<u16>) -> Vec<Listener> {
    // A kernel may be without it, and a sandbox may forbid it.
    diag::listening(port).unwrap_or_else(|_| printed(port))
}

/// The same as `/proc` tells it.
fn printed(port: Option<u16>) -> Vec<Listener> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| std::fs::read_to_string(table).unwrap_or_default());
    let listeners = tables.iter().flat_map(|table| table.lines().skip(1)).filter_map(listener);
    listeners.filter(|listener| port.is_none_or(|port| listener.port == port)).collect()
}

/// A process with sockets like these, if it can be seen from here.
pub(super) fn holder(has: impl Fn(&HashSet<u64>) -> bool) -> Option<i32> {
    all_pids().ok()?.into_iter().find(|pid| of(*pid).is_some_and(|all| has(&all)))
}

/// The inodes of the sockets that a process has open; `None` where that cannot be seen.
pub(super) fn of(pid: i32) -> Option<HashSet<u64>> {
    let inode = |link: &Path| {
        let target = std::fs::read_link(link).ok()?;
        target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
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
    let words = address.as_bytes().chunks(8);
    // Each 32 bits are printed as a number of this machine.
    let word = |word| Some(u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?.to_ne_bytes());
    let address = words.map(word).collect::<Option<Vec<_>>>()?;
    let inode = inode.parse().ok()?;
    (state == LISTEN).then(|| Listener { port, reach: reach(&address), inode })
}

fn reach(address: &[[u8; 4]]) -> Option<Reach> {
    match address {
        [LOOPBACK] | [ANY, ANY, [0, 0, 0xff, 0xff], LOOPBACK] => Some(Reach::Loopback),
        [ANY] => Some(Reach::AnyV4),
        [ANY, ANY, [0, 0, 0xff, 0xff] | ANY, ANY] => Some(Reach::AnyV6),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn the_kernel_says_over_either_way_who_listens_on_a_port_and_of_nobody_else() {
        for address in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0", "[::ffff:127.0.0.1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                eprintln!("skipped: this machine cannot listen on {address}");
                continue;
            };
            let port = listener.local_addr().expect("an address").port();
            // A connection has the same port.
            let connected = TcpStream::connect(listener.local_addr().expect("an address"));
            let asked = match diag::listening(Some(port)) {
                Ok(asked) => asked,
                Err(errno) => {
                    eprintln!("skipped: this machine has no sock_diag: {errno}");
                    continue;
                }
            };
            assert_eq!(asked, printed(Some(port)), "{address}");
            let [Listener { port: told, inode, .. }] = asked.as_slice() else { panic!("{address}: {asked:?}") };
            assert_eq!(*told, port);
            let own = rustix::process::getpid().as_raw_nonzero().get();
            assert!(of(own).expect("its own").contains(inode), "{address}");
            for all in [diag::listening(None), Ok(printed(None))] {
                assert!(all.is_ok_and(|all| all.contains(&asked[0])), "{address}");
            }
            drop((listener, connected));
            assert_eq!(diag::listening(Some(port)), Ok(vec![]), "{address}");
        }
    }
}
