//! What the repository promises about itself: layers, pure files, file sizes, samples that parse, a README whose
//! commands exist.

#![expect(clippy::unwrap_used, reason = "a test that cannot read the repository fails")]

mod alerts;
mod layers;
mod readme;
mod samples;
mod source;

/// The top of the repository.
fn repository() -> &'static std::path::Path {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
}
