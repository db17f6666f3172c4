//! Which daemon to believe where the address has TLS, and what to show it.

use super::address::Address;
use super::failure::{Result, Told, UNREACHABLE, USAGE};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// How long it may take to agree on the encryption.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// What begins a certificate in PEM.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

/// The files for TLS, as they were given.
#[derive(Debug, Clone, Default)]
pub(super) struct Trust {
    /// `--ca`.
    pub(super) ca: Option<PathBuf>,
    /// `--cert`.
    pub(super) cert: Option<PathBuf>,
    /// `--key`.
    pub(super) key: Option<PathBuf>,
}

impl Trust {
    /// How to speak TLS with `host`. The authorities of the machine do not count: a launcher's certificate is its
    /// operator's.
    pub(super) fn config(&self, host: &str, address: &Address) -> Result<ClientTlsConfig> {
        let Some(ca) = given(self.ca.as_ref()) else {
            return Err(Told::new(UNREACHABLE, format!("the daemon at {address} cannot be believed without --ca"))
                .because("no authority is trusted unless it is named")
                .suggest(
                    "name the certificate of the authority that signed the daemon's, or the daemon's own \
                     (grpc_tls_cert): --ca FILE, also in PRISMCTL_CA",
                )
                .into());
        };
        let text = read("--ca", ca)?;
        if !text.contains(CERTIFICATE) {
            return Err(wrong("--ca", ca).because(format!("it has no line '{CERTIFICATE}'")).into());
        }
        let tls =
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(text)).domain_name(host).timeout(HANDSHAKE);
        match (given(self.cert.as_ref()), given(self.key.as_ref())) {
            (Some(cert), Some(key)) => Ok(tls.identity(Identity::from_pem(read("--cert", cert)?, read("--key", key)?))),
            (None, None) => Ok(tls),
            _ => Err(Told::new(USAGE, "--cert and --key are given together or not at all")
                .suggest("name both files, also in PRISMCTL_CERT and PRISMCTL_KEY")
                .into()),
        }
    }

    /// That the files cannot be used together.
    pub(super) fn unusable(&self, cause: &dyn std::error::Error) -> Told {
        let mut told = Told::new(USAGE, "the files for TLS cannot be used")
            .because(cause.source().map_or_else(|| cause.to_string(), ToString::to_string))
            .suggest("name PEM files: certificates with --ca and --cert, the private key of --cert with --key");
        for (flag, file) in [("ca", &self.ca), ("cert", &self.cert), ("key", &self.key)] {
            if let Some(file) = given(file.as_ref()) {
                told = told.with(flag, file.display().to_string());
            }
        }
        told
    }
}

/// What to try when TLS failed for `reason`.
pub(super) fn after_refusal(address: &Address, reason: &str) -> String {
    let plain = address.to_string().replacen("https://", "", 1);
    let suggestion = if reason.contains("UnknownIssuer") {
        "give --ca the certificate of the authority that signed the daemon's (grpc_tls_cert); where somebody else may be \
         answering, find out who before you do"
    } else if reason.contains("not valid for name") {
        "write --address with a name or an IP address that the daemon's certificate is for (its subjectAltName)"
    } else if reason.contains("expired") || reason.contains("not valid yet") {
        "see that the clocks are right, give the daemon a new certificate (grpc_tls_cert, grpc_tls_key) and restart it"
    } else if reason.contains("CaUsedAsEndEntity") {
        "give the daemon a certificate that is no authority's: made by openssl req -x509 with -addext \
         basicConstraints=critical,CA:FALSE, or signed by the authority"
    } else if reason.contains("corrupt message") {
        return format!("where the daemon has no certificate (grpc_tls_cert), write --address {plain}");
    } else {
        "see what the daemon's certificate (grpc_tls_cert) says: openssl x509 -noout -text -in FILE"
    };
    suggestion.to_owned()
}

/// What to try when a connection over TCP broke before an answer came.
pub(super) fn after_loss(address: &Address, is_encrypted: bool) -> String {
    let runs = "see whether it runs (its log says when it ends), and ask again";
    if is_encrypted {
        format!("{runs}; where it asks clients for a certificate (grpc_tls_client_ca), give --cert and --key")
    } else {
        format!("{runs}; where it has a certificate (grpc_tls_cert), write --address https://{address} with --ca FILE")
    }
}

/// A file that is named; an empty variable names none.
fn given(file: Option<&PathBuf>) -> Option<&Path> {
    file.map(PathBuf::as_path).filter(|file| !file.as_os_str().is_empty())
}

fn read(flag: &str, file: &Path) -> Result<String> {
    Ok(std::fs::read_to_string(file).map_err(|cause| wrong(flag, file).because(cause.to_string()))?)
}

fn wrong(flag: &str, file: &Path) -> Told {
    Told::new(USAGE, format!("the file of {flag} cannot be used"))
        .with("file", file.display().to_string())
        .suggest(format!("ls -lL {}, or name another PEM file with {flag}", file.display()))
}
