//! What was received so far, shared between the servers and the owner of the receiver.

use crate::behaviour::Behaviour;
use crate::model::Telemetry;
use crate::normalise;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The kind of telemetry in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    Traces,
    Metrics,
    Logs,
}

/// How a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    Grpc,
    HttpProtobuf,
    HttpJson,
    /// HTTP with a content type that is neither.
    HttpOther,
}

/// One request as it came in, answered well or not.
#[derive(Clone, Debug)]
pub struct Request {
    pub signal: Signal,
    pub transport: Transport,
    /// Header (or metadata) names in lower case with their values; binary values lossily.
    pub headers: Vec<(String, String)>,
    /// The decompressed body. For gRPC the message is re-encoded, which keeps every field that
    /// OTLP defines.
    pub body: Vec<u8>,
    /// Whether its content went into the telemetry.
    pub accepted: bool,
}

impl Request {
    /// Whether the text occurs in the body or in a header.
    pub fn contains(&self, text: &str) -> bool {
        let text = text.as_bytes();
        let within = |bytes: &[u8]| bytes.windows(text.len().max(1)).any(|part| part == text);
        within(&self.body)
            || self.headers.iter().any(|(name, value)| within(name.as_bytes()) || within(value.as_bytes()))
    }
}

/// The decoded content of one request.
pub enum Payload {
    Traces(ExportTraceServiceRequest),
    Metrics(ExportMetricsServiceRequest),
    Logs(ExportLogsServiceRequest),
}

#[derive(Default)]
struct State {
    behaviour: Behaviour,
    telemetry: Telemetry,
    requests: Vec<Request>,
}

#[derive(Default)]
pub struct Store {
    state: Mutex<State>,
    changed: Condvar,
}

impl Store {
    // A poisoned lock only means that some assertion failed while it was held; the data is whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn behaviour(&self) -> Behaviour {
        self.lock().behaviour
    }

    pub fn set_behaviour(&self, behaviour: Behaviour) {
        self.lock().behaviour = behaviour;
    }

    /// Keeps the request and, where it is to be accepted, its content.
    pub fn record(&self, request: Request, payload: Option<&Payload>) {
        let mut state = self.lock();
        match payload.filter(|_| request.accepted) {
            Some(Payload::Traces(it)) => normalise::add_traces(&mut state.telemetry, it),
            Some(Payload::Metrics(it)) => normalise::add_metrics(&mut state.telemetry, it),
            Some(Payload::Logs(it)) => normalise::add_logs(&mut state.telemetry, it),
            None => {}
        }
        state.requests.push(request);
        drop(state);
        self.changed.notify_all();
    }

    pub fn telemetry(&self) -> Telemetry {
        self.lock().telemetry.clone()
    }

    pub fn requests(&self) -> Vec<Request> {
        self.lock().requests.clone()
    }

    pub fn clear(&self) {
        let mut state = self.lock();
        state.telemetry = Telemetry::default();
        state.requests.clear();
    }

    pub fn wait_until(&self, limit: Duration, condition: impl Fn(&Telemetry) -> bool) -> bool {
        let deadline = Instant::now() + limit;
        let mut state = self.lock();
        loop {
            if condition(&state.telemetry) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
