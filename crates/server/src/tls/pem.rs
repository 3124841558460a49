//! A chain of certificates and a key out of their files, and what is wrong with them in words.
//! Absent: when that is done.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use ingle_protocol::wire::rfc3339;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{self, ServerConfig};

use super::{TlsFiles, validity};

/// The most bytes of either file.
const FILE_MAX: u64 = 1 << 20;

/// A server's TLS and the second since 1970 until which its certificate is valid; or what is wrong.
pub(super) fn read(files: &TlsFiles, now_s: u64) -> Result<(ServerConfig, u64), String> {
    let (cert, key) = (files.cert.display(), files.key.display());
    let chain = chain(&files.cert)?;
    let key_der = self::key(&files.key)?;
    let not_after_s = valid(&chain[0], now_s).map_err(|why| format!("{cert}: {why}"))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| format!("TLS cannot be set up: {error}; this is a bug"))?;
    let config = config.with_no_client_auth().with_single_cert(chain, key_der);
    let mut config = config.map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => format!(
            "{key} is not the key of {cert}\nhint: the server's own certificate comes first in a \
             chain, and a renewed certificate comes with a new key"
        ),
        error => format!("{cert} with {key} cannot be used: {error}"),
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((config, not_after_s))
}

fn bytes(path: &Path) -> Result<Vec<u8>, String> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    if bytes.len() as u64 > FILE_MAX {
        let path = path.display();
        return Err(format!("{path} has more than {FILE_MAX} bytes, too many for a certificate"));
    }
    Ok(bytes)
}

/// Whether a PEM file has a section of this name.
fn has(bytes: &[u8], name: &str) -> bool {
    let mark = format!("{name}-----");
    bytes.windows(mark.len()).any(|at| at == mark.as_bytes())
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = bytes(path)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let path = path.display();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) if has(&bytes, "PRIVATE KEY") => {
            Err(format!("{path} holds a key and no certificate: are the two files exchanged?"))
        }
        Ok(_) => Err(format!("{path} holds no certificate in PEM (-----BEGIN CERTIFICATE-----)")),
        Err(error) => Err(format!("{path} is no sound PEM file: {error}")),
    }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let bytes = bytes(path)?;
    let path = path.display();
    let old_way = bytes.windows(20).any(|at| at == b"Proc-Type: 4,ENCRYPT");
    if has(&bytes, "ENCRYPTED PRIVATE KEY") || old_way {
        return Err(format!(
            "{path} is encrypted, and nobody is asked for a password here\nhint: `openssl pkey \
             -in {path} -out FILE` writes it without one; let nobody else read that file"
        ));
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        if has(&bytes, "CERTIFICATE") {
            return format!("{path} holds a certificate and no key: are the two files exchanged?");
        }
        format!("{path} holds no private key in PEM (-----BEGIN PRIVATE KEY-----): {error}")
    })
}

/// Until when a certificate is valid; an error where it is not now.
fn valid(certificate: &CertificateDer<'_>, now_s: u64) -> Result<u64, String> {
    let (from, until) = validity::of(certificate).ok_or("it is no sound certificate")?;
    if now_s < from {
        let now = rfc3339(now_s);
        let from = rfc3339(from);
        return Err(format!("it is valid from {from}, and now it is {now}: is the clock right?"));
    }
    if now_s > until {
        return Err(format!("it expired on {}: renew it", rfc3339(until)));
    }
    Ok(until)
}
