//! OTLP over gRPC: the three collector services, plain or gzip.

use crate::behaviour::{Behaviour, Connection};
use crate::store::{Payload, Request, Signal, Store, Transport};
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use prost::Message;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::codec::CompressionEncoding::Gzip;
use tonic::metadata::KeyAndValueRef;
use tonic::{Code, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};

pub async fn serve(listener: TcpListener, store: Arc<Store>) -> Result<(), tonic::transport::Error> {
    let services = Services { store: Arc::clone(&store) };
    let connections = TcpListenerStream::new(listener)
        .map(move |stream| stream.map(|stream| Connection::new(stream, Arc::clone(&store))));
    tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(services.clone()).accept_compressed(Gzip))
        .add_service(MetricsServiceServer::new(services.clone()).accept_compressed(Gzip))
        .add_service(LogsServiceServer::new(services).accept_compressed(Gzip))
        .serve_with_incoming(connections)
        .await
}

#[derive(Clone)]
struct Services {
    store: Arc<Store>,
}

impl Services {
    async fn answer<T: Message>(
        &self,
        signal: Signal,
        request: tonic::Request<T>,
        payload: impl FnOnce(T) -> Payload,
    ) -> Result<(), Status> {
        let behaviour = self.store.behaviour();
        if let Behaviour::Slow(delay) = behaviour {
            tokio::time::sleep(delay).await;
        }
        let headers = request.metadata().iter().map(|pair| match pair {
            KeyAndValueRef::Ascii(name, value) => {
                (name.to_string(), String::from_utf8_lossy(value.as_encoded_bytes()).into_owned())
            }
            KeyAndValueRef::Binary(name, value) => {
                (name.to_string(), String::from_utf8_lossy(value.as_encoded_bytes()).into_owned())
            }
        });
        let recorded = Request {
            signal,
            transport: Transport::Grpc,
            headers: headers.collect(),
            body: request.get_ref().encode_to_vec(),
            accepted: behaviour.accepts(),
        };
        self.store.record(recorded, Some(&payload(request.into_inner())));
        match behaviour {
            Behaviour::Refuse { status, retry_after } => {
                let mut details = ErrorDetails::new();
                if retry_after.is_some() {
                    details.set_retry_info(retry_after);
                }
                let message = "refused, as the receiver was told to";
                Err(Status::with_error_details(code_of(status), message, details))
            }
            Behaviour::Silent => std::future::pending().await,
            // as over HTTP
            Behaviour::Close | Behaviour::Garbage => {
                Err(Status::unavailable("the receiver had a fault when it was asked"))
            }
            _ => Ok(()),
        }
    }
}

/// The gRPC code that stands for an HTTP status.
fn code_of(status: u16) -> Code {
    match status {
        400 => Code::InvalidArgument,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        413 | 429 => Code::ResourceExhausted,
        502..=504 => Code::Unavailable,
        _ => Code::Internal,
    }
}

#[tonic::async_trait]
impl TraceService for Services {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.answer(Signal::Traces, request, Payload::Traces).await?;
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Services {
    async fn export(
        &self,
        request: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.answer(Signal::Metrics, request, Payload::Metrics).await?;
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Services {
    async fn export(
        &self,
        request: tonic::Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        self.answer(Signal::Logs, request, Payload::Logs).await?;
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}
