//! What earlier launchers have written is read by this one, means what it meant, and restarts nothing. See `README.md`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod layout;
mod left;
mod upgrade;
