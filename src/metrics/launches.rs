//! How long launches took: a summary with three quantiles over the latest ones, which `prometheus` has no type for.

use super::level;
use crate::model::IsolationLevel;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType, Quantile, Summary};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Quantiles are of this many latest launches of a level: enough for a 99th percentile that ten of them decide.
const LATEST: usize = 1_024;
/// All levels, in the order of their definition.
pub(super) const LEVELS: [IsolationLevel; 3] =
    [IsolationLevel::None, IsolationLevel::Namespace, IsolationLevel::Session];
const NAME: &str = "pattern_launcher_launch_duration_seconds";
const HELP: &str = "From the request to the healthy process, of launches that had to wait for one; \
                    quantiles of the latest 1,024 of each level";

/// Quantiles of durations, in seconds; zero when there are none.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Quantiles {
    /// Half took no longer.
    pub p50: f64,
    /// 95 % took no longer.
    pub p95: f64,
    /// 99 % took no longer.
    pub p99: f64,
    /// All together, since the launcher was started.
    pub sum: f64,
    /// How many, since the launcher was started.
    pub count: u64,
}

#[derive(Debug, Default)]
struct Level {
    latest: VecDeque<f64>,
    sum: f64,
    count: u64,
}

/// The durations of launches, by isolation level.
#[derive(Debug, Default)]
pub(super) struct Launches([Mutex<Level>; LEVELS.len()]);

impl Launches {
    pub(super) fn note(&self, level: IsolationLevel, took: Duration) {
        let Some(at) = LEVELS.iter().position(|one| *one == level) else { return };
        let mut level = lock(&self.0[at]);
        if level.latest.len() >= LATEST {
            level.latest.pop_front();
        }
        level.latest.push_back(took.as_secs_f64());
        level.sum += took.as_secs_f64();
        level.count += 1;
    }

    /// Of all levels together.
    pub(super) fn quantiles(&self) -> Quantiles {
        let mut all = Level::default();
        for level in &self.0 {
            let level = lock(level);
            all.latest.extend(&level.latest);
            all.sum += level.sum;
            all.count += level.count;
        }
        all.quantiles()
    }
}

impl Level {
    fn quantiles(&self) -> Quantiles {
        let mut sorted: Vec<f64> = self.latest.iter().copied().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        // The smallest that at least this many thousandths do not exceed.
        let at = |thousandths: usize| {
            let rank = (sorted.len() * thousandths).div_ceil(1_000).saturating_sub(1);
            sorted.get(rank).copied().unwrap_or_default()
        };
        Quantiles { p50: at(500), p95: at(950), p99: at(990), sum: self.sum, count: self.count }
    }
}

fn lock(level: &Mutex<Level>) -> MutexGuard<'_, Level> {
    // Nothing that can panic runs while it is held.
    level.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is registered.
#[derive(Clone)]
pub(super) struct Collected {
    pub(super) launches: Arc<Launches>,
    desc: Desc,
}

impl Collected {
    pub(super) fn new(launches: Arc<Launches>) -> prometheus::Result<Self> {
        let desc = Desc::new(NAME.to_owned(), HELP.to_owned(), vec!["isolation".to_owned()], HashMap::new())?;
        Ok(Self { launches, desc })
    }
}

impl Collector for Collected {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut family = MetricFamily::default();
        family.set_name(NAME.to_owned());
        family.set_help(HELP.to_owned());
        family.set_field_type(MetricType::SUMMARY);
        let metrics = LEVELS.iter().zip(&self.launches.0).map(|(isolation, own)| {
            let own = lock(own).quantiles();
            let mut summary = Summary::default();
            summary.set_sample_count(own.count);
            summary.set_sample_sum(own.sum);
            let quantile = |share: f64, value: f64| {
                let mut quantile = Quantile::default();
                quantile.set_quantile(share);
                // A quantile of nothing is not a number.
                quantile.set_value(if own.count == 0 { f64::NAN } else { value });
                quantile
            };
            summary.set_quantile(vec![quantile(0.5, own.p50), quantile(0.95, own.p95), quantile(0.99, own.p99)]);
            let mut label = LabelPair::default();
            label.set_name("isolation".to_owned());
            label.set_value(level(*isolation).to_owned());
            let mut metric = Metric::from_label(vec![label]);
            metric.set_summary(summary);
            metric
        });
        family.set_metric(metrics.collect());
        vec![family]
    }
}
