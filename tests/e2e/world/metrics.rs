//! What a daemon counts and measures, read as Prometheus reads it.

use super::Daemon;
use std::collections::BTreeMap;

/// One scrape: every sample by its name and labels, as they are written.
#[derive(Debug, Clone)]
pub(crate) struct Samples(BTreeMap<String, f64>);

impl Samples {
    /// Scrapes a daemon; `None` while it does not answer.
    pub(crate) fn of(daemon: &Daemon) -> Option<Self> {
        let (status, text) = daemon.get("/metrics")?;
        assert_eq!(status, 200, "{text}");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let samples = lines.map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
            (name.to_owned(), value.parse().unwrap_or_else(|e| panic!("{e}: {line}")))
        });
        Some(Self(samples.collect()))
    }

    /// The sum over everything of this name, without its prefix, whose labels have all of `labels`, such as
    /// `pattern="hello"`.
    pub(crate) fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        self.each(name, labels).map(|(_, value)| value).sum()
    }

    /// The same, of what is counted.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is looked at before")]
    pub(crate) fn count(&self, name: &str, labels: &[&str]) -> usize {
        let sum = self.sum(name, labels);
        assert!(sum >= 0.0 && sum.fract() == 0.0, "{name} is no count: {sum}");
        sum as usize
    }

    /// Everything of this name whose labels have all of `labels`.
    fn each<'a>(&'a self, name: &'a str, labels: &'a [&'a str]) -> impl Iterator<Item = (&'a str, f64)> {
        self.0.iter().filter_map(move |(sample, value)| {
            let rest = sample.strip_prefix("pattern_launcher_")?.strip_prefix(name)?;
            let of_that_name = rest.is_empty() || rest.starts_with('{');
            (of_that_name && labels.iter().all(|label| rest.contains(label))).then_some((sample.as_str(), *value))
        })
    }

    /// The samples that count, and so never go down: counters, and the sums, counts and buckets of others. One gauge is
    /// named like a counter.
    pub(crate) fn counting(&self) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().map(|(sample, value)| (sample.as_str(), *value)).filter(|(sample, _)| {
            let name = sample.split('{').next().unwrap_or_default();
            let counts = ["_total", "_sum", "_count", "_bucket"].iter().any(|suffix| name.ends_with(suffix));
            counts && name != "pattern_launcher_processes_total"
        })
    }
}
