//! Asks the kernel whether anybody has a file open for writing.
//!
//! A read lease is granted only while nobody has. It is held while the file is read: a writer that opens the file
//! meanwhile waits for those microseconds, and the kernel tells us by a signal that it does.

#![expect(unsafe_code, reason = "no library wraps the fcntl commands for leases")]

use std::os::fd::{AsRawFd, BorrowedFd};

/// What the kernel says.
#[derive(Debug)]
pub(super) enum Lease<'fd> {
    /// Nobody can be writing until this is dropped.
    Granted { _held: Granted<'fd> },
    /// Somebody has the file open for writing.
    Refused,
    /// The file system has no leases, or the file is not ours.
    Unsupported,
}

/// A lease that is held.
#[derive(Debug)]
pub(super) struct Granted<'fd>(BorrowedFd<'fd>);

/// Asks for a read lease on a file that was opened for reading only.
pub(super) fn read_lease(file: BorrowedFd<'_>) -> Lease<'_> {
    // By default a waiting writer is announced by SIGIO, which ends a process that does not handle it. SIGURG is
    // ignored by one that does not.
    // SAFETY: the command takes an integer and touches no memory of ours; the descriptor is open while it is borrowed.
    if unsafe { libc::fcntl(file.as_raw_fd(), F_SETSIG, libc::SIGURG) } != 0 {
        return Lease::Unsupported;
    }
    // SAFETY: as above.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) } == 0 {
        return Lease::Granted { _held: Granted(file) };
    }
    match std::io::Error::last_os_error().raw_os_error() {
        Some(libc::EAGAIN) => Lease::Refused,
        _ => Lease::Unsupported,
    }
}

/// Linux's number of the command, which libc names for some targets only.
const F_SETSIG: libc::c_int = 10;

impl Drop for Granted<'_> {
    fn drop(&mut self) {
        // Failure leaves nothing behind: closing the file, which follows, gives the lease back too.
        // SAFETY: as above.
        unsafe { libc::fcntl(self.0.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{File, OpenOptions};
    use std::os::fd::AsFd;

    #[test]
    fn a_lease_is_refused_while_somebody_writes() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x");
        let writer = File::create(&path).expect("created");
        let reader = File::open(&path).expect("opened");
        assert!(matches!(read_lease(reader.as_fd()), Lease::Refused));
        drop(writer);
        if matches!(read_lease(reader.as_fd()), Lease::Unsupported) {
            eprintln!("skipped: the file system of {} has no leases", path.display());
            return;
        }
        assert!(matches!(read_lease(reader.as_fd()), Lease::Granted { .. }));
        drop(OpenOptions::new().append(true).open(&path).expect("the lease was given back"));
    }

    #[test]
    fn a_writer_that_comes_during_a_lease_waits_and_does_no_harm() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x");
        std::fs::write(&path, "x").expect("written");
        let reader = File::open(&path).expect("opened");
        let lease = read_lease(reader.as_fd());
        if !matches!(lease, Lease::Granted { .. }) {
            eprintln!("skipped: the file system of {} has no leases", path.display());
            return;
        }
        let writer = std::thread::spawn(move || OpenOptions::new().append(true).open(path).map(drop));
        std::thread::yield_now();
        drop(lease);
        writer.join().expect("a thread").expect("opened after the lease was given back");
    }
}
