//! The ceilings of namespaces as people write them.

use super::Settings;
use super::value::{CoresOrOff, CountOrOff, SizeOrOff};
use super::{refused, within};
use crate::act::LogLimits;
use crate::error::Result;
use crate::model::{Ceiling, Ceilings, Namespace};
use schemars::JsonSchema;
use serde::Deserialize;
use std::str::FromStr;

/// What the processes of a namespace may come to together; of every namespace that has no entry of its own, where none is
/// named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NamespaceLimits {
    /// The namespace.
    #[schemars(with = "Option<String>")]
    pub namespace: Option<Namespace>,
    /// Processes that run, start or end.
    pub instances: Option<CountOrOff>,
    /// Starts under way at once.
    pub starts: Option<CountOrOff>,
    /// The sum of their cpu limits.
    pub cpu: Option<CoresOrOff>,
    /// The sum of their memory limits.
    pub memory: Option<SizeOrOff>,
    /// The sum of their pids limits.
    pub pids: Option<CountOrOff>,
}

impl NamespaceLimits {
    /// These, and where they say nothing, `usual`.
    fn over(&self, usual: Ceiling) -> Ceiling {
        Ceiling {
            instances: self.instances.map_or(usual.instances, |count| count.0),
            starts: self.starts.map_or(usual.starts, |count| count.0),
            cpu_millis: self.cpu.map_or(usual.cpu_millis, |cores| cores.0),
            memory: self.memory.map_or(usual.memory, |size| size.0),
            pids: self.pids.map_or(usual.pids, |count| count.0),
        }
    }
}

impl FromStr for NamespaceLimits {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let mut limits = Self::default();
        for part in text.split(',') {
            match part.split_once('=') {
                Some(("namespace", name)) => limits.namespace = Some(name.parse()?),
                Some(("instances", count)) => limits.instances = Some(count.parse()?),
                Some(("starts", count)) => limits.starts = Some(count.parse()?),
                Some(("cpu", cores)) => limits.cpu = Some(cores.parse()?),
                Some(("memory", size)) => limits.memory = Some(size.parse()?),
                Some(("pids", count)) => limits.pids = Some(count.parse()?),
                _ => {
                    return Err(
                        "write it as namespace=NAME,instances=10,starts=4,cpu=2.0,memory=4Gi,pids=500, with at \
                                least one of them"
                            .to_owned(),
                    );
                }
            }
        }
        Ok(limits)
    }
}

/// A log is not rotated at less than this, or it would be rotated all the time.
const LOG_SIZE_LEAST: u64 = 64 * 1024;
/// Nor at more: it would never be.
const LOG_SIZE_MOST: u64 = 1 << 40;
/// The most archives of a log: each is a file.
const LOG_FILES_MOST: u32 = 1_000;

/// How much of the output of instances is kept.
pub(super) fn logs(settings: &Settings) -> Result<LogLimits> {
    let usual = LogLimits::default();
    let size = settings.log_max_size.map_or(usual.max_size, |size| size.0);
    let or_off = |set: Option<SizeOrOff>, usual| set.map_or(usual, |size| size.0);
    Ok(LogLimits {
        max_size: within("log_max_size", size, LOG_SIZE_LEAST..=LOG_SIZE_MOST)?,
        max_files: within("log_max_files", settings.log_max_files.unwrap_or(usual.max_files), 0..=LOG_FILES_MOST)?,
        namespace: or_off(settings.log_max_namespace, usual.namespace),
        total: or_off(settings.log_max_total, usual.total),
        reserve: or_off(settings.log_disk_reserve, usual.reserve),
    })
}

/// The most processes that can be asked for: more than a machine has pids.
const PROCESSES_LIMIT: u32 = 4_194_304;

/// All ceilings: an entry without a name is for all namespaces, and each other takes over from it what it does not say.
pub(super) fn ceilings(max_processes: Option<u32>, entries: &[NamespaceLimits]) -> Result<Ceilings> {
    let processes =
        max_processes.map(|count| within("max_processes", count, 1..=PROCESSES_LIMIT).map(u64::from)).transpose()?;
    let mut ceilings = Ceilings { processes, ..Ceilings::default() };
    for (at, entry) in entries.iter().enumerate() {
        if entries[..at].iter().any(|other| other.namespace == entry.namespace) {
            let whose = entry.namespace.as_ref().map_or_else(|| "every namespace".to_owned(), ToString::to_string);
            return Err(refused("namespace_limits", "the ceilings of a namespace are given twice")
                .with("namespace", whose)
                .suggest(
                    "give one entry of namespace_limits for each namespace, and one without 'namespace' for the others",
                ));
        }
    }
    if let Some(usual) = entries.iter().find(|entry| entry.namespace.is_none()) {
        ceilings.usual = usual.over(Ceiling::default());
    }
    for entry in entries {
        if let Some(namespace) = &entry.namespace {
            ceilings.named.insert(namespace.to_string(), entry.over(ceilings.usual));
        }
    }
    Ok(ceilings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(entries: &[&str]) -> Result<Ceilings> {
        let entries: Vec<NamespaceLimits> = entries.iter().map(|text| text.parse().expect("valid")).collect();
        ceilings(Some(100), &entries)
    }

    #[test]
    fn a_named_namespace_takes_over_what_it_does_not_say() {
        let all =
            read(&["namespace=a,instances=3,memory=off", "instances=10,cpu=2.5,memory=1Gi,pids=7,starts=2"]).unwrap();
        assert_eq!(all.processes, Some(100));
        let a = all.of("a");
        assert_eq!((a.instances, a.memory, a.cpu_millis, a.starts), (Some(3), None, Some(2_500), Some(2)));
        assert_eq!((all.of("b").instances, all.of("b").pids), (Some(10), Some(7)));
        assert_eq!(all.of(""), Ceiling::default(), "level none is in no namespace");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for twice in [["instances=1", "instances=2"], ["namespace=a,pids=1", "namespace=a,cpu=1"]] {
            assert_eq!(read(&twice).unwrap_err().context_value("setting"), Some("namespace_limits"));
        }
        assert_eq!(ceilings(Some(0), &[]).unwrap_err().context_value("setting"), Some("max_processes"));
        for bad in ["", "instances", "instances=x", "instances=0", "namespace=a..b", "memory=0", "cpu=-1", "disk=1"] {
            assert!(bad.parse::<NamespaceLimits>().is_err(), "{bad}");
        }
    }
}
