//! What TLS needs from files: the certificates that are trusted, and the client's own.

use std::path::Path;
use std::sync::Mutex;

use hyper_rustls::ConfigBuilderExt;
use opentelemetry_otlp::tonic_types::transport::{Certificate, ClientTlsConfig, Identity};
use rustls::crypto::ring as rustls_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::config::Otlp;
use crate::life::lock;
use crate::log::warn;

/// The content of the files, PEM; what cannot be used was said in the log and is left out.
#[derive(Default)]
pub struct Material {
    /// `None`: the system's certificates are trusted.
    roots: Option<Vec<u8>>,
    /// The chain and its key.
    client: Option<(Vec<u8>, Vec<u8>)>,
}

impl Material {
    pub fn load(otlp: &Otlp) -> Self {
        if !otlp.tls {
            return Material::default();
        }
        let roots = otlp.certificate.as_ref().and_then(|(name, path)| {
            read(name, path, "a PEM file of certificates", "the system's certificates", |pem| {
                !certificates(pem).is_empty()
            })
        });
        let client = otlp.client.as_ref().and_then(|[(certificate, chain), (key, path)]| {
            let none = "no client certificate";
            let chain =
                read(certificate, chain, "a PEM file of certificates", none, |pem| !certificates(pem).is_empty())?;
            let key =
                read(key, path, "a PEM file of a private key", none, |pem| PrivateKeyDer::from_pem_slice(pem).is_ok())?;
            Some((chain, key))
        });
        Material { roots, client }
    }

    /// # Errors
    /// The system's certificates cannot be read, or the client's key does not fit its certificate.
    pub fn for_http(&self, tls: bool) -> Result<ClientConfig, String> {
        let builder = ClientConfig::builder_with_provider(rustls_provider::default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = match &self.roots {
            Some(pem) => {
                let mut store = RootCertStore::empty();
                store.add_parsable_certificates(certificates(pem));
                builder.with_root_certificates(store)
            }
            None if tls => {
                builder.with_native_roots().map_err(|error| format!("the system's certificates: {error}"))?
            }
            None => builder.with_root_certificates(RootCertStore::empty()),
        };
        match &self.client {
            Some((chain, key)) => {
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| error.to_string())?;
                builder
                    .with_client_auth_cert(certificates(chain), key)
                    .map_err(|error| format!("the client certificate: {error}"))
            }
            None => Ok(builder.with_no_client_auth()),
        }
    }

    pub fn for_grpc(&self) -> ClientTlsConfig {
        let config = match &self.roots {
            Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        match &self.client {
            Some((chain, key)) => config.identity(Identity::from_pem(chain, key)),
            None => config,
        }
    }
}

fn certificates(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).collect()
}

fn read(name: &str, path: &Path, expected: &str, default: &str, usable: impl FnOnce(&[u8]) -> bool) -> Option<Vec<u8>> {
    let shown = path.display();
    match std::fs::read(path) {
        Ok(pem) if usable(&pem) => return Some(pem),
        Ok(_) => warn_once(format!("{name}={shown}: expected {expected}; using {default}")),
        Err(error) => warn_once(format!("{name}={shown}: expected {expected}, but {error}; using {default}")),
    }
    None
}

/// Every signal reads a file for all of them.
fn warn_once(warning: String) {
    static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let mut said = lock(&SAID);
    if !said.contains(&warning) {
        warn!("{warning}");
        said.push(warning);
    }
}
