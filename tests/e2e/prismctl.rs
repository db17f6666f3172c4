//! The client program against the real daemon: what scripts and people get to see of it.

mod commands;
mod suggestions;
