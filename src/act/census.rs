//! A list of all processes of the machine, taken once for everybody who asks at the same time.
//!
//! Without cgroups every exit and every kill needs one. When a thousand runs end together they must not read a
//! thousand lists of thousands of processes.

use super::identity::{ProcessStat, all_processes, environment_value};
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Mutex;

/// The pid of the kernel's own threads' parent: they have no environment.
const KTHREADD: i32 = 2;

/// Every process, and the run it says it belongs to.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    /// The processes in no order.
    pub(crate) processes: Vec<ProcessStat>,
    /// `RUN_ID` by pid, of those that have one and let it be read.
    marks: HashMap<i32, String>,
}

impl Machine {
    /// Reads `/proc`: about 10 µs a process.
    pub(crate) fn read() -> io::Result<Self> {
        let processes = all_processes()?;
        let marks = processes
            .iter()
            .filter(|stat| stat.parent != KTHREADD && !stat.has_ended())
            .filter_map(|stat| Some((stat.pid, environment_value(stat.pid, "RUN_ID")?)))
            .collect();
        Ok(Self { processes, marks })
    }

    /// Whether a process was started with this `RUN_ID`.
    pub(crate) fn carries(&self, pid: i32, run: &str) -> bool {
        self.marks.get(&pid).is_some_and(|found| found == run)
    }
}

/// Takes the list for all who ask.
#[derive(Debug, Default)]
pub(crate) struct Census {
    /// How often somebody has asked.
    asked: AtomicU64,
    /// The last list, and which askers came before it was begun.
    latest: Mutex<(u64, Arc<Machine>)>,
}

impl Census {
    /// A list that was begun after this call was: what was started before is in it.
    pub(crate) async fn take(&self) -> io::Result<Arc<Machine>> {
        let ticket = self.asked.fetch_add(1, Ordering::SeqCst);
        let mut latest = self.latest.lock().await;
        if latest.0 > ticket {
            return Ok(Arc::clone(&latest.1));
        }
        let served = self.asked.load(Ordering::SeqCst);
        let machine = tokio::task::spawn_blocking(Machine::read).await.map_err(io::Error::other)??;
        *latest = (served, Arc::new(machine));
        Ok(Arc::clone(&latest.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn those_who_ask_together_share_a_list_that_is_not_older_than_their_question() {
        let census = Census::default();
        let (first, second, third) = tokio::join!(census.take(), census.take(), census.take());
        let [first, second, third] = [first, second, third].map(|list| list.expect("/proc"));
        assert!(Arc::ptr_eq(&second, &third) || Arc::ptr_eq(&first, &second));
        let later = census.take().await.expect("/proc");
        assert!(!Arc::ptr_eq(&third, &later) && !later.processes.is_empty());
    }
}
