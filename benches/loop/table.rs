//! The figures, printed once at the end so that nothing is written while something is measured.

#![expect(clippy::cast_precision_loss, reason = "figures for people have three digits")]

use crate::api::Calls;
use std::time::Duration;

/// The table in the making.
pub(crate) struct Table(Vec<[String; 3]>);

impl Table {
    pub(crate) fn new() -> Self {
        Self(Vec::new())
    }

    /// Measures something several times; returns the median.
    pub(crate) fn times(&mut self, what: &str, rounds: usize, mut once: impl FnMut() -> Duration) -> Duration {
        self.samples(what, (0..rounds).map(|_| once()).collect())
    }

    /// Takes down what was measured several times; returns the median.
    pub(crate) fn samples(&mut self, what: &str, mut samples: Vec<Duration>) -> Duration {
        samples.sort_unstable();
        let median = samples[samples.len() / 2];
        let spread = format!("{} – {}", shown(samples[0]), shown(samples[samples.len() - 1]));
        self.line(what, &shown(median), &spread);
        median
    }

    /// How many times as long the first took as the second.
    pub(crate) fn ratio(&mut self, measured: Duration, bare: Duration) {
        let ratio = measured.as_secs_f64() / bare.as_secs_f64();
        self.line("  beside the bare loop", &format!("{ratio:.2} ×"), "");
    }

    /// How many times as long the first took as `what`, which took as long as the second.
    pub(crate) fn beside(&mut self, what: &str, measured: Duration, bare: Duration) {
        let ratio = measured.as_secs_f64() / bare.as_secs_f64();
        self.line(&format!("  beside {what}"), &format!("{ratio:.3} ×"), "");
    }

    /// Takes down many calls: the median, the 99th percentile and the rate.
    pub(crate) fn calls(&mut self, what: &str, calls: &Calls) {
        let at = |share: usize| shown(calls.times[(calls.times.len() * share / 100).min(calls.times.len() - 1)]);
        self.line(what, &format!("p50 {}, p99 {}", at(50), at(99)), &format!("{:.0} a second", calls.rate()));
    }

    /// The rate of the first as a share of that of the second.
    pub(crate) fn rate_ratio(&mut self, measured: f64, bare: f64) {
        self.line("  beside the empty method", &format!("{:.0} % of its rate", 100.0 * measured / bare), "");
    }

    /// How much longer the first took than the second.
    pub(crate) fn beyond(&mut self, what: &str, measured: Duration, bare: Duration) {
        self.line(what, &shown(measured.saturating_sub(bare)), "");
    }

    /// The memory of the daemon with so many instances.
    pub(crate) fn memory(&mut self, count: usize, kib: u64) {
        let per = if count == 0 { String::new() } else { format!("{:.1} KiB each", kib as f64 / count as f64) };
        self.line(
            &format!("daemon's memory (PSS), {count} instances"),
            &format!("{:.1} MiB", kib as f64 / 1024.0),
            &per,
        );
    }

    /// The CPU of the daemon at rest: seconds used within a span.
    pub(crate) fn cpu(&mut self, count: usize, used: (Duration, Duration)) {
        self.cpu_of(&format!("daemon's CPU at rest, {count} instances"), used);
    }

    /// The CPU that `what` names: seconds used within a span.
    pub(crate) fn cpu_of(&mut self, what: &str, (used, span): (Duration, Duration)) {
        let share = 100.0 * used.as_secs_f64() / span.as_secs_f64();
        self.line(&format!("{what}, {} s", span.as_secs()), &format!("{share:.3} % of a core"), &shown(used));
    }

    /// A figure of another kind.
    pub(crate) fn figure(&mut self, what: &str, value: &str, more: &str) {
        self.line(what, value, more);
    }

    /// A number of things.
    pub(crate) fn count(&mut self, what: &str, count: u64) {
        self.line(what, &count.to_string(), "");
    }

    fn line(&mut self, what: &str, value: &str, more: &str) {
        eprintln!("{what}: {value} {more}");
        self.0.push([what.to_owned(), value.to_owned(), more.to_owned()]);
    }

    /// Prints it as Markdown.
    pub(crate) fn print(&self) {
        println!("| what | median | range |\n|---|---|---|");
        for [what, value, more] in &self.0 {
            println!("| {what} | {value} | {more} |");
        }
    }
}

fn shown(time: Duration) -> String {
    if time.as_secs() > 0 {
        format!("{:.2} s", time.as_secs_f64())
    } else if time < Duration::from_millis(1) {
        format!("{:.1} µs", time.as_secs_f64() * 1e6)
    } else {
        format!("{:.2} ms", time.as_secs_f64() * 1000.0)
    }
}
