//! What `proto/prism/launcher/launcher.proto` says, as code.
#![expect(
    missing_docs,
    clippy::pedantic,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::clone_on_ref_ptr,
    reason = "it is generated"
)]

tonic::include_proto!("prism.launcher");

/// The proto file as reflection serves it.
pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/launcher.bin"));
