//! The gRPC API: what clients ask, and what they are answered.

mod codes;
mod encryption;
mod ending;
mod finding;
mod launching;
mod names;
mod streams;
mod terminating;
