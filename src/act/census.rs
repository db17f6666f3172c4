//! A list of all processes of the machine, taken once for everybody who asks at the same time.
//!
//! Without cgroups every exit and every kill needs one. When a thousand runs end together they must not read a
//! thousand lists of thousands of processes.

use super::identity::{ProcessStat, all_pids, environment_value};
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Mutex;

/// The pid of the kernel's own threads' parent: they have no environment.
const KTHREADD: i32 = 2;

/// How often new processes are looked for within one list: only a machine that forks all the while has some each time.
const LOOKS: usize = 64;

/// Every process, and the run it says it belongs to.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    /// The processes in no order.
    pub(crate) processes: Vec<ProcessStat>,
    /// Whether everything that lived at one moment is among them.
    pub(crate) is_whole: bool,
    /// `RUN_ID` by pid, of those that have one and let it be read.
    marks: HashMap<i32, String>,
}

impl Machine {
    /// Reads `/proc`: about 10 µs a process.
    pub(crate) fn read() -> io::Result<Self> {
        Self::read_by(all_pids, |pid| {
            let stat = ProcessStat::read(pid).ok()?;
            let may_be_marked = stat.parent != KTHREADD && !stat.has_ended();
            Some((stat, may_be_marked.then(|| environment_value(pid, "RUN_ID")).flatten()))
        })
    }

    /// A process can end between being listed and being read, and what it has started meanwhile is not in that list. So
    /// what has come since is looked for until nothing has: everything that lived when the last list was made was read.
    fn read_by(
        mut list: impl FnMut() -> io::Result<Vec<i32>>,
        read: impl Fn(i32) -> Option<(ProcessStat, Option<String>)>,
    ) -> io::Result<Self> {
        let mut machine = Self::default();
        let mut seen = HashSet::new();
        for _ in 0..LOOKS {
            let fresh: Vec<i32> = list()?.into_iter().filter(|pid| seen.insert(*pid)).collect();
            if fresh.is_empty() {
                machine.is_whole = true;
                break;
            }
            for (stat, mark) in fresh.into_iter().filter_map(&read) {
                machine.marks.extend(mark.map(|mark| (stat.pid, mark)));
                machine.processes.push(stat);
            }
        }
        Ok(machine)
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

    fn process(pid: i32) -> (ProcessStat, Option<String>) {
        let (session, start_time) = (pid, 1);
        let stat =
            ProcessStat { pid, state: b'S', parent: 1, group: pid, session, threads: 1, start_time, exit_status: 0 };
        (stat, Some("run".to_owned()))
    }

    #[test]
    fn what_ends_after_it_was_listed_does_not_hide_what_it_has_started() {
        let mut lists = [vec![1, 10], vec![1, 11], vec![1, 12], vec![1, 12]].into_iter();
        let gone = [10, 11];
        let machine = Machine::read_by(
            || Ok(lists.next().expect("nothing new was in the last")),
            |pid| (!gone.contains(&pid)).then(|| process(pid)),
        );
        let machine = machine.expect("lists");
        let pids: Vec<i32> = machine.processes.iter().map(|stat| stat.pid).collect();
        assert_eq!((pids, machine.is_whole), (vec![1, 12], true));
        assert!(machine.carries(12, "run"));

        let mut next = 0..;
        let forking = Machine::read_by(|| Ok(next.next().into_iter().collect()), |pid| Some(process(pid)));
        assert!(!forking.expect("lists").is_whole, "a machine that never holds still");
    }

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
