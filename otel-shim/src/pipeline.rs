//! The life of telemetry in a process: start, the drain thread, flush, shutdown.

use std::collections::VecDeque;
use std::sync::mpsc as reply;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use opentelemetry::metrics::MeterProvider;
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{
    InstrumentKind, ManualReader, Pipeline as SdkPipeline, SdkMeterProvider, Temporality,
};
use opentelemetry_sdk::trace::SpanData;
use std::sync::atomic::Ordering;

use crate::abi::{CAPTURE_MODEL_PATH, Control, FLAG_EXPORT};
use crate::config::{self, Config, Detail};
use crate::export::{ExportThread, Outlet};
use crate::metric::Instruments;
use crate::registry::{Metric, SCHEMA_URL};
use crate::ring::{self, Kind, Reason, Record};
use crate::span::{Epoch, span_data};

/// Longest that the end of the process waits for the receiver.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the rings are looked at while records come, and at most while none do.
const BUSY: Duration = Duration::from_millis(20);
const IDLE: Duration = Duration::from_millis(500);
/// The two clocks are compared anew after this time, since the wall clock is adjusted.
const EPOCH_LIFE: Duration = Duration::from_secs(10);

struct Running {
    control: &'static Control,
    orders: Arc<Mutex<VecDeque<Order>>>,
    thread: JoinHandle<()>,
}

enum Order {
    Flush { deadline: Instant, answer: reply::Sender<bool> },
    Stop { deadline: Instant, answer: reply::Sender<bool> },
}

static RUNNING: Mutex<Option<Running>> = Mutex::new(None);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads the environment and starts the threads if telemetry is wanted. Does nothing while it runs.
pub fn start(control: &'static Control) {
    let mut running = lock(&RUNNING);
    if running.is_some() {
        return;
    }
    let Some(config) = Config::from_variables(&config::variables()) else { return };
    for warning in &config.warnings {
        eprintln!("llama-otel: {warning}");
    }
    let orders = Arc::new(Mutex::new(VecDeque::new()));
    let drain = match Drain::new(control, &config, orders.clone()) {
        Ok(drain) => drain,
        Err(why) => {
            // every model load asks again; the answer is the same
            static ONCE: std::sync::Once = std::sync::Once::new();
            ONCE.call_once(|| eprintln!("llama-otel: telemetry is off: {why}"));
            return;
        }
    };
    match std::thread::Builder::new().name("llama-otel".into()).spawn(move || drain.run()) {
        Ok(thread) => {
            ring::set_drain_thread(Some(thread.thread().clone()));
            control.capture.store(if config.capture_model_path { CAPTURE_MODEL_PATH } else { 0 }, Ordering::Relaxed);
            control.sample_threshold.store(config.sample_threshold(), Ordering::Relaxed);
            control.detail.store(config.detail as u32, Ordering::Release);
            *running = Some(Running { control, orders, thread });
            shut_down_at_exit();
        }
        Err(error) => eprintln!("llama-otel: telemetry is off: no thread could be started: {error}"),
    }
}

fn shut_down_at_exit() {
    extern "C" fn at_exit() {
        crate::shutdown(EXIT_TIMEOUT);
    }
    static ONCE: std::sync::Once = std::sync::Once::new();
    // SAFETY: the function takes nothing and does not unwind.
    ONCE.call_once(|| unsafe {
        libc::atexit(at_exit);
    });
}

pub fn is_active() -> bool {
    lock(&RUNNING).is_some()
}

pub fn set_detail(detail: Detail) {
    if let Some(running) = &*lock(&RUNNING) {
        running.control.detail.store(detail as u32, Ordering::Release);
    }
}

/// Gives an order to the drain thread and waits for the answer.
fn order(running: &Running, timeout: Duration, order: impl FnOnce(Instant, reply::Sender<bool>) -> Order) -> bool {
    let (answer, wait) = reply::channel();
    lock(&running.orders).push_back(order(Instant::now() + timeout, answer));
    running.thread.thread().unpark();
    wait.recv_timeout(timeout).unwrap_or(false)
}

pub fn flush(timeout: Duration) -> bool {
    match &*lock(&RUNNING) {
        Some(running) => order(running, timeout, |deadline, answer| Order::Flush { deadline, answer }),
        None => true,
    }
}

pub fn shutdown(timeout: Duration) -> bool {
    let Some(running) = lock(&RUNNING).take() else { return true };
    running.control.detail.store(Detail::Off as u32, Ordering::Release);
    order(&running, timeout, |deadline, answer| Order::Stop { deadline, answer })
}

/// The SDK's reader for metrics that are collected when we say so, shared between the provider and the drain thread.
#[derive(Clone, Debug)]
struct SharedReader(Arc<ManualReader>);

impl MetricReader for SharedReader {
    fn register_pipeline(&self, pipeline: Weak<SdkPipeline>) {
        self.0.register_pipeline(pipeline);
    }
    fn collect(&self, metrics: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(metrics)
    }
    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }
    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }
    fn temporality(&self, kind: InstrumentKind) -> Temporality {
        self.0.temporality(kind)
    }
}

struct Metrics {
    outlet: Outlet<ResourceMetrics>,
    instruments: Instruments,
    reader: SharedReader,
    interval: Duration,
    next: Instant,
    _provider: SdkMeterProvider,
}

struct Spans {
    outlet: Outlet<Vec<SpanData>>,
    waiting: Vec<SpanData>,
    /// When the oldest waiting span must go.
    due: Option<Instant>,
    delay: Duration,
    batch: usize,
    max_waiting: usize,
}

struct Drain {
    control: &'static Control,
    orders: Arc<Mutex<VecDeque<Order>>>,
    export: ExportThread,
    scope: InstrumentationScope,
    epoch: (Epoch, Instant),
    spans: Option<Spans>,
    metrics: Option<Metrics>,
}

fn resource(control: &Control) -> Resource {
    let [llama, commit, ggml] = control.versions();
    let mut attributes = vec![
        KeyValue::new("llama.version", llama),
        KeyValue::new("ggml.version", ggml),
        KeyValue::new("process.pid", i64::from(std::process::id())),
    ];
    if commit.len() >= 7 && commit.bytes().all(|b| b.is_ascii_hexdigit()) {
        attributes.push(KeyValue::new("llama.commit", commit));
    } else if commit != "unknown" {
        // a tree that does not know its commit is stamped with what it was obtained from
        attributes.push(KeyValue::new("llama.pin", commit));
    }
    if control.llama_build_number > 0 {
        attributes.push(KeyValue::new("llama.build.number", control.llama_build_number));
    }
    Resource::builder().with_schema_url(attributes, SCHEMA_URL).build()
}

impl Drain {
    fn new(control: &'static Control, config: &Config, orders: Arc<Mutex<VecDeque<Order>>>) -> Result<Self, String> {
        let export = ExportThread::new().map_err(|error| format!("no thread could be started: {error}"))?;
        let resource = resource(control);
        let scope = InstrumentationScope::builder("llama.cpp")
            .with_version(control.versions()[0])
            .with_schema_url(SCHEMA_URL)
            .build();

        let spans = export.spans(config, &resource)?.map(|outlet| Spans {
            outlet,
            waiting: Vec::new(),
            due: None,
            delay: config.schedule_delay,
            batch: config.max_export_batch_size,
            max_waiting: config.max_queue_size,
        });
        let metrics = export.metrics(config)?.map(|(outlet, temporality)| {
            let reader = SharedReader(Arc::new(ManualReader::builder().with_temporality(temporality).build()));
            let provider = SdkMeterProvider::builder().with_reader(reader.clone()).with_resource(resource).build();
            Metrics {
                outlet,
                instruments: Instruments::new(provider.meter_with_scope(scope.clone())),
                reader,
                interval: config.metric_interval,
                next: Instant::now() + config.metric_interval,
                _provider: provider,
            }
        });
        let epoch = (Epoch::now(now_ns(control)), Instant::now());
        Ok(Drain { control, orders, export, scope, epoch, spans, metrics })
    }

    fn run(mut self) {
        let mut pause = BUSY;
        loop {
            let n = self.drain();
            self.export_spans(false);
            self.export_metrics(false);

            let next = lock(&self.orders).pop_front();
            match next {
                Some(Order::Flush { deadline, answer }) => {
                    let _ = answer.send(self.flush(deadline));
                    continue;
                }
                Some(Order::Stop { deadline, answer }) => {
                    let delivered = self.flush(deadline);
                    ring::set_drain_thread(None);
                    self.export.shutdown();
                    let _ = answer.send(delivered);
                    return;
                }
                None => {}
            }
            pause = if n > 0 { BUSY } else { (pause * 2).min(IDLE) };
            ring::sleep(self.until_due(pause));
        }
    }

    fn until_due(&self, pause: Duration) -> Duration {
        let dues = [self.spans.as_ref().and_then(|spans| spans.due), self.metrics.as_ref().map(|metrics| metrics.next)];
        let now = Instant::now();
        dues.into_iter()
            .flatten()
            .map(|due| due.saturating_duration_since(now))
            .fold(pause, Duration::min)
            .max(Duration::from_millis(1))
    }

    /// Empties the rings into the waiting spans and the instruments.
    fn drain(&mut self) -> usize {
        if self.epoch.1.elapsed() > EPOCH_LIFE {
            self.epoch = (Epoch::now(now_ns(self.control)), Instant::now());
        }
        let epoch = self.epoch.0;
        let (spans, metrics, scope) = (&mut self.spans, &mut self.metrics, &self.scope);
        ring::drain(|record, attrs, strings| match record {
            Record::Metric(record) => {
                if let Some(metrics) = metrics {
                    metrics.instruments.measurement(record, attrs, strings);
                }
            }
            Record::Span(record) => {
                if let Some(metrics) = metrics {
                    metrics.instruments.span_duration(record, attrs, strings);
                }
                if let Some(spans) = spans.as_mut().filter(|_| record.flags & FLAG_EXPORT != 0) {
                    spans.take(span_data(record, attrs, strings, epoch, scope));
                }
            }
        })
    }

    fn export_spans(&mut self, all: bool) {
        if let Some(spans) = &mut self.spans {
            spans.export(all);
        }
    }

    fn export_metrics(&mut self, now: bool) {
        if let Some(metrics) = &mut self.metrics {
            let queue = self.spans.as_ref().map_or(0, |spans| spans.waiting.len());
            let exports = self.spans.as_ref().map(|spans| spans.outlet.stats().take());
            metrics.export(now, queue, exports);
        }
    }

    /// Everything that was recorded before, to the receiver. False if something was refused or the time ran out.
    fn flush(&mut self, deadline: Instant) -> bool {
        self.drain();
        let mut answers = Vec::new();
        if let Some(spans) = &mut self.spans {
            while !spans.waiting.is_empty() && Instant::now() < deadline {
                spans.export(true);
                if !spans.waiting.is_empty() {
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
            let (answer, wait) = reply::channel();
            answers.push((spans.waiting.is_empty() && spans.outlet.flush(deadline, answer), wait));
        }
        self.export_metrics(true);
        if let Some(metrics) = &self.metrics {
            let (answer, wait) = reply::channel();
            answers.push((metrics.outlet.flush(deadline, answer), wait));
        }
        // every answer is waited for, also after a bad one
        answers.into_iter().fold(true, |delivered, (asked, wait)| {
            asked && wait.recv_timeout(deadline.saturating_duration_since(Instant::now())).unwrap_or(false) && delivered
        })
    }
}

impl Spans {
    fn take(&mut self, span: SpanData) {
        if self.waiting.len() >= self.batch {
            self.export(false);
        }
        if self.waiting.len() >= self.max_waiting {
            ring::count_dropped(Kind::Span, Reason::QueueFull, 1);
            return;
        }
        self.due.get_or_insert_with(|| Instant::now() + self.delay);
        self.waiting.push(span);
    }

    /// Hands over full batches; the rest too if `all` or when it is due.
    fn export(&mut self, all: bool) {
        let all = all || self.due.is_some_and(|due| Instant::now() >= due);
        while self.outlet.has_room() && (self.waiting.len() >= self.batch || (all && !self.waiting.is_empty())) {
            let rest = self.waiting.split_off(self.waiting.len().min(self.batch));
            let batch = std::mem::replace(&mut self.waiting, rest);
            if let Err(mut batch) = self.outlet.offer(batch) {
                batch.append(&mut self.waiting);
                self.waiting = batch;
                break;
            }
        }
        self.due = if self.waiting.is_empty() { None } else { Some(Instant::now() + self.delay) };
    }
}

impl Metrics {
    fn export(&mut self, now: bool, waiting_spans: usize, exports: Option<(u64, f64)>) {
        if let Some((n, seconds)) = exports.filter(|(n, _)| *n > 0) {
            self.instruments.own(
                Metric::LlamaOtelExportDuration,
                seconds / n as f64,
                &[("llama.otel.signal", "traces")],
            );
        }
        // an export under way is waited for: with delta temporality a collection that is thrown away would be lost
        if !(now || Instant::now() >= self.next) || !self.outlet.has_room() {
            return;
        }
        self.next = Instant::now() + self.interval;
        self.instruments.drops();
        self.instruments.own(Metric::LlamaOtelQueueUsage, waiting_spans as f64, &[("llama.otel.signal", "traces")]);
        let mut collected = ResourceMetrics::default();
        match self.reader.collect(&mut collected) {
            Ok(()) => {
                let _ = self.outlet.offer(collected);
            }
            Err(error) => eprintln!("llama-otel: metrics could not be collected: {error}"),
        }
    }
}

fn now_ns(control: &Control) -> i64 {
    // SAFETY: otel.cpp sets it to a function that only reads a clock.
    control.now_ns.map_or(0, |now_ns| unsafe { now_ns() })
}
