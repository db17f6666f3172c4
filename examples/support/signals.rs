//! Not listening to SIGTERM, which only a fixture should do.

/// Ignores SIGTERM from now on, in this process and in those that it makes.
#[expect(unsafe_code, reason = "the standard library has no way to ignore a signal")]
pub(crate) fn ignore_sigterm() {
    // SAFETY: SIG_IGN runs no code of ours when the signal arrives.
    unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
}
