//! What `/proc` says about processes.

use super::kernel_file;
use crate::model::ProcessIdentity;
use std::io;

/// What is read of `/proc/PID/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessStat {
    /// Its pid.
    pub(crate) pid: i32,
    /// The letter of its state.
    pub(crate) state: u8,
    /// Its parent.
    pub(crate) parent: i32,
    /// Its process group.
    pub(crate) group: i32,
    /// Its session.
    pub(crate) session: i32,
    /// How many threads it has.
    pub(crate) threads: u32,
    /// Clock ticks after boot.
    pub(crate) start_time: u64,
    /// Its wait status once it has ended; 0 also when that may not be read.
    pub(crate) exit_status: i32,
}

impl ProcessStat {
    /// Reads about one process. `NotFound` when there is none of this pid.
    pub(crate) fn read(pid: i32) -> io::Result<Self> {
        let text = stat_text(pid)?;
        Self::parse(&text).ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat is not in the known form")))
    }

    /// Reads the text of the file. The name of the program, which is in parentheses, can contain anything.
    fn parse(text: &[u8]) -> Option<Self> {
        let pid = std::str::from_utf8(&text[..text.iter().position(|b| *b == b' ')?]).ok()?.parse().ok()?;
        let fields: Vec<&str> = after_name(text)?.collect();
        let field = |number: usize| fields.get(number - FIRST_FIELD).copied();
        Some(Self {
            pid,
            state: *field(3)?.as_bytes().first()?,
            parent: field(4)?.parse().ok()?,
            group: field(5)?.parse().ok()?,
            session: field(6)?.parse().ok()?,
            threads: field(20)?.parse().ok()?,
            start_time: field(22)?.parse().ok()?,
            exit_status: field(52)?.parse().ok()?,
        })
    }

    /// Whether it has ended and only waits to be reaped. The first thread of a process can end before the others: then
    /// its state is that of a zombie while the process lives.
    pub(crate) const fn has_ended(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x') && self.threads <= 1
    }

    /// Whether it is the process of `identity`, given that the boot is the same.
    pub(crate) const fn is(&self, identity: &ProcessIdentity) -> bool {
        self.pid == identity.pid && self.start_time == identity.start_time
    }
}

/// What is in `/proc/PID/stat`, of which the name may be anything. `NotFound` when there is no process of this pid.
fn stat_text(pid: i32) -> io::Result<Vec<u8>> {
    kernel_file::bytes(format!("/proc/{pid}/stat"))
        // A process that goes while it is being read.
        .map_err(|error| if error.raw_os_error() == Some(libc::ESRCH) { io::ErrorKind::NotFound.into() } else { error })
}

/// The number of the first field after the name.
const FIRST_FIELD: usize = 3;

/// The fields of `/proc/PID/stat` after the name.
fn after_name(text: &[u8]) -> Option<impl Iterator<Item = &str>> {
    let after_name = text.iter().rposition(|b| *b == b')')? + 2;
    Some(std::str::from_utf8(text.get(after_name..)?).ok()?.split_ascii_whitespace())
}

/// What a process uses, as `/proc/PID/stat` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessUse {
    /// CPU time in clock ticks: in the kernel and outside of it, of all its threads, but not of its children.
    pub(crate) cpu_ticks: u64,
    /// Resident memory in pages.
    pub(crate) resident_pages: u64,
}

impl ProcessUse {
    /// Reads about a process; `None` when it has gone, also when its pid is another's by now. A zombie still tells its
    /// CPU time.
    pub(crate) fn read(identity: &ProcessIdentity) -> Option<Self> {
        let text = stat_text(identity.pid).ok()?;
        Self::parse(&text).filter(|(start_time, _)| *start_time == identity.start_time).map(|(_, used)| used)
    }

    /// The start time of the process, and what it uses.
    fn parse(text: &[u8]) -> Option<(u64, Self)> {
        let mut fields = after_name(text)?.skip(14 - FIRST_FIELD);
        let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        // The next is field 16.
        let start_time = fields.nth(22 - 16)?.parse().ok()?;
        let resident_pages = fields.nth(24 - 23)?.parse().ok()?;
        Some((start_time, Self { cpu_ticks: user.saturating_add(system), resident_pages }))
    }
}

/// Every process that can be seen. One that comes or goes meanwhile may or may not be among them.
pub(crate) fn all_processes() -> io::Result<Vec<ProcessStat>> {
    Ok(all_pids()?.into_iter().filter_map(|pid| ProcessStat::read(pid).ok()).collect())
}

/// The pids of all processes that can be seen.
pub(crate) fn all_pids() -> io::Result<Vec<i32>> {
    let entries = std::fs::read_dir("/proc")?.filter_map(Result::ok);
    Ok(entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// The value of a variable in the environment that a process was started with; `None` also when it may not be read.
pub(crate) fn environment_value(pid: i32, name: &str) -> Option<String> {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let value =
        environment.split(|b| *b == 0).find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
    String::from_utf8(value.to_vec()).ok()
}

/// Whether this process may read how that one ended: the kernel shows 0 to others.
pub(crate) fn may_read_exit(pid: i32) -> bool {
    let own = rustix::process::geteuid();
    if own.is_root() {
        return true;
    }
    std::fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| {
        ["Uid:", "Gid:"].iter().zip([own.as_raw(), rustix::process::getegid().as_raw()]).all(|(label, own)| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(label))
                .is_some_and(|ids| ids.split_ascii_whitespace().all(|id| id.parse() == Ok(own)))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_may_be_called_anything() {
        let tail = format!("S 1 2 3 0 -1 4194560 {}20 0 7 0 4242 {}256", "0 ".repeat(8), "1 ".repeat(29));
        for name in ["sleep", "a) S 9 9 9 (", "\u{fffd}", ") )"] {
            let stat = ProcessStat::parse(format!("77 ({name}) {tail}\n").as_bytes()).expect("the known form");
            assert_eq!((stat.pid, stat.parent, stat.session, stat.threads), (77, 1, 3, 7), "{name}");
            assert_eq!((stat.start_time, stat.exit_status, stat.has_ended()), (4242, 256, false), "{name}");
        }
        assert_eq!(ProcessStat::parse(b"77 (x"), None);
        assert_eq!(ProcessStat::parse(b""), None);
    }

    #[test]
    fn what_a_process_uses_is_in_the_right_fields() {
        let text = b"77 (a) S 1) S 1 3 3 0 -1 4194560 10 11 12 13 400 50 16 17 20 0 7 0 4242 1000000 99 25 0";
        let used = ProcessUse { cpu_ticks: 450, resident_pages: 99 };
        assert_eq!(ProcessUse::parse(text), Some((4242, used)));
        assert_eq!(ProcessUse::parse(b"77 (x) S 1"), None);
    }

    #[test]
    fn this_process_is_seen_and_lives() {
        let own = rustix::process::getpid().as_raw_nonzero().get();
        let stat = ProcessStat::read(own).expect("own stat");
        assert!(stat.pid == own && !stat.has_ended() && stat.start_time > 0);
        assert!(all_processes().expect("/proc").iter().any(|other| other.pid == own));
        assert_eq!(ProcessStat::read(i32::MAX).expect_err("no such pid").kind(), io::ErrorKind::NotFound);
    }
}
