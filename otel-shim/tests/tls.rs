//! OTLP over TLS, against a real TLS server: a terminator before the receiver, with a certificate made for the test.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use otlp_receiver::Receiver;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{self, ServerConfig};

/// Decrypts what comes and passes it on; ends with the runtime.
async fn terminate_tls(certificate: rcgen::CertifiedKey<rcgen::KeyPair>, alpn: &[u8], to: SocketAddr) -> SocketAddr {
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(certificate.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![alpn.to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut inside) = acceptor.accept(stream).await else { return };
                let mut outside = TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut inside, &mut outside).await;
            });
        }
    });
    address
}

fn run(endpoint: &str, protocol: &str, trusted: Option<&Path>) -> Output {
    let exe = std::env::current_exe().unwrap();
    let examples = exe.parent().and_then(Path::parent).unwrap().join("examples");
    let mut command = Command::new(examples.join("scenario").with_extension(std::env::consts::EXE_EXTENSION));
    command
        .args(["nested", "flush"])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol);
    command.env_remove("SSL_CERT_FILE").envs(trusted.map(|path| ("SSL_CERT_FILE", path)));
    command.output().unwrap()
}

#[test]
fn a_trusted_certificate_delivers_and_another_one_does_not() {
    if !cfg!(target_os = "linux") {
        println!("SKIP: SSL_CERT_FILE decides what is trusted on Linux only");
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let receiver = Receiver::start().unwrap();
    for (endpoint, protocol, alpn) in
        [(receiver.http_endpoint(), "http/protobuf", "http/1.1"), (receiver.grpc_endpoint(), "grpc", "h2")]
    {
        receiver.clear();
        let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), certificate.cert.pem()).unwrap();
        let to = endpoint.strip_prefix("http://").unwrap().parse().unwrap();
        let port = runtime.block_on(terminate_tls(certificate, alpn.as_bytes(), to)).port();
        let endpoint = format!("https://localhost:{port}");

        let refused = run(&endpoint, protocol, None);
        let text = String::from_utf8_lossy(&refused.stderr);
        assert!(text.contains("cannot be exported"), "{protocol}: {text}");
        assert_eq!(receiver.snapshot().spans.len(), 0, "{protocol}");

        let delivered = run(&endpoint, protocol, Some(file.path()));
        assert_eq!(String::from_utf8_lossy(&delivered.stderr), "", "{protocol}");
        assert_eq!(receiver.snapshot().spans.len(), 3, "{protocol}");
    }
}
