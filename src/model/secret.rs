//! Values that must not be printed by accident.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// What stands in place of a value that is not shown.
pub const HIDDEN: &str = "***";

/// Parts of names whose values are secrets, in lower case. `key` alone would also be in `monkey`.
const TELLTALES: [&str; 14] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "credential",
    "private_key",
    "privatekey",
    "apikey",
    "api_key",
    "access_key",
    "authorization",
    "signature",
    "session_key",
];
/// Names that end like this are secrets too.
const TELLTALE_ENDS: [&str; 6] = ["_key", "_pass", "_pwd", "_pw", "_dsn", "_auth"];
/// A secret that is shorter stands in ordinary words, and hiding it there would tell it.
const SHORTEST: usize = 4;
/// Of a secret with more lines, such as a bundle of certificates, only these are looked for one by one.
const LINES: usize = 256;

/// A configuration value: shown as `***` by `Debug`, without `Display`; [`Secret::reveal`] is the one way to read it.
///
/// It serializes as it is, since records and launch files need the value; both are readable by the owner only.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the process it is meant for.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The value as people may see it who ask what a variable of this name is: hidden where the name says that it is a
    /// secret, and without the password of a URL.
    pub fn shown(&self, name: &str) -> Cow<'_, str> {
        match (names_a_secret(name), password(&self.0)) {
            (true, _) => Cow::Borrowed(HIDDEN),
            (false, Some(password)) => Cow::Owned(self.0.replace(password, HIDDEN)),
            (false, None) => Cow::Borrowed(&self.0),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

/// Whether the value of a variable of this name is a secret.
pub fn names_a_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace('-', "_");
    ["key", "pass", "pwd", "dsn", "auth"].contains(&name.as_str())
        || TELLTALES.iter().any(|telltale| name.contains(telltale))
        || TELLTALE_ENDS.iter().any(|end| name.ends_with(end))
}

/// The password in a URL such as `postgres://user:password@host/`.
fn password(value: &str) -> Option<&str> {
    let (_, rest) = value.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (user, _) = authority.rsplit_once('@')?;
    user.split_once(':').map(|(_, password)| password).filter(|password| !password.is_empty())
}

/// Takes the secrets of an instance out of texts that its program may have put them into.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mask(Vec<Secret>);

impl Mask {
    /// For variables by their names.
    pub fn of<'a>(variables: impl Iterator<Item = (&'a String, &'a Secret)>) -> Self {
        Self::of_values(variables.filter_map(|(name, value)| {
            let text = value.reveal();
            if names_a_secret(name) { Some(text) } else { password(text) }
        }))
    }

    /// For the secrets themselves: the whole of each, and each of its lines, since texts are looked at line by line.
    pub fn of_values<'a>(values: impl Iterator<Item = &'a str>) -> Self {
        let parts = values.flat_map(|value| std::iter::once(value).chain(value.lines().take(LINES)));
        let found = parts.map(str::trim).filter(|part| part.len() >= SHORTEST).map(Secret::new).collect();
        Self::sorted(found)
    }

    /// For the secrets of both.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        Self::sorted(self.0)
    }

    /// One secret may be a part of another.
    fn sorted(mut found: Vec<Secret>) -> Self {
        found.sort_by(|a, b| b.reveal().len().cmp(&a.reveal().len()).then_with(|| a.cmp(b)));
        found.dedup();
        Self(found)
    }

    /// The text without them.
    pub fn applied<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut masked = Cow::Borrowed(text);
        for secret in &self.0 {
            if masked.contains(secret.reveal()) {
                masked = Cow::Owned(masked.replace(secret.reveal(), HIDDEN));
            }
        }
        masked
    }

    /// The text without them, where it was cut out of another: the end of one may be at its beginning, and the
    /// beginning of one at its end.
    pub fn applied_to_cut(&self, text: &str) -> String {
        let masked = self.applied(text).into_owned();
        let ends = self.0.iter().filter_map(|secret| longest(secret, &masked, Cut::End)).max().unwrap_or(0);
        let rest = &masked[..masked.len() - ends];
        let begins = self.0.iter().filter_map(|secret| longest(secret, rest, Cut::Beginning)).max().unwrap_or(0);
        let hidden = |length: usize| if length > 0 { HIDDEN } else { "" };
        format!("{}{}{}", hidden(begins), &rest[begins..], hidden(ends))
    }
}

/// Where a text was cut.
#[derive(Clone, Copy)]
enum Cut {
    Beginning,
    End,
}

/// How much of a secret is left where a text was cut.
fn longest(secret: &Secret, text: &str, cut: Cut) -> Option<usize> {
    let secret = secret.reveal();
    let lengths = secret.char_indices().map(|(at, _)| at).filter(|at| *at > 0);
    let parts = lengths.map(|at| match cut {
        Cut::Beginning => &secret[at..],
        Cut::End => &secret[..at],
    });
    let there = parts.filter(|part| (SHORTEST..=text.len()).contains(&part.len())).filter(|part| match cut {
        Cut::Beginning => text.starts_with(part),
        Cut::End => text.ends_with(part),
    });
    there.map(str::len).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn names_say_what_is_secret() {
        for name in
            ["PASSWORD", "db_password", "API_TOKEN", "api-key", "AWS_SECRET_ACCESS_KEY", "KEY", "SLOT_DB_DSN", "AUTH"]
        {
            assert!(names_a_secret(name), "{name}");
        }
        for name in ["LOG_LEVEL", "MONKEY", "KEYBOARD", "kafka_brokers", "SLOT_STORAGE_URL", "COMPASS", "AUTHOR"] {
            assert!(!names_a_secret(name), "{name}");
        }
    }

    #[test]
    fn a_value_is_shown_without_what_is_secret_in_it() {
        for (name, value, shown) in [
            ("LOG_LEVEL", "debug", "debug"),
            ("API_TOKEN", "abc", HIDDEN),
            ("URL", "postgres://u:p4ss@h/d?x=1", "postgres://u:***@h/d?x=1"),
            ("URL", "postgres://u@h/d", "postgres://u@h/d"),
            ("URL", "https://h/a:b@c", "https://h/a:b@c"),
        ] {
            assert_eq!(Secret::new(value).shown(name), shown, "{name}");
        }
        assert_eq!(format!("{:?}", Secret::new("abc")), HIDDEN);
    }

    #[test]
    fn each_line_of_a_secret_is_one() {
        let mask = Mask::of_values(["-----BEGIN-----\nAAAABBBB\n", "x\ny"].into_iter());
        assert_eq!(mask.applied("it says AAAABBBB, x and y"), "it says ***, x and y");
        let both = mask.and(Mask::of_values(std::iter::once("other")));
        assert_eq!(both.applied("other AAAABBBB"), "*** ***");
    }

    #[test]
    fn a_secret_that_was_cut_is_hidden_too() {
        let mask = Mask::of_values(["hunter2-é", "0123456789"].into_iter());
        for (text, shown) in [
            ("is hunt", "is ***"),
            ("is hunter2-é", "is ***"),
            ("ter2-é is", "*** is"),
            ("er2-é: 3456789 of 012345", "***: 3456789 of ***"),
            ("hun is 789", "hun is 789"),
            ("6789", "***"),
            ("", ""),
        ] {
            assert_eq!(mask.applied_to_cut(text), shown, "{text}");
        }
    }

    #[test]
    fn a_mask_takes_secrets_out_of_any_text() {
        let variables: BTreeMap<String, Secret> = [
            ("API_TOKEN", "hunter2"),
            ("OTHER_TOKEN", "hunter2-and-more"),
            ("DB", "postgres://u:p4ss@h/d"),
            ("PIN_SECRET", "12"),
            ("LOG_LEVEL", "debug"),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), Secret::new(value)))
        .collect();
        let mask = Mask::of(variables.iter());
        let text = "debug: hunter2, hunter2-and-more and p4ss, 12 times";
        assert_eq!(mask.applied(text), "debug: ***, *** and ***, 12 times");
        assert!(matches!(mask.applied("nothing"), Cow::Borrowed("nothing")));
        assert!(!format!("{mask:?}").contains("hunter2"));
    }
}
