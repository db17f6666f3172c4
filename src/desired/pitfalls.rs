//! Everything that has gone wrong with directories that people, editors, git and mounts change, against the real file
//! system.

mod content;
mod editing;
mod kinds;
mod launching;
mod roots;
mod task;

pub(super) mod world;
