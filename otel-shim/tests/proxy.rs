//! OTLP over HTTP through a proxy: a small real one, that tunnels and remembers for whom.

mod child;
mod tls_server;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use otlp_receiver::Receiver;
use tls_server::{TlsServer, certified, file, text};

/// The heads of the requests that it was sent.
type Heads = Arc<Mutex<Vec<String>>>;

fn start_proxy() -> (u16, Heads) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let heads = Heads::default();
    let kept = heads.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let heads = kept.clone();
            thread::spawn(move || tunnel(stream, &heads));
        }
    });
    (port, heads)
}

fn tunnel(mut client: TcpStream, heads: &Heads) -> Option<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    heads.lock().unwrap().push(head.clone());
    let to = head.strip_prefix("CONNECT ")?.split(' ').next()?;
    let server = TcpStream::connect(to).ok()?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
    let (mut from_client, mut to_server) = (client.try_clone().ok()?, server.try_clone().ok()?);
    thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    let (mut server, mut client) = (server, client);
    std::io::copy(&mut server, &mut client).ok()?;
    client.shutdown(Shutdown::Both).ok()
}

/// Spans that arrived and heads that the proxy saw; `{proxy}` in a value stands for its address.
fn through(variables: &[(&str, &str)]) -> (usize, Vec<String>) {
    let receiver = Receiver::start().unwrap();
    let endpoint = receiver.http_endpoint();
    let heads = exported(&endpoint, variables);
    (receiver.stop().spans.len(), heads)
}

/// The same with TLS to the receiver, inside the tunnel.
fn through_with_tls(variables: &[(&str, &str)]) -> (usize, Vec<String>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (receiver, certificate) = (Receiver::start().unwrap(), certified());
    let trusted = file(&certificate.cert.pem());
    let server = runtime.block_on(TlsServer::start(&certificate, "http/1.1", receiver.addresses().1, None));
    let mut all = vec![("OTEL_EXPORTER_OTLP_CERTIFICATE", text(&trusted))];
    all.extend(variables);
    let heads = exported(&format!("https://localhost:{}", server.address.port()), &all);
    (receiver.stop().spans.len(), heads)
}

fn exported(endpoint: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let (port, heads) = start_proxy();
    let values: Vec<_> =
        variables.iter().map(|(name, value)| (*name, value.replace("{proxy}", &format!("127.0.0.1:{port}")))).collect();
    let mut all = vec![("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)];
    all.extend(values.iter().map(|(name, value)| (*name, value.as_str())));
    let child = child::run("scenario", &["nested", "exit"], &all);
    assert_eq!((child.code, child.stderr.as_str()), (Some(0), ""));
    let (_, address) = endpoint.split_once("://").unwrap();
    heads.lock().unwrap().iter().map(|head| head.replace(address, "RECEIVER")).collect()
}

#[test]
fn requests_go_through_the_proxy_that_the_environment_names() {
    let (direct, none) = through(&[]);
    assert_eq!((direct, none.len()), (3, 0));
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
        let (spans, heads) = through(&[(name, "http://{proxy}")]);
        assert_eq!(spans, 3, "{name}");
        assert!(
            !heads.is_empty() && heads.iter().all(|head| head.starts_with("CONNECT RECEIVER HTTP/1.1")),
            "{name}: {heads:?}"
        );
    }
}

#[test]
fn requests_with_tls_have_a_proxy_of_their_own() {
    let (direct, none) = through_with_tls(&[("HTTP_PROXY", "http://{proxy}")]);
    assert_eq!((direct, none.len()), (3, 0), "which is meant for requests without TLS");
    for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        let (spans, heads) = through_with_tls(&[(name, "http://{proxy}")]);
        assert_eq!(spans, 3, "{name}");
        assert!(
            !heads.is_empty() && heads.iter().all(|head| head.starts_with("CONNECT RECEIVER HTTP/1.1")),
            "{name}: {heads:?}"
        );
    }
}

#[test]
fn some_addresses_need_none() {
    let (spans, heads) = through(&[("HTTP_PROXY", "http://{proxy}"), ("NO_PROXY", "localhost,127.0.0.1")]);
    assert_eq!((spans, heads.len()), (3, 0));
}

#[test]
fn the_proxy_is_told_who_asks() {
    let (spans, heads) = through(&[("HTTP_PROXY", "http://me:secret@{proxy}")]);
    assert_eq!(spans, 3);
    assert!(
        heads.iter().all(|head| head.to_ascii_lowercase().contains("proxy-authorization: basic bwu6c2vjcmv0")),
        "{heads:?}"
    );
}
