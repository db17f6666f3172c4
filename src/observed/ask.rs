//! What a running launcher is asked for about one key, apart from what is asked of the store; and what anybody who is
//! asked answers about a key that there is not, or when the launcher ends.

use crate::error::{Code, Error};
use crate::model::{Caller, Key};
use std::time::Duration;

/// Something that somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// About which key.
    pub key: Key,
    /// Who.
    pub by: Caller,
    /// What.
    pub ask: Ask,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Of a declared key: renew its `ttl`; if it has finished, run it again.
    Launch,
    /// Of a key that nothing declares any more and that is still ending: let its grace period end this much from now
    /// at the latest.
    Hasten(Duration),
    /// Stop it until it is resumed, or for this long.
    Suspend {
        /// For people.
        reason: String,
        /// `None` is until it is resumed.
        lasting: Option<Duration>,
    },
    /// End its suspension.
    Resume,
    /// End its process with its own grace period and start another, without counting a failure; a backoff ends.
    Restart,
    /// Forget its failures and close its circuit.
    Reset,
    /// Give up a process whose identity cannot be verified.
    Abandon,
}

/// The launcher takes no orders any more.
pub fn shutting_down() -> Error {
    Error::new(Code::StoreUnavailable, "The launcher is shutting down")
        .suggest("start it again with pattern-launcher run, then ask again; what was answered before holds")
}

/// Nothing declares the key, or nothing knows it. `known` are the keys of which a near one may be meant.
pub fn not_declared<'a>(key: &Key, known: impl Iterator<Item = &'a Key>) -> Error {
    let error = Error::new(Code::ProcessNotFound, format!("No process '{}' is declared", Error::echo(key.as_str())))
        .with("process_id", Error::echo(key.as_str()));
    match known.filter(|other| is_near(key.as_str(), other.as_str())).min() {
        Some(meant) => {
            error.suggest(format!("did you mean {}? prismctl pattern list shows them all", Error::word(meant.as_str())))
        }
        None => error.suggest("prismctl pattern list shows what is declared"),
    }
}

/// Whether two ids differ in up to two characters that stand together. It looks at each character once, since all keys
/// are compared.
fn is_near(one: &str, other: &str) -> bool {
    const APART: usize = 2;
    let (short, long) = if one.len() <= other.len() { (one, other) } else { (other, one) };
    if long.len() - short.len() > APART || short == long {
        return false;
    }
    let (a, b) = (short.as_bytes(), long.as_bytes());
    let front = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let back = a[front..].iter().rev().zip(b[front..].iter().rev()).take_while(|(a, b)| a == b).count();
    long.len() - front - back <= APART
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_id_is_one_edit_away() {
        for (one, other, near) in [
            ("ns:a:consumer", "ns:a:consmer", true),
            ("ns:a:consumer", "ns:a:consumre", true),
            ("ns:a:consumer", "ns:b:consumer", true),
            ("ns:aaaa:aaaa", "ns:aaa:aaaa", true),
            ("ns:a:consumer", "ns:b:consumes", false),
            ("ns:a:consumer", "ns:a:consumer", false),
            ("ns:a:consumer", "ns:a:producer", false),
            ("shared:p", "ns:tenant:p", false),
        ] {
            assert_eq!(is_near(one, other), near, "{one} {other}");
        }
    }
}
