//! Asking the kernel who listens (sock_diag(7)). It looks through what listens, while `/proc/net/tcp` also
//! prints every connection that there is and that there lately was: with a thousand instances that is the difference
//! between microseconds and a tenth of a second.

use super::{Listener, reach};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};

/// A kernel's answers come in pieces of up to this size.
const PIECE: usize = 32 << 10;
/// Of `linux/netlink.h`: the size of a header, what a request is, and what ends the answers.
const HEADER: usize = 16;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const REQUEST_AND_DUMP: u16 = 0x301;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// Of `linux/inet_diag.h`: the sizes of a request and of an answer, and where in them the fields are.
const REQUEST: usize = 56;
const ANSWER: usize = 72;
const STATES: usize = 4;
const PORT_ASKED: usize = 8;
const PORT: usize = 4;
const ADDRESS: usize = 8;
const INODE: usize = 68;
/// Of `net/tcp_states.h`.
const LISTEN: u32 = 10;
const TCP: u8 = 6;

/// The sockets that listen on a port, or on any, of either family.
pub(super) fn listening(port: Option<u16>) -> Result<Vec<Listener>, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::SOCK_DIAG))?;
    let mut found = Vec::new();
    for family in [AddressFamily::INET, AddressFamily::INET6] {
        ask(&socket, family, port)?;
        take(&socket, &mut found)?;
    }
    Ok(found)
}

fn ask(socket: &OwnedFd, family: AddressFamily, port: Option<u16>) -> Result<(), Errno> {
    let mut request = [0; HEADER + REQUEST];
    let size = u32::try_from(request.len()).unwrap_or_default();
    let mut put = |at: usize, bytes: &[u8]| request[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &size.to_ne_bytes());
    put(4, &SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    put(6, &REQUEST_AND_DUMP.to_ne_bytes());
    put(HEADER, &[u8::try_from(family.as_raw()).unwrap_or_default(), TCP]);
    put(HEADER + STATES, &(1_u32 << LISTEN).to_ne_bytes());
    // 0 is any.
    put(HEADER + PORT_ASKED, &port.unwrap_or(0).to_be_bytes());
    send(socket, &request, SendFlags::empty()).map(drop)
}

/// Takes in the answers, which are there by the time that the request has been sent, and after each piece the next.
fn take(socket: &OwnedFd, found: &mut Vec<Listener>) -> Result<(), Errno> {
    let mut piece = vec![0; PIECE];
    loop {
        let (length, _) = recv(socket, piece.as_mut_slice(), RecvFlags::empty())?;
        let mut rest = piece.get(..length).unwrap_or_default();
        while !rest.is_empty() {
            let size = usize::try_from(u32_at(rest, 0)?).unwrap_or(usize::MAX);
            let message = rest.get(HEADER..size).ok_or(Errno::BADMSG)?;
            match u16_at(rest, 4)? {
                DONE => return Ok(()),
                // A negative number of an error.
                ERROR => return Err(Errno::from_raw_os_error(u32_at(message, 0)?.cast_signed().saturating_neg())),
                SOCK_DIAG_BY_FAMILY => found.extend(listener(message)?),
                _ => {}
            }
            rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

fn listener(message: &[u8]) -> Result<Option<Listener>, Errno> {
    if message.len() < ANSWER {
        return Err(Errno::BADMSG);
    }
    let words = if i32::from(message[0]) == i32::from(AddressFamily::INET.as_raw()) { 1 } else { 4 };
    let address: Vec<[u8; 4]> = message[ADDRESS..].as_chunks().0.iter().take(words).copied().collect();
    let port = u16::from_be_bytes([message[PORT], message[PORT + 1]]);
    let listens = u32::from(message[1]) == LISTEN;
    let inode = u64::from(u32_at(message, INODE)?);
    Ok(listens.then(|| Listener { port, reach: reach(&address), inode }))
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, Errno> {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map(|number| u16::from_ne_bytes(*number)).ok_or(Errno::BADMSG)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, Errno> {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map(|number| u32::from_ne_bytes(*number)).ok_or(Errno::BADMSG)
}
