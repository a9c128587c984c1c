//! OTLP over TLS, against a real TLS server: a terminator before the receiver, with certificates made for the test.
//!
//! The same cases for each backend. Whoever includes this file has `tls_server/mod.rs` as a module `tls_server`, a type `Child`,
//! what became of a program, a function `run(program, arguments, variables)` that runs `scenario`, and `can_run(variables)`:
//! whether this backend is here and has what these variables ask for; false, after it has said why, skips a test.

use otlp_receiver::{Receiver, Telemetry};
use tokio::runtime::Runtime;

use super::tls_server::{Certified, TlsServer, certified, file, text};
use super::{Child, can_run, run};

/// A receiver behind TLS, over HTTP and over gRPC, for as long as it lives.
pub struct Behind {
    runtime: Runtime,
    receiver: Receiver,
}

impl Behind {
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Behind { runtime, receiver: Receiver::start().unwrap().unrecorded() }
    }

    /// (endpoint, protocol) of those that this backend can be run with.
    pub fn endpoints(&self, certificate: &Certified, clients: Option<&Certified>) -> Vec<(String, &'static str)> {
        let all = [
            (self.receiver.http_endpoint(), "http/protobuf", "http/1.1"),
            (self.receiver.grpc_endpoint(), "grpc", "h2"),
        ];
        let can_run = |(_, protocol, _): &(_, &str, _)| can_run(&[("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)]);
        let start = |(endpoint, protocol, alpn): (String, _, _)| {
            let to = endpoint.strip_prefix("http://").unwrap().parse().unwrap();
            let server = self.runtime.block_on(TlsServer::start(certificate, alpn, to, clients));
            (format!("https://localhost:{}", server.address.port()), protocol)
        };
        all.into_iter().filter(can_run).map(start).collect()
    }

    /// Spans that arrive, and what is said on standard error.
    pub fn run(&self, way: &(String, &str), variables: &[(&str, &str)]) -> (usize, String) {
        let (telemetry, said) = self.scenario("nested", way, variables);
        (telemetry.spans.len(), said)
    }

    fn scenario(
        &self,
        name: &str,
        (endpoint, protocol): &(String, &str),
        variables: &[(&str, &str)],
    ) -> (Telemetry, String) {
        self.receiver.clear();
        let mut all =
            vec![("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)];
        all.extend(variables);
        let Child { code, stderr, .. } = run("scenario", &[name, "flush"], &all);
        assert_eq!(code, Some(0), "{stderr}");
        (self.receiver.snapshot(), stderr)
    }
}

/// Whether the backend says that its library was built without this; a way that is then skipped.
fn lacks_client_certificates(said: &str) -> bool {
    let is_so = said.contains("was built without client certificates");
    if is_so {
        println!("SKIP: {}", said.lines().next().unwrap_or_default());
    }
    is_so
}

const TRUSTED: &str = "OTEL_EXPORTER_OTLP_CERTIFICATE";
const CERTIFICATE: &str = "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE";
const KEY: &str = "OTEL_EXPORTER_OTLP_CLIENT_KEY";

#[test]
fn a_certificate_that_nobody_vouches_for_is_refused() {
    let (behind, certificate) = (Behind::new(), certified());
    for way in behind.endpoints(&certificate, None) {
        let (spans, said) = behind.run(&way, &[]);
        assert!(spans == 0 && said.contains("cannot be exported"), "{}: {said}", way.1);
    }
}

#[test]
fn a_certificate_file_of_one_s_own_is_what_is_trusted() {
    let (behind, certificate) = (Behind::new(), certified());
    let (trusted, other) = (file(&certificate.cert.pem()), file(&certified().cert.pem()));
    for way in behind.endpoints(&certificate, None) {
        assert_eq!(behind.run(&way, &[(TRUSTED, text(&trusted))]), (3, String::new()), "{}", way.1);
        let (spans, said) = behind.run(&way, &[(TRUSTED, text(&other))]);
        assert!(spans == 0 && said.contains("cannot be exported"), "{}: {said}", way.1);
        let for_signals =
            ["TRACES", "METRICS", "LOGS"].map(|signal| format!("OTEL_EXPORTER_OTLP_{signal}_CERTIFICATE"));
        let mut variables = vec![(TRUSTED, text(&other))];
        variables.extend(for_signals.iter().map(|name| (name.as_str(), text(&trusted))));
        assert_eq!(behind.run(&way, &variables), (3, String::new()), "a signal's own wins: {}", way.1);
    }
}

#[test]
fn a_receiver_that_asks_who_it_is_is_told() {
    let (behind, certificate, client) = (Behind::new(), certified(), certified());
    let trusted = file(&certificate.cert.pem());
    let (chain, key) = (file(&client.cert.pem()), file(&client.signing_key.serialize_pem()));
    for way in behind.endpoints(&certificate, Some(&client)) {
        let (spans, said) = behind.run(&way, &[(TRUSTED, text(&trusted))]);
        assert!(spans == 0 && said.contains("cannot be exported"), "{}: {said}", way.1);
        let all = [(TRUSTED, text(&trusted)), (CERTIFICATE, text(&chain)), (KEY, text(&key))];
        let (spans, said) = behind.run(&way, &all);
        if lacks_client_certificates(&said) {
            continue;
        }
        assert_eq!((spans, said.as_str()), (3, ""), "{}", way.1);
        let signals = ["TRACES", "METRICS", "LOGS"];
        let names = signals
            .map(|signal| ["CERTIFICATE", "KEY"].map(|what| format!("OTEL_EXPORTER_OTLP_{signal}_CLIENT_{what}")));
        let mut own = vec![(TRUSTED, text(&trusted))];
        for [certificate, private] in &names {
            own.extend([(certificate.as_str(), text(&chain)), (private.as_str(), text(&key))]);
        }
        assert_eq!(behind.run(&way, &own), (3, String::new()), "{}", way.1);
    }
}

/// The forms for the log, which alone is exported.
#[test]
fn the_log_has_certificates_of_its_own() {
    let (behind, certificate, client) = (Behind::new(), certified(), certified());
    let (trusted, other) = (file(&certificate.cert.pem()), file(&certified().cert.pem()));
    let (chain, key) = (file(&client.cert.pem()), file(&client.signing_key.serialize_pem()));
    let all = [
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_METRICS_EXPORTER", "none"),
        (TRUSTED, text(&other)),
        ("OTEL_EXPORTER_OTLP_LOGS_CERTIFICATE", text(&trusted)),
        ("OTEL_EXPORTER_OTLP_LOGS_CLIENT_CERTIFICATE", text(&chain)),
        ("OTEL_EXPORTER_OTLP_LOGS_CLIENT_KEY", text(&key)),
    ];
    for way in behind.endpoints(&certificate, Some(&client)) {
        let (telemetry, said) = behind.scenario("logs", &way, &all);
        if lacks_client_certificates(&said) {
            continue;
        }
        assert_eq!((telemetry.logs.len(), said.as_str()), (9, ""), "{}", way.1);
        for without in [&all[..3], &all[..4]] {
            let (telemetry, said) = behind.scenario("logs", &way, without);
            assert!(telemetry.logs.is_empty() && said.contains("logs cannot be exported"), "{}: {said}", way.1);
        }
    }
}

#[test]
fn a_file_that_is_of_no_use_is_named() {
    let (behind, certificate) = (Behind::new(), certified());
    let (trusted, empty) = (file(&certificate.cert.pem()), file("no certificate"));
    let ways = behind.endpoints(&certificate, None);
    let Some(way) = ways.first() else { return };
    let first = |variables: &[(&str, &str)]| behind.run(way, variables).1.lines().next().unwrap_or_default().to_owned();
    let shown = text(&empty);
    assert_eq!(
        first(&[(TRUSTED, shown)]),
        format!("llama-otel: {TRUSTED}={shown}: expected a PEM file of certificates; using the system's certificates")
    );
    let missing = first(&[(TRUSTED, "/no/such/file")]);
    assert!(
        missing.starts_with(&format!("llama-otel: {TRUSTED}=/no/such/file: expected a PEM file of certificates, but ")),
        "{missing}"
    );
    let (spans, said) = behind.run(way, &[(TRUSTED, text(&trusted)), (CERTIFICATE, text(&trusted))]);
    let alone = format!(
        "llama-otel: {CERTIFICATE}={}: expected CLIENT_CERTIFICATE and CLIENT_KEY together; using no client certificate\n",
        text(&trusted)
    );
    assert_eq!((spans, said), (3, alone));
    let key = first(&[(TRUSTED, text(&trusted)), (CERTIFICATE, text(&trusted)), (KEY, shown)]);
    assert_eq!(
        key,
        format!("llama-otel: {KEY}={shown}: expected a PEM file of a private key; using no client certificate")
    );
}
