//! `schema`: what editors check files against.

use crate::config;
use crate::desired::schema::{instance_schema, manifest_schema};

/// Of which kind of file.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(super) enum Kind {
    /// patterns/NAME/manifest.yaml
    Manifest,
    /// desired/**/*.yaml
    Instance,
    /// launcher.toml
    Config,
}

/// The schema as text.
pub(super) fn schema(kind: Kind) -> String {
    let schema = match kind {
        Kind::Manifest => manifest_schema(),
        Kind::Instance => instance_schema(),
        Kind::Config => config::schema(),
    };
    format!("{schema:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum as _;

    #[test]
    fn every_schema_is_json_about_an_object() {
        for kind in Kind::value_variants() {
            let schema: serde_json::Value = serde_json::from_str(&schema(*kind)).unwrap();
            assert!(schema["properties"].is_object(), "{kind:?}");
        }
    }
}
