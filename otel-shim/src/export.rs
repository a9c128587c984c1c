//! The exporters and the thread that runs them. Batches wait in bounded queues; nothing here is ever waited for but by a flush.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc as reply;
use std::time::{Duration, Instant};

use opentelemetry_otlp::Protocol::HttpBinary;
use opentelemetry_otlp::tonic_types::transport::ClientTlsConfig;
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::config::{Config, Exporter, Protocol};
use crate::http::{Client, LastError};
use crate::ring::{self, Kind, Reason};

/// Batches that wait for one exporter; more stay with the drain thread.
const QUEUED_BATCHES: usize = 4;

/// What an exporter's task is told.
enum Job<T> {
    Export(T),
    /// Answers, when all before it is done, whether all since the last answer was delivered.
    Flush(reply::Sender<bool>),
}

/// One signal's way out: a task on the export thread and the queue before it.
pub struct Outlet<T> {
    jobs: mpsc::Sender<Job<T>>,
    stats: Arc<Stats>,
}

/// Totals of one outlet, for the metrics of telemetry itself.
#[derive(Default)]
pub struct Stats {
    exports: AtomicU64,
    nanoseconds: AtomicU64,
}

impl Stats {
    /// Number of exports and their seconds since the last call.
    pub fn take(&self) -> (u64, f64) {
        (self.exports.swap(0, Ordering::Relaxed), self.nanoseconds.swap(0, Ordering::Relaxed) as f64 * 1e-9)
    }
}

impl<T: Batch> Outlet<T> {
    /// Hands over a batch; gives it back if the queue is full.
    pub fn offer(&self, batch: T) -> Result<(), T> {
        self.jobs.try_send(Job::Export(batch)).map_err(|error| match error.into_inner() {
            Job::Export(batch) => batch,
            Job::Flush(_) => unreachable!("an export was sent"),
        })
    }

    /// Room for one more batch.
    pub fn has_room(&self) -> bool {
        self.jobs.capacity() > 0
    }

    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Asks for an answer when the queue is empty; `false` if there is no room for the question by the deadline.
    pub fn flush(&self, deadline: Instant, answer: reply::Sender<bool>) -> bool {
        let mut job = Job::Flush(answer);
        loop {
            match self.jobs.try_send(job) {
                Ok(()) => return true,
                Err(mpsc::error::TrySendError::Closed(_)) => return false,
                Err(mpsc::error::TrySendError::Full(back)) => job = back,
            }
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// What can be exported in one request.
pub trait Batch: Send + 'static {
    const KIND: Kind;
    const SIGNAL: &'static str;
    fn len(&self) -> u64;
}

impl Batch for Vec<SpanData> {
    const KIND: Kind = Kind::Span;
    const SIGNAL: &'static str = "traces";
    fn len(&self) -> u64 {
        Vec::len(self) as u64
    }
}

impl Batch for ResourceMetrics {
    const KIND: Kind = Kind::Metric;
    const SIGNAL: &'static str = "metrics";
    fn len(&self) -> u64 {
        self.scope_metrics().map(|scope| scope.metrics().count() as u64).sum()
    }
}

/// The system's certificates, which the exporter leaves out; read from disk only if TLS is spoken.
fn with_roots<B: WithTonicConfig>(builder: B, tls: bool) -> B {
    if tls { builder.with_tls_config(ClientTlsConfig::new().with_native_roots()) } else { builder }
}

/// The thread that the exporters run on.
pub struct ExportThread {
    runtime: Runtime,
}

/// Says once that a receiver does not answer, and once that it does again.
#[derive(Default)]
struct Health {
    failing: AtomicBool,
}

impl Health {
    fn report(&self, signal: &str, result: &Result<(), String>) {
        match result {
            Ok(()) if self.failing.swap(false, Ordering::Relaxed) => {
                eprintln!("llama-otel: {signal} are exported again")
            }
            Err(why) if !self.failing.swap(true, Ordering::Relaxed) => {
                eprintln!("llama-otel: {signal} cannot be exported, inference goes on without: {why}");
            }
            _ => {}
        }
    }
}

impl ExportThread {
    pub fn new() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("llama-otel-export")
            .enable_all()
            .build()?;
        Ok(ExportThread { runtime })
    }

    fn spawn<T, F>(
        &self,
        timeout: Duration,
        last_error: LastError,
        export: impl Fn(T) -> F + Send + Sync + 'static,
    ) -> Outlet<T>
    where
        T: Batch,
        F: Future<Output = OTelSdkResult> + Send,
    {
        let (jobs, mut queue) = mpsc::channel::<Job<T>>(QUEUED_BATCHES);
        let stats = Arc::new(Stats::default());
        let task_stats = stats.clone();
        self.runtime.spawn(async move {
            let health = Health::default();
            let mut delivered = true;
            while let Some(job) = queue.recv().await {
                match job {
                    Job::Export(batch) => {
                        let n = batch.len();
                        let start = Instant::now();
                        let result = match tokio::time::timeout(timeout, export(batch)).await {
                            Ok(result) => {
                                result.map_err(|error| last_error.take().unwrap_or_else(|| error.to_string()))
                            }
                            Err(_) => Err(format!("no answer within {timeout:?}")),
                        };
                        task_stats.exports.fetch_add(1, Ordering::Relaxed);
                        task_stats.nanoseconds.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
                        health.report(T::SIGNAL, &result);
                        if result.is_err() {
                            delivered = false;
                            ring::count_dropped(T::KIND, Reason::ExportFailed, n);
                        }
                    }
                    Job::Flush(answer) => {
                        let _ = answer.send(std::mem::replace(&mut delivered, true));
                    }
                }
            }
        });
        Outlet { jobs, stats }
    }

    /// The way out for spans; `None` if they go nowhere. The error names the setting that is wrong.
    pub fn spans(&self, config: &Config, resource: &Resource) -> Result<Option<Outlet<Vec<SpanData>>>, String> {
        let _guard = self.runtime.enter(); // gRPC channels are made inside the runtime that drives them
        match config.traces {
            Exporter::None => Ok(None),
            Exporter::Console => {
                let mut exporter = opentelemetry_stdout::SpanExporter::default();
                exporter.set_resource(resource);
                let exporter = Arc::new(exporter);
                Ok(Some(self.spawn(config.span_export_timeout, LastError::default(), move |batch| {
                    let exporter = exporter.clone();
                    async move { exporter.export(batch).await }
                })))
            }
            Exporter::Otlp => {
                let last_error = LastError::default();
                let timeout = config.traces_otlp.timeout.min(config.span_export_timeout);
                let mut exporter = match config.traces_otlp.protocol {
                    Protocol::Grpc => with_roots(SpanExporter::builder().with_tonic(), config.traces_otlp.tls).build(),
                    Protocol::HttpProtobuf => {
                        let client = Client::new(timeout, config.traces_otlp.tls, last_error.clone())?;
                        SpanExporter::builder().with_http().with_http_client(client).with_protocol(HttpBinary).build()
                    }
                }
                .map_err(|error| error.to_string())?;
                exporter.set_resource(resource);
                let exporter = Arc::new(exporter);
                Ok(Some(self.spawn(timeout, last_error, move |batch| {
                    let exporter = exporter.clone();
                    async move { exporter.export(batch).await }
                })))
            }
        }
    }

    /// The way out for metrics, with the temporality that it prefers; `None` if they go nowhere.
    pub fn metrics(
        &self,
        config: &Config,
    ) -> Result<Option<(Outlet<ResourceMetrics>, opentelemetry_sdk::metrics::Temporality)>, String> {
        let _guard = self.runtime.enter();
        match config.metrics {
            Exporter::None => Ok(None),
            Exporter::Console => {
                let exporter = opentelemetry_stdout::MetricExporter::default();
                Ok(Some(self.metric_outlet(config.metric_export_timeout, LastError::default(), exporter)))
            }
            Exporter::Otlp => {
                let last_error = LastError::default();
                let timeout = config.metrics_otlp.timeout.min(config.metric_export_timeout);
                let exporter = match config.metrics_otlp.protocol {
                    Protocol::Grpc => {
                        with_roots(MetricExporter::builder().with_tonic(), config.metrics_otlp.tls).build()
                    }
                    Protocol::HttpProtobuf => {
                        let client = Client::new(timeout, config.metrics_otlp.tls, last_error.clone())?;
                        MetricExporter::builder().with_http().with_http_client(client).with_protocol(HttpBinary).build()
                    }
                }
                .map_err(|error| error.to_string())?;
                Ok(Some(self.metric_outlet(timeout, last_error, exporter)))
            }
        }
    }

    fn metric_outlet(
        &self,
        timeout: Duration,
        last_error: LastError,
        exporter: impl PushMetricExporter,
    ) -> (Outlet<ResourceMetrics>, opentelemetry_sdk::metrics::Temporality) {
        let temporality = exporter.temporality();
        let exporter = Arc::new(exporter);
        let outlet = self.spawn(timeout, last_error, move |metrics: ResourceMetrics| {
            let exporter = exporter.clone();
            async move { exporter.export(&metrics).await }
        });
        (outlet, temporality)
    }

    /// Ends the thread; requests that are still under way are given up.
    pub fn shutdown(self) {
        self.runtime.shutdown_background();
    }
}
