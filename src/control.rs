//! What a running launcher can be asked for.

pub mod spec;

pub use spec::LaunchSpec;
