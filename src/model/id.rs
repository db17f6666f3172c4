//! Names and identities, checked once where they enter.

use super::isolation::{Isolation, IsolationLevel};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::Arc;

/// The longest pattern name and namespace, in bytes.
const NAME_LIMIT: usize = 63;
/// The longest session id, in bytes.
const SESSION_LIMIT: usize = 128;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and wraps a name; the error says what is wrong with it, without repeating it.
            pub fn new(name: &str) -> Result<Self, String> {
                $check(name)?;
                Ok(Self(name.into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;
            fn try_from(name: String) -> Result<Self, String> {
                Self::new(&name)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;
            fn from_str(name: &str) -> Result<Self, String> {
                Self::new(name)
            }
        }
    };
}

name!(
    /// The name of a pattern: `[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?`.
    PatternName,
    check_pattern
);
name!(
    /// The name of a tenant: `[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?` without `..`.
    Namespace,
    check_namespace
);
name!(
    /// The id of a session: 1 to 128 bytes of printable text, such as `auth0|123` or `a+b@x`.
    SessionId,
    check_session
);

impl Namespace {
    /// The namespace of a session that names none: `default`.
    pub fn default_namespace() -> Self {
        Self("default".into())
    }
}

fn check_edges(
    name: &str,
    what: &str,
    inner: fn(u8) -> bool,
    edge: fn(u8) -> bool,
    allowed: &str,
) -> Result<(), String> {
    let bytes = name.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return Err(format!("a {what} must not be empty"));
    };
    if bytes.len() > NAME_LIMIT {
        return Err(format!("a {what} has at most {NAME_LIMIT} characters, this one has {}", bytes.len()));
    }
    if !bytes.iter().copied().all(inner) || !edge(*first) || !edge(*last) {
        return Err(format!("a {what} consists of {allowed}"));
    }
    Ok(())
}

fn check_pattern(name: &str) -> Result<(), String> {
    check_edges(
        name,
        "pattern name",
        |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-',
        |b| b.is_ascii_lowercase() || b.is_ascii_digit(),
        "lower-case letters, digits, '_' and '-', and begins and ends with a letter or digit",
    )
}

fn check_namespace(name: &str) -> Result<(), String> {
    check_edges(
        name,
        "namespace",
        |b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'),
        |b| b.is_ascii_alphanumeric(),
        "letters, digits, '.', '_' and '-', and begins and ends with a letter or digit",
    )?;
    if name.contains("..") { Err("a namespace does not contain '..'".to_owned()) } else { Ok(()) }
}

fn check_session(id: &str) -> Result<(), String> {
    if id.is_empty() || id.len() > SESSION_LIMIT {
        return Err(format!("a session id has 1 to {SESSION_LIMIT} bytes, this one has {}", id.len()));
    }
    if id.chars().any(|c| c.is_control() || is_unprintable(c)) {
        return Err("a session id consists of printable text".to_owned());
    }
    Ok(())
}

/// Characters that are no control characters and yet change how a line is shown: separators, bidirectional marks,
/// zero-width characters, the byte order mark and private use.
fn is_unprintable(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e000}'..='\u{f8ff}'
        | '\u{e0000}'..='\u{10ffff}')
}

/// The isolation key of an instance, printed as its process id: `shared:<pattern>`, `ns:<namespace>:<pattern>` or
/// `session:<namespace>:<session>:<pattern>`.
///
/// `%`, `:`, `/` and white space of a session are percent-encoded, so that two different identities never print alike.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(Arc<str>);

/// How much of a process id a file name shows before its hash, in bytes.
const FILE_PREFIX: usize = 80;

impl Key {
    /// The key of `pattern` at `isolation`.
    pub fn new(isolation: &Isolation, pattern: &PatternName) -> Self {
        let id = match isolation {
            Isolation::None => format!("shared:{pattern}"),
            Isolation::Namespace(namespace) => format!("ns:{namespace}:{pattern}"),
            Isolation::Session(namespace, session) => {
                format!("session:{namespace}:{}:{pattern}", encode_session(session.as_str()))
            }
        };
        Self(id.into())
    }

    /// Reads a process id as it is printed; the error says what is wrong with it.
    pub fn parse(id: &str) -> Result<Self, String> {
        let malformed = || {
            "a process id is shared:<pattern>, ns:<namespace>:<pattern> or session:<namespace>:<session>:<pattern>"
                .to_owned()
        };
        let mut parts = id.split(':');
        let (isolation, pattern) = match (parts.next(), parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some("shared"), Some(pattern), None, ..) => (Isolation::None, pattern),
            (Some("ns"), Some(namespace), Some(pattern), None, _) => {
                (Isolation::Namespace(Namespace::new(namespace)?), pattern)
            }
            (Some("session"), Some(namespace), Some(session), Some(pattern), None) => {
                let session = decode_session(session).ok_or_else(malformed)?;
                (Isolation::Session(Namespace::new(namespace)?, SessionId::new(&session)?), pattern)
            }
            _ => return Err(malformed()),
        };
        let key = Self::new(&isolation, &PatternName::new(pattern)?);
        if key.as_str() == id { Ok(key) } else { Err(malformed()) }
    }

    /// The process id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The isolation level, read from the id.
    pub fn level(&self) -> IsolationLevel {
        if self.0.starts_with("shared:") {
            IsolationLevel::None
        } else if self.0.starts_with("ns:") {
            IsolationLevel::Namespace
        } else {
            IsolationLevel::Session
        }
    }

    /// The namespace as text, empty for a shared process; what starts are served round-robin by.
    pub fn namespace(&self) -> &str {
        match self.level() {
            IsolationLevel::None => "",
            IsolationLevel::Namespace | IsolationLevel::Session => self.0.split(':').nth(1).unwrap_or(""),
        }
    }

    /// The isolation, read from the id; `None` only if the id was not made by [`Key::new`] or [`Key::parse`].
    pub fn isolation(&self) -> Option<Isolation> {
        let mut parts = self.0.split(':').skip(1);
        Some(match self.level() {
            IsolationLevel::None => Isolation::None,
            IsolationLevel::Namespace => Isolation::Namespace(Namespace::new(parts.next()?).ok()?),
            IsolationLevel::Session => Isolation::Session(
                Namespace::new(parts.next()?).ok()?,
                SessionId::new(&decode_session(parts.next()?)?).ok()?,
            ),
        })
    }

    /// The pattern, read from the id.
    pub fn pattern_name(&self) -> PatternName {
        PatternName(self.pattern().into())
    }

    /// The pattern's name as text.
    pub fn pattern(&self) -> &str {
        self.0.rsplit(':').next().unwrap_or("")
    }

    /// A file name for this key: a readable prefix and a hash. Injective, the same on case-insensitive file systems,
    /// and at most 113 bytes long.
    pub fn file_name(&self) -> String {
        let readable: String = self
            .0
            .chars()
            .take(FILE_PREFIX)
            .map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c.to_ascii_lowercase() } else { '-' })
            .collect();
        format!("{readable}-{}", short_hash(self.0.as_bytes()))
    }
}

/// The first 128 bits of the SHA-256 of `bytes`, in hexadecimal.
pub fn short_hash(bytes: &[u8]) -> String {
    use fmt::Write as _;
    Sha256::digest(bytes).iter().take(16).fold(String::with_capacity(32), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap_or_default();
        text
    })
}

fn encode_session(session: &str) -> String {
    use fmt::Write as _;
    session.chars().fold(String::with_capacity(session.len()), |mut out, c| {
        if matches!(c, '%' | ':' | '/') || c.is_whitespace() {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                write!(out, "%{byte:02X}").unwrap_or_default();
            }
        } else {
            out.push(c);
        }
        out
    })
}

fn decode_session(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte == b'%' {
            let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(byte);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Key {
    type Error = String;
    fn try_from(id: String) -> Result<Self, String> {
        Self::parse(&id)
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.0.as_ref().to_owned()
    }
}

/// One lifetime of one process of a key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(uuid::Uuid);

impl RunId {
    /// A run id from 128 random bits.
    pub const fn from_random(bits: u128) -> Self {
        Self(uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid())
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How often the content of an instance has changed; the first is 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// The generation after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn session_key(namespace: &str, session: &str) -> Key {
        let isolation =
            Isolation::Session(Namespace::new(namespace).expect("name"), SessionId::new(session).expect("session"));
        isolation.key(&PatternName::new("p").expect("name"))
    }

    #[test]
    fn names_are_checked_at_the_edges() {
        for good in ["a", "a-b", "0_9", "a".repeat(63).as_str()] {
            assert!(PatternName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a/b", "ä", "a".repeat(64).as_str()] {
            assert!(PatternName::new(bad).is_err(), "{bad}");
        }
        for good in ["A", "tenant-a", "a.b_c", "T1"] {
            assert!(Namespace::new(good).is_ok(), "{good}");
        }
        for bad in ["", "..", "a..b", ".a", "a/b", "a b", "a\n"] {
            assert!(Namespace::new(bad).is_err(), "{bad}");
        }
        for good in ["auth0|123", "a+b@x", "Zm9v/YmFy==", "über uns", "../../etc"] {
            assert!(SessionId::new(good).is_ok(), "{good}");
        }
        for bad in ["", "a\nb", "a\u{1b}[31m", "\u{202e}x", "x".repeat(129).as_str()] {
            assert!(SessionId::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn process_ids_print_as_the_contract_says() {
        let pattern = PatternName::new("consumer").expect("name");
        assert_eq!(Isolation::None.key(&pattern).as_str(), "shared:consumer");
        let namespace = Namespace::new("tenant-a").expect("name");
        assert_eq!(Isolation::Namespace(namespace).key(&pattern).as_str(), "ns:tenant-a:consumer");
        assert_eq!(session_key("t", "a:b/c d%").as_str(), "session:t:a%3Ab%2Fc%20d%25:p");
    }

    proptest! {
        #[test]
        fn keys_and_file_names_are_injective(a in "\\PC{1,40}", b in "\\PC{1,40}") {
            prop_assume!(SessionId::new(&a).is_ok() && SessionId::new(&b).is_ok());
            let (ka, kb) = (session_key("t", &a), session_key("t", &b));
            prop_assert_eq!(a == b, ka == kb);
            prop_assert_eq!(a == b, ka.file_name() == kb.file_name());
            prop_assert_eq!(ka.isolation().map(|i| i.key(&ka.pattern_name())), Some(ka.clone()));
            prop_assert_eq!(&Key::parse(ka.as_str()).expect("printed ids parse"), &ka);
            let file = ka.file_name();
            prop_assert!(file.len() < 255 && file.to_ascii_lowercase() == file);
        }
    }
}
