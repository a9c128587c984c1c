//! What decides about the OTLP exporter of one signal: `OTEL_EXPORTER_OTLP_*`, and its form for the signal, which wins.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use http::Uri;

use super::reader::{Reader, is_pair, named};

/// How OTLP is spoken (`OTEL_EXPORTER_OTLP_PROTOCOL`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    #[default]
    HttpProtobuf,
    Grpc,
}

named!(Protocol, "http/protobuf" => Protocol::HttpProtobuf, "grpc" => Protocol::Grpc);

/// `OTEL_EXPORTER_OTLP_COMPRESSION`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    #[default]
    None,
    Gzip,
}

named!(Compression, "none" => Compression::None, "gzip" => Compression::Gzip);

/// `OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Temporality {
    #[default]
    Cumulative,
    Delta,
    LowMemory,
}

named!(Temporality, "cumulative" => Temporality::Cumulative, "delta" => Temporality::Delta, "lowmemory" => Temporality::LowMemory);

/// The settings of one signal. Headers are validated here and read by the exporter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Otlp {
    pub protocol: Protocol,
    /// The whole URL of this signal.
    pub endpoint: String,
    /// Whether TLS is spoken to it.
    pub tls: bool,
    /// Longest wait for an answer (`OTEL_EXPORTER_OTLP_TIMEOUT`).
    pub timeout: Duration,
    pub compression: Compression,
    /// File of the certificates that are trusted (PEM), by the variable that named it; `None`: the system's.
    pub certificate: Option<(String, PathBuf)>,
    /// Files of the client's certificate chain and its key (PEM), by the variables that named them.
    pub client: Option<[(String, PathBuf); 2]>,
}

impl Otlp {
    /// `signal`: `TRACES`, `METRICS` or `LOGS`.
    pub fn read(read: &mut Reader, signal: &str) -> Otlp {
        let name = |read: &Reader, setting: &str| {
            let own = format!("OTEL_EXPORTER_OTLP_{signal}_{setting}");
            if read.get(&own).is_some() { own } else { format!("OTEL_EXPORTER_OTLP_{setting}") }
        };
        let file = |read: &Reader, setting: &str| {
            let name = name(read, setting);
            read.get(&name).map(|path| (name, PathBuf::from(path)))
        };
        let protocol = read.named(&name(read, "PROTOCOL"), Protocol::default());
        let insecure = read.boolean(&name(read, "INSECURE"));
        let (endpoint, tls) = endpoint(read, &name(read, "ENDPOINT"), signal, protocol, insecure);
        headers(read, &name(read, "HEADERS"));
        let client = match (file(read, "CLIENT_CERTIFICATE"), file(read, "CLIENT_KEY")) {
            (Some(certificate), Some(key)) => Some([certificate, key]),
            (None, None) => None,
            (Some((one, _)), None) | (None, Some((one, _))) => {
                read.warn(&one, "CLIENT_CERTIFICATE and CLIENT_KEY together", "no client certificate");
                None
            }
        };
        Otlp {
            protocol,
            endpoint,
            tls,
            timeout: read.milliseconds(&name(read, "TIMEOUT"), 10_000),
            compression: read.named(&name(read, "COMPRESSION"), Compression::default()),
            certificate: file(read, "CERTIFICATE"),
            client,
        }
    }
}

/// The URL for one signal, and whether TLS is spoken to it. Over HTTP the path of the signal is appended to an endpoint for
/// all; over gRPC a scheme may be left out, and `INSECURE` decides.
fn endpoint(read: &mut Reader, name: &str, signal: &str, protocol: Protocol, insecure: bool) -> (String, bool) {
    let path = format!("/v1/{}", signal.to_ascii_lowercase());
    let default = match protocol {
        Protocol::Grpc => "http://localhost:4317".to_owned(),
        Protocol::HttpProtobuf => "http://localhost:4318".to_owned(),
    };
    let for_all = name == "OTEL_EXPORTER_OTLP_ENDPOINT";
    let whole = |base: &str| match protocol {
        Protocol::HttpProtobuf if for_all => format!("{}{path}", base.trim_end_matches('/')),
        _ => base.to_owned(),
    };
    let Some(text) = read.get(name) else { return (whole(&default), false) };
    let without_scheme = protocol == Protocol::Grpc && !text.contains("://");
    let text = match without_scheme {
        true => format!("{}://{text}", if insecure { "http" } else { "https" }),
        false => text.to_owned(),
    };
    let scheme = text.parse::<Uri>().ok().filter(|uri| uri.host().is_some_and(|host| !host.is_empty()));
    match scheme.as_ref().and_then(Uri::scheme_str) {
        Some(scheme @ ("http" | "https")) => (whole(&text), scheme == "https"),
        _ => {
            // a password in it is not for the log
            let shown = text.rsplit_once('@').map_or(text.as_str(), |(_, host)| host).to_owned();
            let default = if for_all { default } else { whole(&format!("{default}{path}")) };
            let default = if protocol == Protocol::Grpc { "http://localhost:4317".to_owned() } else { default };
            read.warn_as(name, &shown, "a URL with http:// or https://", &default);
            (whole(&default), false)
        }
    }
}

/// The exporter reads them and leaves out what it does not understand without a word. They are secrets, so no value is shown.
fn headers(read: &mut Reader, name: &str) {
    let wrong = read.list(name).iter().filter(|entry| !is_header(entry)).count();
    if wrong > 0 {
        read.warn_secret(name, "key=value,key=value", &format!("{wrong} of its entries are left out"));
    }
}

fn is_header(entry: &str) -> bool {
    is_pair(entry) && entry.split_once('=').is_some_and(|(key, _)| http::HeaderName::from_str(key.trim()).is_ok())
}
