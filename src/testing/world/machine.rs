//! The machine's part: processes begin, answer probes and end.

use super::{Occasion, PIDS, World};
use crate::error::{Code, Error};
use crate::model::{BootId, Confinement, ExitReason, Key, Moment, OomKill, ProcessIdentity, RunId};
use crate::observed::{Event, Fault, PortKind, ProbeOutcome};
use crate::plan::PrepareRequest;
use crate::testing::program::{OnStop, Process, Program};
use std::time::Duration;

impl World {
    pub(super) fn happens(&mut self, occasion: Occasion) {
        // What a probe says changes no process; where it changes a status, the key is touched.
        self.stirred |= !matches!(
            occasion,
            Occasion::Probe { .. }
                | Occasion::Deliver { .. }
                | Occasion::Resync { .. }
                | Occasion::LookForOrphans { .. }
        );
        match occasion {
            Occasion::Deliver { epoch, event } => {
                if epoch == self.epoch
                    && let Some(engine) = &mut self.engine
                {
                    engine.handle(*event, self.now, &mut self.chance);
                }
            }
            Occasion::Ends { pid, run } => self.main_ends(pid, run),
            Occasion::Probe { epoch, key, run, pause } => {
                if epoch == self.epoch {
                    self.probe(&key, run, pause);
                }
            }
            Occasion::LetGo { run } => {
                self.processes.retain(|_, (_, process)| process.run != run || process.held_by.is_none());
            }
            Occasion::Look { epoch } if epoch == self.epoch => self.look(),
            Occasion::Resync { epoch } if epoch == self.epoch => {
                self.look();
                if let Some(engine) = &mut self.engine {
                    engine.resync();
                }
                let pause = self.settings.resync.unwrap_or(Duration::from_secs(5));
                self.schedule(pause, Occasion::Resync { epoch });
            }
            Occasion::Expired { epoch, key } if epoch == self.epoch => self.remove_expired(key),
            Occasion::LookForOrphans { epoch } if epoch == self.epoch => self.look_for_orphans(),
            Occasion::Look { .. }
            | Occasion::Resync { .. }
            | Occasion::Expired { .. }
            | Occasion::LookForOrphans { .. } => {}
            Occasion::LauncherStarts => self.start_launcher(),
        }
    }

    /// How long word of a start takes.
    pub(in crate::testing) const WORD_OF_START: Duration = Duration::from_micros(100);

    /// The machine loses power and comes up again, without a launcher.
    pub fn reboot(&mut self) {
        self.crash("reboot");
        self.occasions.clear();
        self.processes.clear();
        self.oracle.on_reboot();
        self.boots += 1;
        self.now = Moment::new(BootId::from_u128(self.boots), Duration::from_secs(1));
        self.schedule(Duration::from_millis(10), Occasion::LauncherStarts);
    }

    /// The machine sleeps for this long, launcher and processes alike. What was due meanwhile comes at once when it wakes, and
    /// the probes that were under way have had no answer in time.
    pub fn sleep(&mut self, span: Duration) {
        self.now = self.now.after(span);
        self.tell(format_args!("the machine has slept for {span:?}"));
        if let Some(engine) = &mut self.engine {
            engine.was_away(span);
        }
        let probed: Vec<(Key, RunId)> = self.probes.iter().map(|(key, (run, _))| (key.clone(), *run)).collect();
        for (key, run) in probed {
            let outcome = ProbeOutcome::Error("no answer, but the launcher itself was stopped meanwhile".to_owned());
            self.deliver(Duration::from_millis(1), Event::Probed { key, run, outcome });
        }
    }

    /// The process of a key no longer meets its check, whatever it is.
    pub fn break_check(&mut self, key: &Key) {
        let now = self.now;
        for (_, process) in self.processes.values_mut().filter(|(owner, _)| owner == key) {
            process.program.healthy_after = None;
            process.broken.get_or_insert(now);
        }
    }

    /// The records of a key's runs can no longer be read: it is noticed by the next launcher.
    pub fn damage(&mut self, key: &Key) {
        let damaged = self.disk.runs.keys().filter(|(owner, _)| owner == key).map(|(_, run)| *run);
        self.disk.damaged.extend(damaged);
        // How it ends, nobody will know.
        self.oracle.on_end(key);
    }

    /// Somebody else listens on the `HEALTH_PORT` of a key from its next start on.
    pub fn occupy_port(&mut self, key: &Key) {
        let ports = self.disk.memories.get(key).and_then(|memory| memory.ports);
        self.strangers.extend(ports.map(|ports| ports.health));
    }

    /// The main process of a key is killed by somebody.
    pub fn kill_child(&mut self, key: &Key) {
        let found = self.processes.values().find(|(owner, process)| owner == key && process.main_lives);
        if let Some((pid, run)) = found.map(|(_, process)| (process.identity.pid, process.run)) {
            if let Some((_, process)) = self.processes.get_mut(&pid) {
                process.exit = ExitReason::Signal(9);
            }
            self.main_ends(pid, run);
        }
    }

    pub(super) fn prepare(&mut self, request: PrepareRequest) {
        let PrepareRequest { key, run, instance, ports, unenforced: _ } = request;
        let after = self.chance.up_to_millis(3);
        let taken = [(PortKind::Grpc, ports.grpc), (PortKind::Health, ports.health)];
        if let Some((port, _)) = taken.into_iter().find(|(_, port)| self.strangers.contains(port)) {
            self.oracle.moved.insert(key.clone());
            let listening = self.strangers.clone();
            return self.deliver(after, Event::PortTaken { key, run, port, holder: Some(4711), listening });
        }
        if self.chance.once_in(self.settings.port_taken_once_in) {
            let port = if self.chance.once_in(2) { PortKind::Grpc } else { PortKind::Health };
            self.oracle.moved.insert(key.clone());
            let listening = self.strangers.clone();
            return self.deliver(after, Event::PortTaken { key, run, port, holder: Some(4711), listening });
        }
        let Some(pid) = self.free_pid() else {
            let error = Error::new(Code::ProcessStartFailed, "no pid is free");
            return self.deliver(after, Event::StartFailed { key, run, error, fault: Fault::Launcher });
        };
        let program = self.programs.get(&key).copied().unwrap_or(Program::SERVICE);
        let identity = ProcessIdentity {
            pid,
            start_time: self.chance.bits(),
            boot: self.now.boot,
            cgroup: None,
            confinement: Confinement::default(),
        };
        let process = Process {
            run,
            identity: identity.clone(),
            instance,
            program,
            held_by: Some(self.epoch),
            main_lives: true,
            children_live: false,
            executed: None,
            seen: false,
            broken: None,
            abandoned: false,
            asked_to_end: None,
            exit: ExitReason::Code(0),
            oom: None,
        };
        self.processes.insert(pid, (key.clone(), process));
        self.deliver(after, Event::Prepared { key, run, process: identity });
    }

    fn free_pid(&mut self) -> Option<i32> {
        self.processes.retain(|_, (_, process)| process.lives());
        let most = self.settings.pids.unwrap_or(PIDS);
        for _ in 0..most {
            let pid = self.next_pid;
            self.next_pid = if pid >= most { 1 } else { pid + 1 };
            if !self.processes.contains_key(&pid) {
                return Some(pid);
            }
        }
        None
    }

    /// The record of a held child cannot be written: it is let go of.
    pub(super) fn cannot_record(&mut self, key: &Key, run: RunId) {
        self.processes.retain(|_, (_, process)| process.run != run || process.held_by.is_none());
        let error = Error::new(Code::StoreUnavailable, "no space is left");
        let fault = Fault::Launcher;
        self.deliver(Duration::from_micros(100), Event::StartFailed { key: key.clone(), run, error, fault });
    }

    /// A held child is released and executed.
    pub(super) fn release(&mut self, key: &Key, run: RunId) {
        let now = self.now;
        let held = self.processes.values().find(|(owner, process)| owner == key && process.run == run);
        let Some(pid) = held.map(|(_, process)| process.identity.pid) else { return };
        self.judge_start(key, pid);
        let Some((_, process)) = self.processes.get_mut(&pid) else { return };
        process.held_by = None;
        process.executed = Some(now);
        process.children_live = matches!(process.program.on_stop, OnStop::Leaks(_));
        let limit = process.instance.content.supervision.resources.memory_limit;
        let mut lives = process.program.lives;
        if limit.is_some_and(|limit| limit < process.program.takes) {
            process.oom = Some(OomKill { kills: 1, limit, peak: limit });
            lives = Some((Duration::ZERO, ExitReason::Signal(9)));
        }
        if let Some((_, exit)) = lives {
            process.exit = exit;
        }
        self.tell(format_args!("{key} runs as pid {pid}"));
        self.deliver(Self::WORD_OF_START, Event::Started { key: key.clone(), run });
        if let Some((after, _)) = lives {
            self.schedule(after.max(Duration::from_micros(200)), Occasion::Ends { pid, run });
        }
    }

    pub(super) fn discard(&mut self, key: &Key, run: RunId) {
        self.schedule(Duration::from_micros(100), Occasion::LetGo { run });
        let error = Error::new(Code::ProcessStartFailed, "let go");
        let fault = Fault::Instance;
        self.deliver(Duration::from_micros(100), Event::StartFailed { key: key.clone(), run, error, fault });
    }

    pub(super) fn signal(&mut self, key: &Key, run: RunId) {
        let now = self.now;
        let Some(record) = self.disk.runs.get(&(key.clone(), run)) else { return };
        let pid = record.process.pid;
        let grace = record.supervision.grace_period;
        let Some((owner, process)) = self.processes.get_mut(&pid) else { return };
        if process.identity != record.process {
            // The launcher holds a pidfd: a signal to a process that has ended goes nowhere.
            return;
        }
        let is_ours = owner == key && process.run == run;
        self.oracle.on_signal(key, is_ours && !self.disk.damaged.contains(&run), record.stop.is_some());
        if !process.main_lives {
            return;
        }
        self.oracle.grace.insert(run, grace);
        process.asked_to_end.get_or_insert(now);
        process.exit = ExitReason::Signal(15);
        match process.program.on_stop {
            OnStop::Ends(after) | OnStop::Leaks(after) => self.schedule(after, Occasion::Ends { pid, run }),
            OnStop::Ignores => {}
        }
    }

    pub(super) fn kill_tree(&mut self, key: &Key, run: RunId) {
        let now = self.now;
        let Some(record) = self.disk.runs.get(&(key.clone(), run)) else { return };
        let Some((_, process)) = self.processes.get_mut(&record.process.pid) else { return };
        if process.identity != record.process {
            return;
        }
        self.oracle.on_kill(key, run, process.asked_to_end, process.main_lives, now);
        let main_lived = process.main_lives;
        process.main_lives = false;
        process.children_live = false;
        if main_lived {
            self.oracle.on_end(key);
        }
        let key = key.clone();
        self.deliver(
            Duration::from_micros(150),
            if main_lived {
                Event::Exited { key, run, exit: ExitReason::Signal(9), oom: None, tree_gone: true }
            } else {
                Event::TreeGone { key, run }
            },
        );
    }

    fn main_ends(&mut self, pid: i32, run: RunId) {
        let Some((key, process)) = self.processes.get_mut(&pid) else { return };
        if process.run != run || !process.main_lives {
            return;
        }
        process.main_lives = false;
        if !matches!(process.program.on_stop, OnStop::Leaks(_)) {
            process.children_live = false;
        }
        if process.asked_to_end.is_some() || process.abandoned || self.disk.damaged.contains(&run) {
            self.oracle.on_end(key);
        } else {
            self.oracle.on_fall(key, run, process.seen, self.now);
        }
        let event = Event::Exited {
            key: key.clone(),
            run,
            exit: process.exit,
            oom: process.oom,
            tree_gone: !process.children_live,
        };
        let (key, exit) = (key.clone(), process.exit);
        self.tell(format_args!("{key} ends with {exit}"));
        self.deliver(Duration::from_micros(120), event);
    }

    fn probe(&mut self, key: &Key, run: RunId, pause: Duration) {
        let Some((_, check)) = self.probes.get(key).filter(|(probed, _)| *probed == run).cloned() else { return };
        let healthy = self
            .processes
            .values()
            .any(|(owner, process)| owner == key && process.run == run && process.is_healthy(self.now));
        let outcome = if self.chance.once_in(self.settings.probe_error_once_in) {
            ProbeOutcome::Error("no descriptors are left".to_owned())
        } else if healthy {
            ProbeOutcome::Success
        } else {
            ProbeOutcome::Failure("connection refused".to_owned())
        };
        let next = if healthy { check.interval } else { (pause * 2).min(check.interval) };
        let epoch = self.epoch;
        self.deliver(Duration::from_micros(50), Event::Probed { key: key.clone(), run, outcome });
        self.schedule(next, Occasion::Probe { epoch, key: key.clone(), run, pause: next });
    }
}
