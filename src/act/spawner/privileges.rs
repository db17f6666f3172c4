//! What a child makes of itself once its record is written and before it becomes another program: limits, priority,
//! user, and what it gives up for good. Either all of it is in force or the program is not executed.

use super::protocol::Stage;
use crate::model::{LimitName, ProcessLimit};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Gid, Resource, Rlimit, Uid, setpriority_process, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};
use serde::{Deserialize, Serialize};

/// What a child makes of itself. What is absent stays as the launcher has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChildPrivileges {
    /// Which permissions its new files do not get.
    pub(crate) umask: Option<u32>,
    /// Its scheduling priority.
    pub(crate) nice: Option<i32>,
    /// How readily the kernel kills it when memory runs out.
    pub(crate) oom_score_adj: Option<i32>,
    /// Limits besides that of open files.
    pub(crate) rlimits: Vec<(LimitName, ProcessLimit)>,
    /// Whom it runs as.
    pub(crate) user: Option<ChildUser>,
    /// Whether it and what it executes can get no further privileges.
    pub(crate) no_new_privileges: bool,
    /// Whether it gives up all capabilities.
    pub(crate) no_capabilities: bool,
}

/// A user with groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChildUser {
    /// Real, effective and saved.
    pub(crate) uid: u32,
    /// Real, effective and saved.
    pub(crate) gid: u32,
    /// All others.
    pub(crate) groups: Vec<u32>,
}

impl ChildPrivileges {
    /// Puts them into force. What needs the launcher's rights comes before they are given up. Called in a process with
    /// one thread.
    pub(super) fn assume(&self) -> Result<(), (Stage, Errno)> {
        let at = |stage| move |errno| (stage, errno);
        if let Some(umask) = self.umask {
            rustix::process::umask(Mode::from_bits_truncate(umask));
        }
        for (name, ProcessLimit { soft, hard }) in &self.rlimits {
            let limit = Rlimit { current: *soft, maximum: *hard };
            setrlimit(resource(*name), limit).map_err(at(Stage::Limit))?;
        }
        if let Some(nice) = self.nice {
            setpriority_process(None, nice).map_err(at(Stage::Nice))?;
        }
        if let Some(score) = self.oom_score_adj {
            write_oom_score(score).map_err(at(Stage::OomScore))?;
        }
        if self.no_capabilities {
            give_up_bounding_set().map_err(at(Stage::Capabilities))?;
        }
        if let Some(user) = &self.user {
            user.become_it().map_err(at(Stage::User))?;
        }
        if self.no_capabilities {
            let none = CapabilitySet::empty();
            let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
            set_capabilities(None, none).map_err(at(Stage::Capabilities))?;
        }
        if self.no_new_privileges {
            set_no_new_privs(true).map_err(at(Stage::SetUp))?;
        }
        Ok(())
    }
}

impl ChildUser {
    fn become_it(&self) -> Result<(), Errno> {
        let Self { uid, gid, groups } = self;
        let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
        set_thread_groups(&groups)?;
        let (uid, gid) = (Uid::from_raw(*uid), Gid::from_raw(*gid));
        set_thread_res_gid(gid, gid, gid)?;
        set_thread_res_uid(uid, uid, uid)
    }
}

/// So that no program whose file has capabilities brings one back. A launcher without the right to do so has nothing that
/// could come back that way either: with `no_new_privileges`, or because it has no capability itself.
fn give_up_bounding_set() -> Result<(), Errno> {
    for number in 0..64 {
        let one = CapabilitySet::from_bits_retain(1 << number);
        match remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            // The kernel knows no more of them; or this process has none to keep back.
            Err(Errno::INVAL | Errno::PERM) => return Ok(()),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn write_oom_score(score: i32) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open(c"/proc/self/oom_score_adj", flags, Mode::empty())?;
    rustix::io::write(&file, score.to_string().as_bytes()).map(|_| ())
}

const fn resource(name: LimitName) -> Resource {
    match name {
        LimitName::As => Resource::As,
        LimitName::Core => Resource::Core,
        LimitName::Cpu => Resource::Cpu,
        LimitName::Data => Resource::Data,
        LimitName::Fsize => Resource::Fsize,
        LimitName::Locks => Resource::Locks,
        LimitName::Memlock => Resource::Memlock,
        LimitName::Msgqueue => Resource::Msgqueue,
        LimitName::Nice => Resource::Nice,
        LimitName::Nofile => Resource::Nofile,
        LimitName::Nproc => Resource::Nproc,
        LimitName::Rss => Resource::Rss,
        LimitName::Rtprio => Resource::Rtprio,
        LimitName::Rttime => Resource::Rttime,
        LimitName::Sigpending => Resource::Sigpending,
        LimitName::Stack => Resource::Stack,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn what_is_given_up_is_gone_and_groups_are_the_users_alone() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root has capabilities to give up");
            return;
        }
        for user in [None, Some(ChildUser { uid: 5_000, gid: 5_001, groups: vec![5_002, 5_003] })] {
            let becomes = user.is_some();
            let wish =
                ChildPrivileges { user, no_new_privileges: true, no_capabilities: true, ..ChildPrivileges::default() };
            // All of it is a thread's own.
            let told = std::thread::spawn(move || {
                wish.assume().expect("root may do all of it");
                std::fs::read_to_string("/proc/thread-self/status").expect("it can be read")
            });
            let told = told.join().expect("it ends");
            let lines: BTreeMap<&str, &str> = told.lines().filter_map(|line| line.split_once(":\t")).collect();
            for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
                assert_eq!(u64::from_str_radix(lines[set].trim(), 16), Ok(0), "{set} {becomes}");
            }
            assert_eq!(lines["NoNewPrivs"].trim(), "1");
            if becomes {
                assert_eq!(lines["Groups"].trim(), "5002 5003");
                assert_eq!(lines["Uid"], ["5000"; 4].join("\t"));
                assert_eq!(lines["Gid"], ["5001"; 4].join("\t"));
            }
        }
    }
}
