//! OTLP over TLS with the Rust backend, and what that backend alone takes from the system.

mod child;
mod tls_server;

#[path = "cases/tls.rs"]
mod cases;

use cases::Behind;
use child::{Child, run};
use tls_server::{certified, file, text};

/// Rust has every protocol.
fn can_run(_: &[(&str, &str)]) -> bool {
    true
}

#[test]
fn a_certificate_of_the_system_s_is_trusted() {
    if !cfg!(target_os = "linux") {
        println!("SKIP: SSL_CERT_FILE decides what is trusted on Linux only");
        return;
    }
    let (behind, certificate) = (Behind::new(), certified());
    let trusted = file(&certificate.cert.pem());
    for way in behind.endpoints(&certificate, None) {
        assert_eq!(behind.run(&way, &[("SSL_CERT_FILE", text(&trusted))]), (3, String::new()), "{}", way.1);
    }
}
