//! The host with real processes: spawning, killing and adopting, each by cgroup and without one.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot go on fails"
)]
#![expect(clippy::print_stderr, reason = "what the machine lacks is told to people")]

mod adopting;
mod killing;
mod library;
mod limits;
mod plain;
mod refusing;
mod spawning;
mod world;
