//! Whether a port is free, and who holds it if not.

use super::sockets;
use crate::model::Ports;
use crate::observed::PortKind;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};
use std::collections::{BTreeSet, HashSet};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// The first of the two ports that a stranger listens on.
pub(crate) fn taken(ports: Ports) -> Option<(PortKind, u16)> {
    [(PortKind::Grpc, ports.grpc), (PortKind::Health, ports.health)].into_iter().find(|(_, port)| !is_free(*port))
}

/// Whether nobody listens on a port, on any address of either family.
///
/// It is bound and let go, never listened on, so that no client sees a connection accepted by the launcher. With
/// `SO_REUSEADDR` connections that linger do not count, as they will not for the process. A refusal for another reason,
/// such as a port below 1024, is left to the process, whose error says more.
pub(crate) fn is_free(port: u16) -> bool {
    [SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))]
        .iter()
        .all(|address| try_bind(address) != Err(Errno::ADDRINUSE))
}

fn try_bind(address: &SocketAddr) -> Result<(), Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        // Else it would ask about IPv4 once more.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, address)
}

/// The process that listens on a port, if that can be seen from here; and all ports that anybody listens on.
pub(crate) fn holder(port: u16) -> (Option<i32>, BTreeSet<u16>) {
    let listeners = sockets::listening(None);
    let listening = listeners.iter().map(|listener| listener.port).collect();
    let on_it = listeners.into_iter().filter(|listener| listener.port == port);
    let inodes: HashSet<u64> = on_it.map(|listener| listener.inode).collect();
    if inodes.is_empty() {
        return (None, listening);
    }
    (sockets::holder(|all| !all.is_disjoint(&inodes)), listening)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn own_pid() -> i32 {
        rustix::process::getpid().as_raw_nonzero().get()
    }

    #[test]
    fn a_listener_on_any_address_takes_the_port_and_is_named() {
        for address in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                eprintln!("skipped: this machine cannot listen on {address}");
                continue;
            };
            let port = listener.local_addr().expect("an address").port();
            assert!(!is_free(port), "{address}");
            assert_eq!(taken(Ports { grpc: port, health: 1 }), Some((PortKind::Grpc, port)), "{address}");
            let (holder, listening) = holder(port);
            assert_eq!((holder, listening.contains(&port)), (Some(own_pid()), true), "{address}");
        }
    }

    #[test]
    fn a_connection_that_lingers_takes_no_port() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let client = std::net::TcpStream::connect(address).expect("a connection");
        // The end that closes first is the one that lingers.
        let (server, _) = listener.accept().expect("a connection");
        drop(server);
        drop(listener);
        drop(client);
        assert!(is_free(address.port()));
        let (holder, listening) = holder(address.port());
        assert_eq!((holder, listening.contains(&address.port())), (None, false));
    }
}
