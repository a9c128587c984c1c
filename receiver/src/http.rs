//! OTLP over HTTP: `POST /v1/{traces,metrics,logs}`, protobuf or JSON, plain or gzip.

use crate::behaviour::{Behaviour, Connection};
use crate::store::{Payload, Request, Signal, Store, Transport};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Router, routing::post};
use flate2::read::MultiGzDecoder;
use opentelemetry_proto::tonic::collector::{logs, metrics, trace};
use prost::Message;
use serde::de::DeserializeOwned;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;

/// The largest body that is read, before and after decompression.
const BODY_LIMIT: usize = 64 << 20;

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

pub async fn serve(listener: TcpListener, store: Arc<Store>) -> io::Result<()> {
    let routes = Router::new()
        .route("/v1/traces", post(traces))
        .route("/v1/metrics", post(metrics))
        .route("/v1/logs", post(logs))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(Arc::clone(&store));
    axum::serve(Listener { listener, store }, routes).await
}

struct Listener {
    listener: TcpListener,
    store: Arc<Store>,
}

impl axum::serve::Listener for Listener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let (stream, address) = axum::serve::Listener::accept(&mut self.listener).await;
        (Connection::new(stream, Arc::clone(&self.store)), address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

async fn traces(State(store): State<Arc<Store>>, headers: HeaderMap, body: Bytes) -> Response {
    use trace::v1::ExportTraceServiceRequest as Export;
    answer(&store, Signal::Traces, &headers, &body, |transport, body| {
        decode::<Export>(transport, body).map(Payload::Traces)
    })
    .await
}

async fn metrics(State(store): State<Arc<Store>>, headers: HeaderMap, body: Bytes) -> Response {
    use metrics::v1::ExportMetricsServiceRequest as Export;
    answer(&store, Signal::Metrics, &headers, &body, |transport, body| {
        decode::<Export>(transport, body).map(Payload::Metrics)
    })
    .await
}

async fn logs(State(store): State<Arc<Store>>, headers: HeaderMap, body: Bytes) -> Response {
    use logs::v1::ExportLogsServiceRequest as Export;
    answer(&store, Signal::Logs, &headers, &body, |transport, body| {
        decode::<Export>(transport, body).map(Payload::Logs)
    })
    .await
}

struct Refusal {
    status: StatusCode,
    message: String,
}

async fn answer(
    store: &Store,
    signal: Signal,
    headers: &HeaderMap,
    body: &[u8],
    decode: impl Fn(Transport, &[u8]) -> Result<Payload, Refusal>,
) -> Response {
    let transport = transport(headers);
    let behaviour = store.behaviour();
    let plain = decompress(headers, body);
    let payload = plain.as_ref().map_err(Refusal::from).and_then(|plain| decode(transport, plain));
    if let Behaviour::Slow(delay) = behaviour {
        tokio::time::sleep(delay).await;
    }
    let accepts = behaviour.accepts();
    let request = Request {
        signal,
        transport,
        headers: headers
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect(),
        body: plain.unwrap_or_else(|_| body.to_vec()),
        accepted: accepts && payload.is_ok(),
    };
    store.record(request, payload.as_ref().ok());
    match (behaviour, payload) {
        (Behaviour::Refuse { status, retry_after }, _) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let mut response = refusal(transport, status, "refused, as the receiver was told to");
            if let Some(delay) = retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, delay.as_secs().into());
            }
            response
        }
        (Behaviour::Silent, _) => std::future::pending().await,
        // What the connection does not let out; if it does by now, it must not say that this was accepted.
        (Behaviour::Close | Behaviour::Garbage, _) => {
            refusal(transport, StatusCode::SERVICE_UNAVAILABLE, "the receiver had a fault when it was asked")
        }
        (_, Err(Refusal { status, message })) => refusal(transport, status, &message),
        // Every Export…ServiceResponse without a partial success is the empty message.
        (_, Ok(_)) if transport == Transport::HttpJson => reply(StatusCode::OK, JSON, "{}"),
        (_, Ok(_)) => reply(StatusCode::OK, PROTOBUF, ""),
    }
}

fn transport(headers: &HeaderMap) -> Transport {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    match value.and_then(|value| value.split(';').next()).map(str::trim) {
        Some(PROTOBUF) => Transport::HttpProtobuf,
        Some(JSON) => Transport::HttpJson,
        _ => Transport::HttpOther,
    }
}

enum Undecodable {
    Encoding(String),
    Gzip(io::Error),
    TooLarge,
}

fn decompress(headers: &HeaderMap, body: &[u8]) -> Result<Vec<u8>, Undecodable> {
    match headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes()) {
        None | Some(b"identity") => Ok(body.to_vec()),
        Some(b"gzip") => {
            let mut plain = Vec::new();
            let mut limited = MultiGzDecoder::new(body).take(BODY_LIMIT as u64 + 1);
            limited.read_to_end(&mut plain).map_err(Undecodable::Gzip)?;
            if plain.len() > BODY_LIMIT { Err(Undecodable::TooLarge) } else { Ok(plain) }
        }
        Some(other) => Err(Undecodable::Encoding(String::from_utf8_lossy(other).into_owned())),
    }
}

impl From<&Undecodable> for Refusal {
    fn from(reason: &Undecodable) -> Self {
        match reason {
            Undecodable::Encoding(name) => Self {
                status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
                message: format!("content encoding `{name}` is not supported; use gzip or none"),
            },
            Undecodable::Gzip(error) => {
                Self { status: StatusCode::BAD_REQUEST, message: format!("the body is not valid gzip: {error}") }
            }
            Undecodable::TooLarge => Self {
                status: StatusCode::PAYLOAD_TOO_LARGE,
                message: format!("the decompressed body exceeds {BODY_LIMIT} bytes"),
            },
        }
    }
}

fn decode<T: Message + Default + DeserializeOwned>(transport: Transport, body: &[u8]) -> Result<T, Refusal> {
    let bad = |message: String| Refusal { status: StatusCode::BAD_REQUEST, message };
    match transport {
        Transport::HttpProtobuf => {
            T::decode(body).map_err(|error| bad(format!("the body is not valid protobuf: {error}")))
        }
        Transport::HttpJson => {
            serde_json::from_slice(body).map_err(|error| bad(format!("the body is not valid OTLP JSON: {error}")))
        }
        Transport::HttpOther | Transport::Grpc => Err(Refusal {
            status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
            message: format!("the content type must be {PROTOBUF} or {JSON}"),
        }),
    }
}

/// OTLP asks for a `google.rpc.Status` body in the request's own encoding.
fn refusal(transport: Transport, status: StatusCode, message: &str) -> Response {
    if transport == Transport::HttpJson {
        let body = serde_json::json!({ "code": 0, "message": message }).to_string();
        return reply(status, JSON, body);
    }
    let body = tonic_types::pb::Status { message: message.to_owned(), ..Default::default() };
    reply(status, PROTOBUF, body.encode_to_vec())
}

fn reply(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response {
    (status, [(header::CONTENT_TYPE, content_type)], body.into()).into_response()
}
