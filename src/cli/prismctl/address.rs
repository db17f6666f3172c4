//! Where the daemon is.

use super::failure::{Result, Told, UNREACHABLE, USAGE};
use crate::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};

/// The name of the daemon's socket in its state folder.
const SOCKET: &str = "api.sock";
/// The state folder of a daemon that was started in the current folder.
const HERE: &str = ".pattern-launcher";
/// The state folder of a daemon that is a service of the machine.
const SERVICE: &str = "/var/lib/pattern-launcher";
/// What begins an address with TLS.
const HTTPS: &str = "https://";

/// Where a daemon listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    /// On a unix socket.
    Unix(PathBuf),
    /// On TCP.
    Tcp {
        /// A name or an IP address, without brackets.
        host: String,
        /// The port.
        port: u16,
        /// Whether with TLS.
        is_encrypted: bool,
    },
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp { host, port, is_encrypted } => {
                let scheme = if *is_encrypted { HTTPS } else { "" };
                if host.contains(':') {
                    write!(f, "{scheme}[{host}]:{port}")
                } else {
                    write!(f, "{scheme}{host}:{port}")
                }
            }
        }
    }
}

impl Address {
    /// The address that is given, else the first socket that is there: in `state_directory`, which systemd gives, in
    /// the state folder of the current folder, and in that of a service.
    pub(super) fn find(given: Option<&str>, state_directory: Option<&str>) -> Result<Self> {
        if let Some(given) = given.filter(|given| !given.is_empty()) {
            return Ok(Self::parse(given).map_err(|reason| Told::new(USAGE, reason))?);
        }
        let states = state_directory.and_then(|all| all.split(':').next()).filter(|first| !first.is_empty());
        let folders = states.into_iter().chain([HERE, SERVICE]).map(Path::new);
        Self::first_there(&folders.map(|folder| folder.join(SOCKET)).collect::<Vec<_>>())
    }

    /// A place that cannot be looked into is taken for the right one: connecting then says what is missing.
    fn first_there(places: &[PathBuf]) -> Result<Self> {
        if let Some(place) = places.iter().find(|place| place.try_exists().unwrap_or(true)) {
            return Ok(Self::Unix(place.clone()));
        }
        let looked: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
        Err(Told::new(UNREACHABLE, "no daemon was found")
            .with("looked_for", looked.join(" and "))
            .suggest(
                "start the daemon here with `pattern-launcher run`, go to the folder it runs in, or name where it \
                 listens: --address unix:PATH, HOST:PORT or https://HOST:PORT, also in PRISMCTL_ADDRESS",
            )
            .into())
    }

    /// Reads `unix:PATH`, `HOST:PORT` and `https://HOST:PORT`; the error says how to write it.
    pub(super) fn parse(text: &str) -> std::result::Result<Self, String> {
        let malformed =
            || format!("'{}' is not an address; write unix:PATH, HOST:PORT or https://HOST:PORT", Error::echo(text));
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() { Err(malformed()) } else { Ok(Self::Unix(path.into())) };
        }
        let encrypted = text.strip_prefix(HTTPS).map(|rest| rest.strip_suffix('/').unwrap_or(rest));
        let (host, port) = encrypted.unwrap_or(text).rsplit_once(':').ok_or_else(malformed)?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match bracketed {
            Some(host) => host,
            None if host.contains([':', '/', '[', ']']) => return Err(malformed()),
            None => host,
        };
        let port: u16 = port.parse().ok().filter(|port| *port > 0).ok_or_else(malformed)?;
        let is_encrypted = encrypted.is_some();
        if host.is_empty() { Err(malformed()) } else { Ok(Self::Tcp { host: host.to_owned(), port, is_encrypted }) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::failure::Failure;
    use super::*;

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp { host: host.to_owned(), port, is_encrypted: false }
    }

    #[test]
    fn addresses_read_as_people_write_them() {
        assert_eq!(Address::parse("unix:/run/a b.sock"), Ok(Address::Unix("/run/a b.sock".into())));
        assert_eq!(Address::parse("unix:///run/a.sock"), Ok(Address::Unix("/run/a.sock".into())));
        assert_eq!(Address::parse("localhost:8982"), Ok(tcp("localhost", 8982)));
        assert_eq!(Address::parse("[::1]:8982"), Ok(tcp("::1", 8982)));
        assert_eq!(tcp("::1", 8982).to_string(), "[::1]:8982");
        for encrypted in ["https://localhost:8982", "https://[::1]:8982"] {
            let address = Address::parse(encrypted).unwrap();
            assert!(matches!(address, Address::Tcp { port: 8982, is_encrypted: true, .. }), "{address}");
            assert_eq!(address.to_string(), encrypted);
            assert_eq!(Address::parse(&format!("{encrypted}/")), Ok(address));
        }
        for bad in [
            "",
            "unix:",
            "localhost",
            ":1",
            "a:0",
            "a:70000",
            "http://a:1",
            "::1:8982",
            "/run/a.sock",
            "https://",
            "https://a",
            "https://a:1/b",
        ] {
            let refused = Address::parse(bad).unwrap_err();
            assert!(refused.contains("unix:PATH, HOST:PORT or https://HOST:PORT"), "{bad}: {refused}");
        }
    }

    #[test]
    fn the_first_socket_that_is_there_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let places = [folder.path().join("one"), folder.path().join("two")];
        let Err(Failure::Told(told)) = Address::first_there(&places) else { panic!("nothing is there") };
        assert_eq!(told.exit, UNREACHABLE);
        let text = told.text(false);
        for place in &places {
            assert!(text.contains(place.to_str().unwrap()), "{text}");
        }
        assert!(text.contains("pattern-launcher run") && text.contains("--address"), "{text}");
        std::fs::write(&places[1], "").unwrap();
        assert_eq!(Address::first_there(&places).unwrap(), Address::Unix(places[1].clone()));
    }

    #[test]
    fn an_empty_address_is_none_and_a_wrong_one_is_wrong_usage() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(SOCKET), "").unwrap();
        let found = Address::find(Some(""), folder.path().to_str()).unwrap();
        assert_eq!(found, Address::Unix(folder.path().join(SOCKET)));
        let Err(Failure::Told(told)) = Address::find(Some("nonsense"), None) else { panic!("it is no address") };
        assert_eq!(told.exit, USAGE);
    }
}
