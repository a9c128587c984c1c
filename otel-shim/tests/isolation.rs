//! A receiver with a fault, and a program with the Rust backend that exports to it.

mod child;
mod tls_server;

#[path = "cases/isolation.rs"]
mod cases;

use cases::{Case, survives};
use child::Child;
use otlp_receiver::Receiver;
use tls_server::{TlsServer, certified, file, text};

/// Runs `examples/lifecycle.rs`. Never `None`.
fn lifecycle(arguments: &[&str], variables: &[(&str, &str)]) -> Option<Child> {
    Some(child::run("lifecycle", arguments, variables))
}

#[test]
fn a_receiver_whose_certificate_is_not_trusted() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let right = certified();
    let trusted = file(&right.cert.pem());
    survives("not trusted", "localhost", || {
        let receiver = Receiver::start().unwrap().unrecorded();
        let (grpc, http) = receiver.addresses();
        let wrong = certified();
        let start = |alpn, to| runtime.block_on(TlsServer::start(&wrong, alpn, to, None));
        let servers = [start("h2", grpc), start("http/1.1", http)];
        let addresses = (servers[0].address, servers[1].address);
        let (certificate, key) = (right.cert.clone(), right.signing_key.serialize_der());
        let recover = move |receiver: Option<Receiver>| {
            let signing_key = rcgen::KeyPair::try_from(key.as_slice()).unwrap();
            let right = tls_server::Certified { cert: certificate, signing_key };
            servers.iter().for_each(|server| server.show(&right));
            receiver.unwrap()
        };
        Case {
            receiver: Some(receiver),
            addresses,
            trusted: Some(text(&trusted).to_owned()),
            recover: Box::new(recover),
        }
    });
}
