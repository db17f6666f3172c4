//! The values of settings as people write them: each is read from text, and the same text is read everywhere.

use super::source::nearest;
use crate::model::{environment, units};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Reads a value from a string or a number of a configuration file, through its `FromStr`.
fn from_text<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr<Err = String>,
    D: Deserializer<'de>,
{
    struct Text<T>(PhantomData<T>);
    impl<T: FromStr<Err = String>> de::Visitor<'_> for Text<T> {
        type Value = T;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("text or a number")
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }
        fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
            number.to_string().parse().map_err(E::custom)
        }
        fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
            number.to_string().parse().map_err(E::custom)
        }
        fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
            number.to_string().parse().map_err(E::custom)
        }
    }
    deserializer.deserialize_any(Text(PhantomData))
}

macro_rules! text_value {
    ($name:ident, $types:tt, $description:literal, $example:tt) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                from_text(deserializer)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": $types, "description": $description, "examples": [$example] })
            }
        }
    };
}

/// A length of time: `30s`, `1m30s`, `500ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        units::parse_duration(text).map(Self)
    }
}

text_value!(Span, "string", "A duration such as 30s, 1m30s or 500ms.", "30s");

/// A length of time, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanOrOff(pub Option<Duration>);

impl FromStr for SpanOrOff {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        or_off(text, units::parse_duration).map(Self)
    }
}

text_value!(SpanOrOff, "string", "A duration such as 1m, or off.", "1m");

/// A TCP port, or `off`. Port 0 lets the system choose one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortOrOff(pub Option<u16>);

impl FromStr for PortOrOff {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        or_off(text, port).map(Self)
    }
}

text_value!(PortOrOff, ["integer", "string"], "A port from 0 (any) to 65535, or off.", 9092);

/// Cores in thousandths, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoresOrOff(pub Option<u64>);

impl FromStr for CoresOrOff {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        or_off(text, cores).map(Self)
    }
}

text_value!(CoresOrOff, ["number", "string"], "A number of cores such as 0.5 or 2.0, or off.", 2.0);

/// A number of things, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountOrOff(pub Option<u64>);

impl FromStr for CountOrOff {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        or_off(text, |text| match text.parse() {
            Ok(count) if count > 0 => Ok(count),
            _ => Err(format!("'{}' is not a number from 1 on", echo(text))),
        })
        .map(Self)
    }
}

text_value!(CountOrOff, ["integer", "string"], "A number from 1 on, or off.", 10);

/// Bytes, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizeOrOff(pub Option<u64>);

impl FromStr for SizeOrOff {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match or_off(text, units::parse_size)? {
            Some(0) => Err("a size is more than nothing; write off for no limit".to_owned()),
            size => Ok(Self(size)),
        }
    }
}

text_value!(SizeOrOff, ["integer", "string"], "A size such as 256Mi or 1Gi, or off.", "1Gi");

/// Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        units::parse_size(text).map(Self)
    }
}

text_value!(Size, ["integer", "string"], "A size such as 16Mi or 1Gi.", "16Mi");

/// A range of ports, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange(pub u16, pub u16);

impl FromStr for PortRange {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (low, high) = text
            .split_once(['-', '–'])
            .ok_or_else(|| format!("'{}' is not a range of ports; write it as 15000-32767", echo(text)))?;
        let (low, high) = (port(low.trim())?, port(high.trim())?);
        if low == 0 || high <= low {
            return Err(format!("{low}-{high} is not a range of two or more ports; write it as 15000-32767"));
        }
        Ok(Self(low, high))
    }
}

text_value!(PortRange, "string", "Two ports, both included, such as 15000-32767.", "15000-32767");

/// A range of user ids, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange(pub u32, pub u32);

impl IdRange {
    /// What no distribution and no container runtime gives out, by systemd's table of user ids.
    pub const UNUSED: Self = Self(1_879_048_192, 2_147_483_646);
}

impl FromStr for IdRange {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let ends = text.split_once(['-', '–']).and_then(|(low, high)| {
            Some((low.trim().parse().ok()?, high.trim().parse().ok()?)).filter(|(low, high): &(u32, u32)| low < high)
        });
        match ends {
            Some((low, high)) if low >= 1_000 && high < u32::MAX => Ok(Self(low, high)),
            _ => Err(format!(
                "'{}' is not a range of user ids from 1000 to 4294967294; write it as 1879048192-2147483646",
                echo(text)
            )),
        }
    }
}

text_value!(IdRange, "string", "Two user ids, both included.", "1879048192-2147483646");

/// Where the cgroups of processes are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CgroupSetting {
    /// Below the launcher's own cgroup, where a v2 hierarchy or a v1 freezer is writable.
    Auto,
    /// Nowhere: processes are tracked by process group.
    Off,
    /// Below this folder.
    Path(PathBuf),
}

impl FromStr for CgroupSetting {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            path if path.starts_with('/') => Ok(Self::Path(path.into())),
            other => Err(format!("'{}' is neither auto, off nor an absolute path", echo(other))),
        }
    }
}

text_value!(
    CgroupSetting,
    "string",
    "auto, off, or an absolute path in a cgroup v2 hierarchy or a v1 freezer.",
    "auto"
);

/// What is logged: a level, or levels by module as `tracing` filters write them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLevel(pub String);

const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

impl FromStr for LogLevel {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        // A filter would take such a word for a module of which everything is logged, and nothing else.
        let is_level = |part: &&str| part.contains(['=', '[']) || part.parse::<LevelFilter>().is_ok();
        if let Some(word) = text.split(',').map(str::trim).find(|part| !is_level(part)) {
            let meant = nearest(word, LEVELS.into_iter()).map_or_else(|| LEVELS.join(", "), str::to_owned);
            let word = echo(word);
            return Err(format!("'{word}' is not a level: write {meant}; or {word}=debug for a module of that name"));
        }
        match EnvFilter::builder().parse(text) {
            Ok(_) if !text.trim().is_empty() => Ok(Self(text.to_owned())),
            _ => Err(format!("'{}' is not a level; use error, warn, info, debug or trace", echo(text))),
        }
    }
}

text_value!(LogLevel, "string", "error, warn, info, debug or trace; also by module: info,hyper=warn.", "info");

/// The name of an environment variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VariableName(pub String);

impl FromStr for VariableName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if environment::is_variable_name(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("'{}' is not the name of an environment variable", echo(text)))
        }
    }
}

text_value!(VariableName, "string", "The name of an environment variable.", "SSL_CERT_FILE");

/// The name of a host, or its address, in lower case and without a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName(pub String);

impl FromStr for HostName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if text.parse::<IpAddr>().is_ok() || (!text.is_empty() && text.chars().all(named)) {
            Ok(Self(text.to_ascii_lowercase()))
        } else {
            Err(format!("'{}' is not the name of a host; write it without a scheme and a port", echo(text)))
        }
    }
}

text_value!(HostName, "string", "The name or address of a host, without a port.", "launcher.internal");

/// What the launcher does with its processes when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum OnExit {
    /// End every process gracefully.
    Terminate,
    /// Leave every process running, to be taken over by the next launcher.
    Detach,
}

impl OnExit {
    /// The name as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Terminate => "terminate",
            Self::Detach => "detach",
        }
    }
}

/// What becomes of launched sessions when the machine is restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum SessionReboot {
    /// They end: whoever opened them has gone too.
    Drop,
    /// They start again like everything else.
    Keep,
}

/// What becomes of processes in the launcher's cgroups that have no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum OrphanPolicy {
    /// They are ended.
    End,
    /// They are told of and left alone.
    Report,
}

/// A set of defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Quick to look again, ends its processes when it ends.
    Development,
    /// Calmer, limits each process, leaves processes running when it ends.
    Production,
}

impl Profile {
    /// The name as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Production => "production",
        }
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// Lines for people, coloured on a terminal.
    Text,
    /// One JSON object per line.
    Json,
}

fn echo(text: &str) -> String {
    crate::error::Error::echo(text)
}

fn or_off<T>(text: &str, read: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    if text == "off" { Ok(None) } else { read(text).map(Some).map_err(|reason| format!("{reason}, or off")) }
}

fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| format!("'{}' is not a port; write a number from 0 to 65535", echo(text)))
}

/// The most cores a limit may name; far more than any machine has.
const CORES_LIMIT: f64 = 65_536.0;

fn cores(text: &str) -> Result<u64, String> {
    let number: f64 = text.parse().unwrap_or(f64::NAN);
    if !(0.001..=CORES_LIMIT).contains(&number) {
        return Err(format!("'{}' is not a number of cores; write it as 0.5 or 2.0", echo(text)));
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range above keeps it between 1 and 65,536,000"
    )]
    Ok((number * 1000.0).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_range_has_at_least_two_ports() {
        assert_eq!("15000-32767".parse(), Ok(PortRange(15_000, 32_767)));
        assert_eq!("15000 – 15001".parse(), Ok(PortRange(15_000, 15_001)));
        for bad in ["", "1", "0-5", "5-5", "6-5", "1-70000", "a-b"] {
            assert!(bad.parse::<PortRange>().is_err(), "{bad}");
        }
    }

    #[test]
    fn off_is_a_value_of_what_can_be_off() {
        assert_eq!("off".parse(), Ok(SpanOrOff(None)));
        assert_eq!("off".parse(), Ok(PortOrOff(None)));
        assert_eq!("0.5".parse(), Ok(CoresOrOff(Some(500))));
        assert_eq!("1Gi".parse(), Ok(SizeOrOff(Some(1 << 30))));
        assert!("never".parse::<SpanOrOff>().unwrap_err().ends_with("or off"));
        for bad in ["0", "-1", "nan", "inf", "1e9"] {
            assert!(bad.parse::<CoresOrOff>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_host_has_no_port() {
        assert_eq!("Launcher.internal".parse(), Ok(HostName("launcher.internal".to_owned())));
        assert_eq!("::1".parse(), Ok(HostName("::1".to_owned())));
        for bad in ["", "a:80", "http://a", "a b", "*"] {
            assert!(bad.parse::<HostName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_level_is_checked_when_it_is_read() {
        assert!("info".parse::<LogLevel>().is_ok());
        assert!("info,hyper=warn".parse::<LogLevel>().is_ok());
        assert!("OFF,pattern_launcher::probe=debug".parse::<LogLevel>().is_ok());
        for (wrong, told) in [("loud", "write error, warn"), ("info,inof", "write info;"), ("hyper", "or hyper=debug")]
        {
            let error = wrong.parse::<LogLevel>().unwrap_err();
            assert!(error.contains("is not a level") && error.contains(told), "{error}");
        }
        for bad in ["", "a=b=c", "info,hyper=loud"] {
            assert!(bad.parse::<LogLevel>().is_err(), "{bad}");
        }
    }
}
