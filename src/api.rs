//! The gRPC API: `proto/prism/launcher/launcher.proto`.
//!
//! It checks, converts and answers. What is asked for is done by [`crate::control`]; nothing here acts by itself.

mod convert;
mod events;
mod listen;
mod logs;
pub mod proto;
mod server;
mod service;
mod status;
mod tls;

pub use listen::Listeners;
pub use server::{Addresses, Api, serve};
pub use service::Service;
pub use status::{DOMAIN, code_of};
