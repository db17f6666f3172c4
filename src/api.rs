//! The gRPC API: `proto/prism/launcher/launcher.proto`.

pub mod proto;
