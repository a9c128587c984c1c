//! The exporters and the thread that runs them. Batches wait in bounded queues; nothing here is ever waited for but by a flush.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc as reply;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::InstrumentationScope;
use opentelemetry_otlp::Protocol::HttpBinary;
use opentelemetry_otlp::{
    Compression as OtlpCompression, LogExporter, MetricExporter, SpanExporter, WithExportConfig, WithHttpConfig,
    WithTonicConfig,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogBatch, SdkLogRecord};
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::config::{Compression, Config, Exporter, Otlp, Protocol, Temporality};
use crate::http::{Client, LastError};
use crate::inject;
use crate::log::{info, warn};
use crate::ring::{self, Kind, Reason};
use crate::tls::Material;

/// Batches that wait for one exporter; more stay with the drain thread.
const QUEUED_BATCHES: usize = 4;

/// How long the tasks may take to notice that they end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(100);

/// What an exporter's task is told.
enum Job<T: Batch> {
    Export(Parcel<T>),
    /// Answers, when all before it is done, whether all since the last answer was delivered.
    Flush(reply::Sender<bool>),
}

/// A batch on its way: counted as lost unless somebody says that it arrived, also when the thread ends under it.
struct Parcel<T: Batch> {
    batch: Option<T>,
    len: u64,
}

impl<T: Batch> Parcel<T> {
    fn new(batch: T) -> Self {
        Parcel { len: batch.len(), batch: Some(batch) }
    }

    /// The batch, if it was not taken out yet.
    fn take(&mut self) -> Option<T> {
        self.batch.take()
    }

    fn settle(&mut self) {
        self.len = 0;
    }
}

impl<T: Batch> Drop for Parcel<T> {
    fn drop(&mut self) {
        ring::count_dropped(T::KIND, Reason::ExportFailed, self.len);
    }
}

/// One signal's way out: a task on the export thread and the queue before it.
pub struct Outlet<T: Batch> {
    jobs: mpsc::Sender<Job<T>>,
    stats: Arc<Stats>,
}

/// Exports whose durations are kept until the next collection at most; further ones are left out of the histogram.
const MAX_DURATIONS: usize = 256;

/// What one outlet says about itself, for the metrics of telemetry itself.
#[derive(Default)]
pub struct Stats {
    /// (outcome, seconds) of the exports since they were last taken.
    exports: Mutex<Vec<(&'static str, f64)>>,
    /// Items that are queued or under way.
    waiting: AtomicU64,
}

impl Stats {
    /// Outcome (`ok`, `error`) and seconds of each export since the last call.
    pub fn take(&self) -> Vec<(&'static str, f64)> {
        std::mem::take(&mut *self.exports.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn exported(&self, delivered: bool, duration: Duration, items: u64) {
        self.waiting.fetch_sub(items, Ordering::Relaxed);
        let mut exports = self.exports.lock().unwrap_or_else(PoisonError::into_inner);
        if exports.len() < MAX_DURATIONS {
            exports.push((if delivered { "ok" } else { "error" }, duration.as_secs_f64()));
        }
    }
}

impl<T: Batch> Outlet<T> {
    /// Hands over a batch; gives it back if the queue is full.
    pub fn offer(&self, batch: T) -> Result<(), T> {
        match self.jobs.try_reserve() {
            Ok(place) => {
                self.stats.waiting.fetch_add(batch.len(), Ordering::Relaxed);
                place.send(Job::Export(Parcel::new(batch)));
                Ok(())
            }
            Err(_) => Err(batch),
        }
    }

    /// Items that are queued or under way.
    pub fn waiting(&self) -> u64 {
        self.stats.waiting.load(Ordering::Relaxed)
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

impl Batch for Vec<SdkLogRecord> {
    const KIND: Kind = Kind::Event;
    const SIGNAL: &'static str = "logs";
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

/// Endpoint, time, compression and TLS of an OTLP exporter over gRPC.
fn grpc<B: WithExportConfig + WithTonicConfig>(builder: B, otlp: &Otlp) -> B {
    let mut builder = builder.with_endpoint(otlp.endpoint.as_str()).with_timeout(otlp.timeout);
    if otlp.compression == Compression::Gzip {
        builder = builder.with_compression(OtlpCompression::Gzip);
    }
    if otlp.tls { builder.with_tls_config(Material::load(otlp).for_grpc()) } else { builder }
}

/// The same over HTTP, with our own client.
fn http<B: WithExportConfig + WithHttpConfig>(
    builder: B,
    otlp: &Otlp,
    timeout: Duration,
    last_error: &LastError,
) -> Result<B, String> {
    let client = Client::new(timeout, Material::load(otlp).for_http(otlp.tls)?, last_error.clone());
    let mut builder = builder.with_http_client(client).with_endpoint(otlp.endpoint.as_str()).with_timeout(timeout);
    if otlp.compression == Compression::Gzip {
        builder = builder.with_compression(OtlpCompression::Gzip);
    }
    Ok(builder.with_protocol(HttpBinary))
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
                info!("{signal} are exported again")
            }
            Err(why) if !self.failing.swap(true, Ordering::Relaxed) => {
                warn!("{signal} cannot be exported, inference goes on without: {why}");
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
            .on_thread_start(crate::priority::lower)
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
        F: Future<Output = OTelSdkResult> + Send + 'static,
    {
        let (jobs, mut queue) = mpsc::channel::<Job<T>>(QUEUED_BATCHES);
        let stats = Arc::new(Stats::default());
        let task_stats = stats.clone();
        self.runtime.spawn(async move {
            let health = Health::default();
            let mut delivered = true;
            while let Some(job) = queue.recv().await {
                match job {
                    Job::Export(mut parcel) => {
                        let Some(batch) = parcel.take() else { continue };
                        let (start, n) = (Instant::now(), parcel.len);
                        let request = export(batch);
                        // a task of its own: its panic is one more failed export
                        let mut request = tokio::spawn(async move {
                            inject::point("export");
                            request.await
                        });
                        let result = match tokio::time::timeout(timeout, &mut request).await {
                            Ok(Ok(result)) => {
                                result.map_err(|error| last_error.take().unwrap_or_else(|| error.to_string()))
                            }
                            Ok(Err(_)) => Err("the exporter panicked".to_owned()),
                            Err(_) => {
                                request.abort();
                                Err(format!("no answer within {timeout:?}"))
                            }
                        };
                        task_stats.exported(result.is_ok(), start.elapsed(), n);
                        health.report(T::SIGNAL, &result);
                        match result {
                            Ok(()) => parcel.settle(),
                            Err(_) => delivered = false,
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
        match config.traces_exporter {
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
                let otlp = &config.traces_otlp;
                let last_error = LastError::default();
                let timeout = otlp.timeout.min(config.span_export_timeout);
                let mut exporter = match otlp.protocol {
                    Protocol::Grpc => grpc(SpanExporter::builder().with_tonic(), otlp).build(),
                    Protocol::HttpProtobuf => {
                        http(SpanExporter::builder().with_http(), otlp, timeout, &last_error)?.build()
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
        let temporality = match config.temporality {
            Temporality::Cumulative => opentelemetry_sdk::metrics::Temporality::Cumulative,
            Temporality::Delta => opentelemetry_sdk::metrics::Temporality::Delta,
            Temporality::LowMemory => opentelemetry_sdk::metrics::Temporality::LowMemory,
        };
        match config.metrics_exporter {
            Exporter::None => Ok(None),
            Exporter::Console => {
                let exporter = opentelemetry_stdout::MetricExporter::default();
                Ok(Some(self.metric_outlet(config.metric_export_timeout, LastError::default(), exporter)))
            }
            Exporter::Otlp => {
                let otlp = &config.metrics_otlp;
                let last_error = LastError::default();
                let timeout = otlp.timeout.min(config.metric_export_timeout);
                let builder = MetricExporter::builder().with_temporality(temporality);
                let exporter = match otlp.protocol {
                    Protocol::Grpc => grpc(builder.with_tonic(), otlp).build(),
                    Protocol::HttpProtobuf => http(builder.with_http(), otlp, timeout, &last_error)?.build(),
                }
                .map_err(|error| error.to_string())?;
                Ok(Some(self.metric_outlet(timeout, last_error, exporter)))
            }
        }
    }

    /// The way out for records of the log; `None` if they go nowhere.
    pub fn logs(
        &self,
        config: &Config,
        resource: &Resource,
        scope: &InstrumentationScope,
    ) -> Result<Option<Outlet<Vec<SdkLogRecord>>>, String> {
        let _guard = self.runtime.enter();
        match config.logs_exporter {
            Exporter::None => Ok(None),
            Exporter::Console => {
                let exporter = opentelemetry_stdout::LogExporter::default();
                Ok(Some(self.log_outlet(config.log_export_timeout, LastError::default(), exporter, resource, scope)))
            }
            Exporter::Otlp => {
                let otlp = &config.logs_otlp;
                let last_error = LastError::default();
                let timeout = otlp.timeout.min(config.log_export_timeout);
                let exporter = match otlp.protocol {
                    Protocol::Grpc => grpc(LogExporter::builder().with_tonic(), otlp).build(),
                    Protocol::HttpProtobuf => {
                        http(LogExporter::builder().with_http(), otlp, timeout, &last_error)?.build()
                    }
                }
                .map_err(|error| error.to_string())?;
                Ok(Some(self.log_outlet(timeout, last_error, exporter, resource, scope)))
            }
        }
    }

    fn log_outlet(
        &self,
        timeout: Duration,
        last_error: LastError,
        mut exporter: impl opentelemetry_sdk::logs::LogExporter + 'static,
        resource: &Resource,
        scope: &InstrumentationScope,
    ) -> Outlet<Vec<SdkLogRecord>> {
        exporter.set_resource(resource);
        let exporter = Arc::new((exporter, scope.clone()));
        self.spawn(timeout, last_error, move |records: Vec<SdkLogRecord>| {
            let exporter = exporter.clone();
            async move {
                let (exporter, scope) = &*exporter;
                let records: Vec<_> = records.iter().map(|record| (record, scope)).collect();
                exporter.export(LogBatch::new(&records)).await
            }
        })
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

    /// Ends the thread; requests that are still under way are given up, and counted.
    pub fn shutdown(self) {
        self.runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    }
}
