//! What the TCP listener proves itself with, and whom it lets in: read once, at the start.

use crate::config::TlsFiles;
use crate::error::{Code, Error, Result};
use std::path::Path;
use std::time::Duration;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

/// How long a client may take to agree on the encryption.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A larger file is refused unread: a chain of certificates is some kilobytes.
const FILE_LIMIT: u64 = 1 << 20;

/// What begins a certificate, and what ends the first line of a private key, in PEM.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";
const PRIVATE_KEY: &str = "PRIVATE KEY-----";
/// A private key that only a passphrase opens.
const ENCRYPTED: [&str; 2] = ["-----BEGIN ENCRYPTED PRIVATE KEY-----", "Proc-Type: 4,ENCRYPTED"];

/// Reads the files and sees that they can be used together.
///
/// # Errors
/// `INVALID_CONFIGURATION`, naming the setting and the file.
pub(super) fn load(files: &TlsFiles) -> Result<ServerTlsConfig> {
    let certificate = read("grpc_tls_cert", &files.cert)?;
    let key = read("grpc_tls_key", &files.key)?;
    require_certificate("grpc_tls_cert", &files.cert, &certificate)?;
    require_key(&files.key, &key)?;
    let tls = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key)).timeout(HANDSHAKE);
    let verified = Server::builder().tls_config(tls.clone());
    verified.map_err(|cause| {
        let (cert, key) = (files.cert.display(), files.key.display());
        Error::new(Code::InvalidConfiguration, "the certificate and its key cannot be used")
            .with("setting", "grpc_tls_cert, grpc_tls_key")
            .with("certificate", &cert)
            .with("key", &key)
            .caused_by(&cause)
            .suggest(format!(
                "openssl x509 -noout -pubkey -in {cert} and openssl pkey -pubout -in {key} have to print the same"
            ))
    })?;
    let Some(path) = &files.client_ca else { return Ok(tls) };
    let authority = read("grpc_tls_client_ca", path)?;
    require_certificate("grpc_tls_client_ca", path, &authority)?;
    let tls = tls.client_ca_root(Certificate::from_pem(authority));
    Server::builder().tls_config(tls.clone()).map_err(|cause| {
        unusable("grpc_tls_client_ca", path)
            .caused_by(&cause)
            .suggest(format!("openssl x509 -noout -text -in {} has to show an authority's certificate", path.display()))
    })?;
    Ok(tls)
}

fn read(setting: &str, path: &Path) -> Result<String> {
    let unreadable = |cause: &dyn std::error::Error| {
        unusable(setting, path)
            .caused_by(cause)
            .suggest(format!("ls -lL {}; the launcher's user has to be allowed to read it", path.display()))
    };
    let metadata = std::fs::metadata(path).map_err(|cause| unreadable(&cause))?;
    if !metadata.is_file() || metadata.len() > FILE_LIMIT {
        return Err(unusable(setting, path)
            .because(format!("it is no regular file of at most {FILE_LIMIT} bytes"))
            .suggest(format!("name a PEM file with {setting}")));
    }
    std::fs::read_to_string(path).map_err(|cause| unreadable(&cause))
}

fn require_certificate(setting: &str, path: &Path, text: &str) -> Result<()> {
    if text.contains(CERTIFICATE) {
        return Ok(());
    }
    Err(unusable(setting, path)
        .because(format!("it has no line '{CERTIFICATE}'"))
        .suggest(format!("name a PEM file; openssl x509 -inform der -in {} converts from DER", path.display())))
}

fn require_key(path: &Path, text: &str) -> Result<()> {
    if ENCRYPTED.iter().any(|mark| text.contains(mark)) {
        return Err(unusable("grpc_tls_key", path)
            .because("it needs a passphrase, and nobody is there to give it")
            .suggest(format!("openssl pkey -in {} -out NEW writes it without one", path.display())));
    }
    if text.contains(PRIVATE_KEY) {
        return Ok(());
    }
    Err(unusable("grpc_tls_key", path)
        .because("it has no private key")
        .suggest(format!("name a PEM file; openssl pkey -inform der -in {} converts from DER", path.display())))
}

fn unusable(setting: &str, path: &Path) -> Error {
    Error::new(Code::InvalidConfiguration, "a file for TLS cannot be used")
        .with("setting", setting)
        .with("path", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(files: &TlsFiles) -> Error {
        let error = load(files).unwrap_err();
        assert_eq!(error.code(), Code::InvalidConfiguration, "{error}");
        assert!(error.suggestion().is_some(), "{error}");
        error
    }

    #[test]
    fn a_file_that_cannot_be_used_is_refused_by_setting_and_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let write = |name: &str, text: &str| std::fs::write(path(name), text).unwrap();
        write("cert", &format!("{CERTIFICATE}\nAAAA\n-----END CERTIFICATE-----\n"));
        write("key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
        write("locked", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
        write("empty", "");
        let files = |cert: &str, key: &str| TlsFiles { cert: path(cert), key: path(key), client_ca: None };

        for (cert, key, setting, wrong) in [
            ("absent", "key", "grpc_tls_cert", "absent"),
            ("cert", "absent", "grpc_tls_key", "absent"),
            (".", "key", "grpc_tls_cert", "."),
            ("empty", "key", "grpc_tls_cert", "empty"),
            ("cert", "empty", "grpc_tls_key", "empty"),
            ("cert", "locked", "grpc_tls_key", "locked"),
        ] {
            let error = refused(&files(cert, key));
            assert_eq!(error.context_value("setting"), Some(setting), "{error}");
            assert_eq!(error.context_value("path"), path(wrong).to_str(), "{error}");
        }
        let error = refused(&files("cert", "key"));
        assert_eq!(error.context_value("certificate"), path("cert").to_str(), "{error}");
    }
}
