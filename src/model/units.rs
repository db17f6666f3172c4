//! Durations, sizes and signals as people write them.

use std::fmt::Write as _;
use std::time::Duration;

/// Reads `500ms`, `30s`, `1m30s`, `2h`, `1d`; every part is a whole or decimal number and a unit.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let malformed =
        || format!("'{}' is not a duration; write it as 30s, 1m30s or 500ms", crate::error::Error::echo(text));
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(malformed());
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(malformed)?;
        let number: f64 = rest[..digits].parse().map_err(|_| malformed())?;
        let unit_end = rest[digits..].find(|c: char| !c.is_ascii_alphabetic()).map_or(rest.len(), |n| digits + n);
        let unit = match &rest[digits..unit_end] {
            "us" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return Err(malformed()),
        };
        let part = Duration::try_from_secs_f64(number * unit).map_err(|_| malformed())?;
        total = total.checked_add(part).ok_or_else(malformed)?;
        rest = &rest[unit_end..];
    }
    Ok(total)
}

/// Prints a duration so that [`parse_duration`] reads the same back, down to microseconds.
pub fn format_duration(duration: Duration) -> String {
    if duration.is_zero() {
        return "0s".to_owned();
    }
    let mut micros = duration.as_micros();
    let mut out = String::new();
    for (unit, size) in
        [("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)]
    {
        let count = micros / size;
        micros %= size;
        if count > 0 {
            write!(out, "{count}{unit}").unwrap_or_default();
        }
    }
    out
}

/// Reads a time as RFC 3339 writes it, such as `2031-05-01T12:00:00Z` or `2031-05-01T12:00:00.5+02:00`; in milliseconds
/// since 1970. Earlier times are refused.
pub fn parse_time(text: &str) -> Result<u64, String> {
    read_time(text.trim())
        .ok_or_else(|| format!("'{}' is not a time; write it as 2031-05-01T12:00:00Z", crate::error::Error::echo(text)))
}

fn read_time(text: &str) -> Option<u64> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let zone_at = rest.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = rest.split_at(zone_at);
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let length = *lengths.get(usize::try_from(month).ok()?.checked_sub(1)?)?;
    if !(1..=length).contains(&day) || hour > 23 || minute > 59 || second > 60 || year < 1970 {
        return None;
    }
    if fraction.is_empty() || fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let years = (1970..year).map(|y| if y % 4 == 0 && (y % 100 != 0 || y % 400 == 0) { 366 } else { 365 }).sum::<i64>();
    let days = years + lengths.iter().take(usize::try_from(month).ok()? - 1).sum::<i64>() + day - 1;
    let offset = match zone.split_at_checked(1)? {
        ("Z" | "z", "") => 0,
        (sign, ahead) => {
            let [hours, minutes] = numbers(ahead, ':', [2, 2])?;
            let ahead = hours * 60 + minutes;
            if sign == "+" { ahead } else { -ahead }
        }
    };
    let seconds = ((days * 24 + hour) * 60 + minute - offset) * 60 + second;
    let millis: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    u64::try_from(seconds * 1_000 + millis).ok()
}

/// Numbers of so many digits each.
fn numbers<const N: usize>(text: &str, between: char, digits: [usize; N]) -> Option<[i64; N]> {
    let parts: Vec<&str> = text.split(between).collect();
    let mut numbers = [0; N];
    for (at, number) in numbers.iter_mut().enumerate() {
        let part = parts.get(at).filter(|part| part.len() == digits[at] && part.bytes().all(|b| b.is_ascii_digit()))?;
        *number = part.parse().ok()?;
    }
    (parts.len() == N).then_some(numbers)
}

/// Reads `256Mi`, `1Gi`, `64Ki`, `500M`, `1G`, `100K` or a plain number of bytes.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let malformed = || format!("'{}' is not a size; write it as 256Mi, 1Gi or 500M", crate::error::Error::echo(text));
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let factor: u64 = match &text[digits..] {
        "" => 1,
        "K" | "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return Err(malformed()),
    };
    let (whole, fraction) = text[..digits].split_once('.').unwrap_or((&text[..digits], ""));
    if whole.is_empty() || fraction.len() > 9 || fraction.contains('.') {
        return Err(malformed());
    }
    let bytes = whole.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).ok_or_else(malformed)?;
    if fraction.is_empty() {
        return Ok(bytes);
    }
    let parts: u128 = fraction.parse().map_err(|_| malformed())?;
    let scale = 10_u128.pow(u32::try_from(fraction.len()).map_err(|_| malformed())?);
    u64::try_from(parts * u128::from(factor) / scale)
        .ok()
        .and_then(|rest| bytes.checked_add(rest))
        .ok_or_else(malformed)
}

/// Prints a size so that [`parse_size`] reads the same back: in the largest unit that it is a whole number of.
pub fn format_size(bytes: u64) -> String {
    for (unit, shift) in [("Gi", 30), ("Mi", 20), ("Ki", 10)] {
        if bytes >= 1 << shift && bytes.trailing_zeros() >= shift {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// Prints thousandths of a core as a number of cores.
pub fn format_cores(millis: u64) -> String {
    let text = format!("{}.{:03}", millis / 1_000, millis % 1_000);
    let short = text.trim_end_matches('0');
    if short.ends_with('.') { format!("{short}0") } else { short.to_owned() }
}

/// Serde for an [`std::time::Duration`] written as people write it: `#[serde(with = "units::duration")]`.
pub mod duration {
    use serde::{Deserialize, Deserializer, Serializer, de};
    use std::time::Duration;

    /// Writes `1m30s`.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::format_duration(*duration))
    }

    /// Reads `1m30s`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        super::parse_duration(&text).map_err(de::Error::custom)
    }
}

/// As [`duration`], for what may be absent.
pub mod optional_duration {
    use serde::{Deserialize, Deserializer, Serializer, de};
    use std::time::Duration;

    /// Writes `1m30s`, or nothing.
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => serializer.serialize_some(&super::format_duration(*duration)),
            None => serializer.serialize_none(),
        }
    }

    /// Reads `1m30s`, or nothing.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| super::parse_duration(&text)).transpose().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_read_as_people_write_them() {
        assert_eq!(parse_duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        for bad in ["", "30", "s", "-1s", "1x", "1..s", "99999999999999999999d"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_read_as_people_write_them() {
        assert_eq!(parse_size("256Mi"), Ok(256 << 20));
        assert_eq!(parse_size("1.5Gi"), Ok(3 << 29));
        assert_eq!(parse_size("100K"), Ok(100_000));
        assert_eq!(parse_size("17"), Ok(17));
        for bad in ["", "Mi", "-1", "1Qi", "1.2.3M", "99999999999999999999"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_and_cores_are_printed_as_people_write_them() {
        assert_eq!([1 << 30, 96 << 20, 1_000].map(format_size), ["1Gi", "96Mi", "1000"]);
        assert_eq!([2_000, 1_500, 5].map(format_cores), ["2.0", "1.5", "0.005"]);
    }

    #[test]
    fn times_read_as_rfc_3339_writes_them() {
        assert_eq!(parse_time("1970-01-01T00:00:00Z"), Ok(0));
        assert_eq!(parse_time("2024-02-29T12:30:15.250Z"), Ok(1_709_209_815_250));
        assert_eq!(parse_time("2024-02-29T14:30:15.25+02:00"), Ok(1_709_209_815_250));
        assert_eq!(parse_time("2024-02-29 07:00:15-05:30"), Ok(1_709_209_815_000));
        assert_eq!(parse_time("2100-03-01T00:00:00Z"), Ok(4_107_542_400_000));
        for bad in [
            "",
            "now",
            "2024-02-29",
            "2023-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:00:00",
            "2024-1-1T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "2024-01-01T00:00:00.Z",
        ] {
            assert!(parse_time(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_printed_duration_reads_back(micros in 0_u64..10_000_000_000_000) {
            let duration = Duration::from_micros(micros);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn a_printed_size_reads_back(bytes in 0_u64..1 << 45, shift in 0_u32..40) {
            for size in [bytes, bytes >> shift << shift] {
                prop_assert_eq!(parse_size(&format_size(size)), Ok(size));
            }
        }

        #[test]
        fn nothing_panics(text in "\\PC{0,20}") {
            drop(parse_duration(&text));
            drop(parse_size(&text));
            drop(parse_time(&text));
        }
    }
}
