//! What the cgroups of a run tell of its use and of what it had to wait for.

use super::RunCgroup;
use super::limits::{Files, counted};
use crate::model::limits::Controller;
use std::time::Duration;

/// What something can be waited for that the kernel measures by cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pressure {
    /// CPU time.
    Cpu,
    /// Memory.
    Memory,
}

impl RunCgroup {
    /// CPU time of all its processes, which a v2 cgroup counts without any controller.
    pub(crate) fn cpu(&self) -> Option<Duration> {
        self.counted_in_cpu_stat("usage_usec").map(Duration::from_micros)
    }

    /// How long it was held back by its limit of CPU time.
    pub(crate) fn throttled(&self) -> Option<Duration> {
        match self.files(Controller::Cpu)? {
            Files::V2(_) => self.counted_in_cpu_stat("throttled_usec").map(Duration::from_micros),
            Files::V1(folder) => {
                let text = std::fs::read_to_string(folder.join("cpu.stat")).ok()?;
                counted(&text, "throttled_time").map(Duration::from_nanos)
            }
        }
    }

    /// How long something of it waited, where the kernel measures that: v2 only, without any controller.
    pub(crate) fn pressure(&self, on: Pressure) -> Option<Duration> {
        let file = match on {
            Pressure::Cpu => "cpu.pressure",
            Pressure::Memory => "memory.pressure",
        };
        waited(&std::fs::read_to_string(self.path.join(file)).ok()?)
    }

    fn counted_in_cpu_stat(&self, name: &str) -> Option<u64> {
        counted(&std::fs::read_to_string(self.path.join("cpu.stat")).ok()?, name)
    }
}

/// The time in which at least one process waited, as a file of the kernel's pressure stall information says it.
fn waited(text: &str) -> Option<Duration> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let total = some.split(' ').find_map(|word| word.strip_prefix("total="))?;
    total.parse().ok().map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::act::cgroup::Hierarchy;

    #[test]
    fn what_a_run_waited_for_is_read_in_v2_and_v1() {
        let pressure =
            "some avg10=0.00 avg60=1.50 avg300=0.00 total=1500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        assert_eq!(waited(pressure), Some(Duration::from_millis(1_500)));
        assert_eq!(waited(""), None);
        let place = tempfile::tempdir().expect("a folder");
        let (v2, v1) = (place.path().join("v2"), place.path().join("v1"));
        for folder in [&v2, &v1] {
            std::fs::create_dir(folder).expect("a folder");
        }
        std::fs::write(v2.join("cpu.stat"), "usage_usec 2000000\nnr_throttled 3\nthrottled_usec 250000\n")
            .expect("written");
        std::fs::write(v2.join("memory.pressure"), pressure).expect("written");
        let run = RunCgroup::found(v2.clone(), Hierarchy::V2, vec![v1.clone()]);
        assert_eq!((run.cpu(), run.throttled()), (Some(Duration::from_secs(2)), None), "no controller tells");
        assert_eq!(
            (run.pressure(Pressure::Memory), run.pressure(Pressure::Cpu)),
            (Some(Duration::from_millis(1_500)), None)
        );
        std::fs::write(v1.join("cpu.shares"), "1024\n").expect("written");
        std::fs::write(v1.join("cpu.stat"), "nr_periods 4\nnr_throttled 3\nthrottled_time 500000000\n")
            .expect("written");
        assert_eq!(run.throttled(), Some(Duration::from_millis(500)));
        std::fs::write(v2.join("cpu.max"), "max 100000\n").expect("written");
        assert_eq!(run.throttled(), Some(Duration::from_millis(250)));
    }
}
