//! A TLS server before a receiver, with certificates made for the test.

// each test program has the whole and uses a part
#![allow(dead_code)]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tempfile::NamedTempFile;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{self, ServerConfig};

pub type Certified = rcgen::CertifiedKey<rcgen::KeyPair>;

pub fn certified() -> Certified {
    rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap()
}

pub fn file(pem: &str) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pem).unwrap();
    file
}

pub fn text(file: &NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

/// Decrypts what comes and passes it on; ends with the tokio runtime that it was started in.
pub struct TlsServer {
    pub address: SocketAddr,
    alpn: &'static str,
    acceptor: Arc<Mutex<TlsAcceptor>>,
}

impl TlsServer {
    /// With `clients`, only who shows one of these certificates is served.
    pub async fn start(
        certificate: &Certified,
        alpn: &'static str,
        to: SocketAddr,
        clients: Option<&Certified>,
    ) -> TlsServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = Arc::new(Mutex::new(acceptor(certificate, alpn, clients)));
        let current = acceptor.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = current.lock().unwrap().clone();
                tokio::spawn(async move {
                    let Ok(mut inside) = acceptor.accept(stream).await else { return };
                    let mut outside = TcpStream::connect(to).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut inside, &mut outside).await;
                });
            }
        });
        TlsServer { address, alpn, acceptor }
    }

    /// From now on, for new connections.
    pub fn show(&self, certificate: &Certified) {
        *self.acceptor.lock().unwrap() = acceptor(certificate, self.alpn, None);
    }
}

fn acceptor(certificate: &Certified, alpn: &str, clients: Option<&Certified>) -> TlsAcceptor {
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(certificate.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        Some(client) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(client.cert.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(vec![certificate.cert.der().clone()], key).unwrap();
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    TlsAcceptor::from(Arc::new(config))
}
