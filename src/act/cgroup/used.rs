//! What the cgroups of a run tell of its use and of what it had to wait for.

use super::RunCgroup;
use super::limits::{Files, counted, number};
use crate::act::kernel_file;
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

/// Which files there are that tell what a run uses. To find that out costs more than a reading, and it changes only where
/// somebody gives a controller to a group that has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    cpu: Option<Files>,
    memory: Option<Files>,
}

impl RunCgroup {
    /// The files that there are now.
    pub(crate) fn counters(&self) -> Counters {
        Counters { cpu: self.files(Controller::Cpu), memory: self.files(Controller::Memory) }
    }

    /// CPU time of all its processes, which a v2 cgroup counts without any controller; and how long it was held back by
    /// its limit of CPU time.
    pub(crate) fn cpu(&self, counters: &Counters) -> (Option<Duration>, Option<Duration>) {
        let stat = kernel_file::text(self.path.join("cpu.stat")).ok();
        let micros = |name| stat.as_deref().and_then(|text| counted(text, name)).map(Duration::from_micros);
        let throttled = match &counters.cpu {
            Some(Files::V2(_)) => micros("throttled_usec"),
            Some(Files::V1(folder)) => {
                let text = kernel_file::text(folder.join("cpu.stat")).ok();
                text.and_then(|text| counted(&text, "throttled_time")).map(Duration::from_nanos)
            }
            None => None,
        };
        (micros("usage_usec"), throttled)
    }

    /// How long something of it waited, where the kernel measures that: v2 only, without any controller.
    pub(crate) fn pressure(&self, on: Pressure) -> Option<Duration> {
        let file = match on {
            Pressure::Cpu => "cpu.pressure",
            Pressure::Memory => "memory.pressure",
        };
        waited(&kernel_file::text(self.path.join(file)).ok()?)
    }
}

impl Counters {
    /// The memory that it has, in bytes, where the kernel counts it.
    pub(crate) fn memory(&self) -> Option<u64> {
        match self.memory.as_ref()? {
            Files::V2(folder) => number(folder, "memory.current"),
            Files::V1(folder) => number(folder, "memory.usage_in_bytes"),
        }
    }

    /// Whether the kernel has killed a part of it for want of memory and left the rest, as v1 does.
    pub(crate) fn is_broken(&self) -> bool {
        self.memory.as_ref().is_some_and(|files| matches!(files, Files::V1(_)) && files.oom().is_some())
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
        let throttled = || run.cpu(&run.counters()).1;
        assert_eq!(
            (run.cpu(&run.counters()).0, throttled()),
            (Some(Duration::from_secs(2)), None),
            "no controller tells"
        );
        assert_eq!(
            (run.pressure(Pressure::Memory), run.pressure(Pressure::Cpu)),
            (Some(Duration::from_millis(1_500)), None)
        );
        std::fs::write(v1.join("cpu.shares"), "1024\n").expect("written");
        std::fs::write(v1.join("cpu.stat"), "nr_periods 4\nnr_throttled 3\nthrottled_time 500000000\n")
            .expect("written");
        assert_eq!(throttled(), Some(Duration::from_millis(500)));
        std::fs::write(v2.join("cpu.max"), "max 100000\n").expect("written");
        assert_eq!(throttled(), Some(Duration::from_millis(250)));
    }
}
