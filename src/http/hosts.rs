//! Under which names the server may be asked for.
//!
//! A web page can have its own name lead to a loopback address (DNS rebinding), and its script then reads what that
//! answers. A browser always says by which name it asks, so on a loopback address only names count that cannot be
//! somebody else's. On any other address the network decides who may ask.

use hyper::header::HOST;
use hyper::{Request, Version};
use std::net::{IpAddr, SocketAddr};

/// The names that count, besides `localhost` and addresses of the machine itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hosts(Vec<String>);

/// Why a request is not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It does not say by which name it asks, or in more than one way.
    Unclear,
    /// It asks by this name.
    Stranger(String),
}

impl Hosts {
    /// Those of a listener, in lower case; `None` when any name will do.
    pub(super) fn of(listening: SocketAddr, names: &[String]) -> Option<Self> {
        listening.ip().to_canonical().is_loopback().then(|| Self(names.to_vec()))
    }

    /// Whether a request may be answered.
    pub(super) fn check<B>(&self, request: &Request<B>) -> Result<(), Refusal> {
        let mut named = request.headers().get_all(HOST).iter();
        let host = match (request.uri().authority(), named.next(), named.next()) {
            (_, Some(_), Some(_)) => return Err(Refusal::Unclear),
            // What is asked for by a whole address counts as named there.
            (Some(authority), ..) => authority.as_str(),
            (None, Some(host), None) => host.to_str().map_err(|_| Refusal::Unclear)?,
            // No browser speaks HTTP/1.0, and simple health checks do.
            (None, None, _) if request.version() == Version::HTTP_10 => return Ok(()),
            (None, None, _) => return Err(Refusal::Unclear),
        };
        let name = without_port(host);
        if self.is_ours(name) { Ok(()) } else { Err(Refusal::Stranger(name.to_owned())) }
    }

    fn is_ours(&self, name: &str) -> bool {
        let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
        let bare = bare.strip_suffix('.').unwrap_or(bare).to_ascii_lowercase();
        match bare.parse::<IpAddr>() {
            Ok(address) if address.to_canonical().is_loopback() => true,
            _ => bare == "localhost" || self.0.contains(&bare),
        }
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts() -> Hosts {
        Hosts::of("127.0.0.1:9092".parse().unwrap(), &["launcher.internal".to_owned()]).expect("names count there")
    }

    fn asked(version: Version, uri: &str, named: &[&str]) -> Result<(), Refusal> {
        let mut request = Request::builder().version(version).uri(uri);
        for host in named {
            request = request.header(HOST, *host);
        }
        hosts().check(&request.body(()).unwrap())
    }

    #[test]
    fn only_names_that_are_nobody_elses_count_on_a_loopback_address() {
        for host in [
            "localhost",
            "LOCALHOST:9092",
            "localhost.",
            "127.0.0.1:9092",
            "127.1.2.3",
            "[::1]:9092",
            "[::1]",
            "launcher.internal:80",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert_eq!(asked(Version::HTTP_11, "/metrics", &[host]), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9092",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "192.168.1.1",
            "0.0.0.0",
            "",
            "evil-localhost",
            "localhost@evil.example",
            "[::2]:80",
            "launcher.internal.evil.example",
        ] {
            assert!(matches!(asked(Version::HTTP_11, "/metrics", &[host]), Err(Refusal::Stranger(_))), "{host}");
        }
    }

    #[test]
    fn a_request_says_once_by_which_name_it_asks() {
        assert_eq!(asked(Version::HTTP_11, "/", &[]), Err(Refusal::Unclear));
        assert_eq!(asked(Version::HTTP_11, "/", &["localhost", "evil.example"]), Err(Refusal::Unclear));
        assert_eq!(asked(Version::HTTP_10, "/", &[]), Ok(()));
        assert!(asked(Version::HTTP_10, "/", &["evil.example"]).is_err());
        assert!(asked(Version::HTTP_11, "http://evil.example/metrics", &["localhost"]).is_err());
        assert!(asked(Version::HTTP_11, "http://localhost:1/metrics", &["localhost"]).is_ok());
    }

    #[test]
    fn on_an_address_of_the_network_any_name_counts() {
        assert_eq!(Hosts::of("0.0.0.0:80".parse().unwrap(), &[]), None);
        assert_eq!(Hosts::of("10.0.0.5:80".parse().unwrap(), &[]), None);
        assert!(Hosts::of("[::1]:80".parse().unwrap(), &[]).is_some());
    }
}
