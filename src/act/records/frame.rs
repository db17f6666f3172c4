//! One record as one line of JSON: `{"version":1,"checksum":"…","record":…}`.
//!
//! The version stands first in every version there will ever be, so that an older launcher can tell a newer record
//! from a damaged one. The checksum is over the bytes of the record as they are written: nothing is parsed before it
//! has been verified, and the order in which a serializer prints is of no concern.

use crate::model::id::short_hash;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;

/// The version this launcher writes. A new field with a default needs no new version; one that must not be ignored does.
pub(super) const VERSION: u64 = 1;

const BEGIN: &str = "{\"version\":";
const CHECKSUM: &str = ",\"checksum\":\"";
const RECORD: &str = "\",\"record\":";
const END: &str = "}";

/// Why a line is not a record that can be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// It is not what was written.
    Damaged(String),
    /// A launcher of this later version wrote it.
    Newer(u64),
}

/// Appends `record` as one line, with its line feed.
pub(super) fn encode(record: &impl Serialize, out: &mut Vec<u8>) -> io::Result<()> {
    let body = serde_json::to_vec(record)?;
    let head = format!("{BEGIN}{VERSION}{CHECKSUM}{}{RECORD}", short_hash(&body));
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(&body);
    out.extend_from_slice(END.as_bytes());
    out.push(b'\n');
    Ok(())
}

/// Reads one line, without its line feed.
pub(super) fn decode<T: DeserializeOwned>(line: &[u8]) -> Result<T, Unusable> {
    let damaged = |why: &str| Unusable::Damaged(why.to_owned());
    let text = std::str::from_utf8(line).map_err(|_| damaged("it is not text"))?;
    let rest = text.strip_prefix(BEGIN).ok_or_else(|| damaged("it does not begin as a record does"))?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let version: u64 = rest[..digits].parse().map_err(|_| damaged("it has no version"))?;
    if version > VERSION {
        return Err(Unusable::Newer(version));
    }
    if version == 0 {
        return Err(damaged("there has never been a version 0"));
    }
    let (checksum, body) = rest[digits..]
        .strip_prefix(CHECKSUM)
        .and_then(|rest| rest.split_once(RECORD))
        .and_then(|(checksum, rest)| Some((checksum, rest.strip_suffix(END)?)))
        .ok_or_else(|| damaged("it is not whole"))?;
    if short_hash(body.as_bytes()) != checksum {
        return Err(damaged("its checksum is not that of its content"));
    }
    serde_json::from_str(body).map_err(|error| Unusable::Damaged(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(record: &str) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&record, &mut out).expect("text serializes");
        assert_eq!(out.pop(), Some(b'\n'));
        out
    }

    #[test]
    fn a_record_is_one_line_of_json_that_other_programs_can_read() {
        let line = line("a\nb");
        assert!(!line.contains(&b'\n'));
        let value: serde_json::Value = serde_json::from_slice(&line).expect("JSON");
        assert_eq!((&value["version"], &value["record"]), (&VERSION.into(), &"a\nb".into()));
    }

    #[test]
    fn a_newer_version_is_told_from_damage_whatever_follows_it() {
        assert_eq!(decode::<String>(b"{\"version\":2,\"anything\":[]}"), Err(Unusable::Newer(2)));
        assert!(matches!(decode::<String>(b"{\"version\":,"), Err(Unusable::Damaged(_))));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_and_one_changed_byte_is_noticed(
            record in "\\PC{0,40}", at in any::<prop::sample::Index>(), flip in 1_u8..=255
        ) {
            let mut line = line(&record);
            prop_assert_eq!(decode::<String>(&line), Ok(record));
            let at = at.index(line.len());
            line[at] ^= flip;
            prop_assert!(decode::<String>(&line).is_err());
        }

        #[test]
        fn any_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(decode::<String>(&bytes).is_err());
        }
    }
}
