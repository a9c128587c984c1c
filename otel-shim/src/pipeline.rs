//! The drain thread: out of the rings, into the exporters or the program's own providers.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::mpsc as reply;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use opentelemetry::InstrumentationScope;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::SdkLogRecord;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::reader::MetricReader;
use opentelemetry_sdk::metrics::{
    Aggregation, Instrument, InstrumentKind, ManualReader, Pipeline as SdkPipeline, SdkMeterProvider, Stream,
    Temporality,
};
use opentelemetry_sdk::trace::SpanData;

use crate::abi::{Control, FLAG_EXPORT, FLAG_LOCAL_ROOT};
use crate::config::{Config, HistogramAggregation};
use crate::event::{LogRecords, OpenEvents};
use crate::export::{Batch, ExportThread, Outlet, Stats};
use crate::host::{HostSpans, Providers};
use crate::inject;
use crate::life::{self, Order, Orders};
use crate::log::{error, warn};
use crate::metric::{self, Instruments};
use crate::registry::{Metric, SCHEMA_URL};
use crate::resource::resource;
use crate::ring::{self, Kind, Reason, Record};
use crate::span::{Epoch, Limits, span_data};

/// How often the rings are looked at while records come, and at most while none do.
const BUSY: Duration = Duration::from_millis(20);
const IDLE: Duration = Duration::from_millis(500);
/// The two clocks are compared anew after this time, since the wall clock is adjusted.
const EPOCH_LIFE: Duration = Duration::from_secs(10);

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
    instruments: Instruments,
    /// `None`: the program's own readers collect.
    own: Option<OwnReader>,
    provider: SdkMeterProvider,
}

struct OwnReader {
    outlet: Outlet<ResourceMetrics>,
    reader: SharedReader,
    interval: Duration,
    next: Instant,
}

/// What one signal's way out says about itself.
struct WayOut<'a> {
    signal: &'static str,
    stats: &'a Stats,
    /// Items before the exporter and in it.
    waiting: u64,
}

/// Where spans go.
enum SpanSink {
    Exporter(Queue<SpanData>),
    Host(HostSpans),
}

/// Spans, or records of the log, that wait for their exporter.
struct Queue<T>
where
    Vec<T>: Batch,
{
    outlet: Outlet<Vec<T>>,
    waiting: VecDeque<T>,
    /// When the oldest that waits must go.
    due: Option<Instant>,
    delay: Duration,
    batch: usize,
    max_waiting: usize,
}

pub struct Drain {
    control: &'static Control,
    orders: Arc<Orders>,
    export: ExportThread,
    scope: InstrumentationScope,
    epoch: (Epoch, Instant),
    limits: Limits,
    spans: Option<SpanSink>,
    events: OpenEvents,
    /// With the program's own providers there are events of spans, and no records.
    logs: Option<(LogRecords, Queue<SdkLogRecord>)>,
    metrics: Option<Metrics>,
    /// That single operations are timed was said.
    said_op: bool,
}

impl Drain {
    /// # Errors
    /// A setting that no default can stand in for, in words.
    pub fn new(
        control: &'static Control,
        config: &Config,
        host: Option<Providers>,
        orders: Arc<Orders>,
    ) -> Result<Self, String> {
        let export = ExportThread::new().map_err(|error| format!("no thread could be started: {error}"))?;
        let scope = InstrumentationScope::builder("llama.cpp")
            .with_version(control.versions()[0])
            .with_schema_url(SCHEMA_URL)
            .build();
        let (spans, logs, metrics) = match host {
            Some(host) => (
                host.spans(&scope).map(SpanSink::Host),
                None,
                host.meter_provider().map(|provider| Metrics {
                    instruments: Instruments::new(provider.meter_with_scope(scope.clone())),
                    own: None,
                    provider: provider.clone(),
                }),
            ),
            None => {
                let resource = resource(control, config.service_name.as_deref());
                let batch = config.max_export_batch_size;
                let spans = export.spans(config, &resource)?.map(|outlet| {
                    SpanSink::Exporter(Queue::new(outlet, config.schedule_delay, batch, config.max_queue_size))
                });
                let logs = export.logs(config, &resource, &scope)?.map(|outlet| {
                    let max = config.log_max_queue_size;
                    let queue = Queue::new(outlet, config.log_schedule_delay, batch.min(max), max);
                    (LogRecords::new(&scope, &resource), queue)
                });
                (spans, logs, own_metrics(&export, config, resource, &scope)?)
            }
        };
        let epoch = (Epoch::now(now_ns(control)), Instant::now());
        let limits = config.span_limits;
        let events = OpenEvents::default();
        Ok(Drain { control, orders, export, scope, epoch, limits, spans, events, logs, metrics, said_op: false })
    }

    /// Until it is told to stop. A panic in here ends telemetry, and nothing else.
    pub fn run(mut self) {
        crate::priority::lower();
        let served = catch_unwind(AssertUnwindSafe(|| self.serve()));
        ring::drain_thread_ends();
        self.export.shutdown();
        match served {
            Ok((answer, delivered)) => {
                let _ = answer.send(delivered);
            }
            Err(_) => life::give_up("after an error of its own (above); inference goes on without"),
        }
        self.orders.close(); // also to a flush that was ordered during the shutdown
    }

    /// Drains and exports. Returns with whom to tell that it was told to stop, and whether everything was delivered.
    fn serve(&mut self) -> (reply::Sender<bool>, bool) {
        let mut pause = BUSY;
        loop {
            inject::point("drain");
            let n = self.drain();
            if !self.paused() {
                self.export_queues();
                self.export_metrics(false);
            }
            match self.orders.next() {
                Some(Order::Flush { deadline, answer }) => {
                    let _ = answer.send(self.flush(deadline));
                    continue;
                }
                Some(Order::Stop { deadline, answer }) => {
                    // On this thread: at the end of the process the calling one may have lost what it had of its own.
                    // SAFETY: the runtime gave the function; it may be called on any thread while nothing is recorded.
                    unsafe { (self.control.end_generations)() };
                    let delivered = self.flush(deadline);
                    self.count_undelivered();
                    return (answer, delivered);
                }
                None => {}
            }
            pause = if n > 0 { BUSY } else { (pause * 2).min(IDLE) };
            ring::sleep(self.until_due(pause));
        }
    }

    fn paused(&self) -> bool {
        self.orders.paused.load(Ordering::Relaxed)
    }

    fn count_undelivered(&self) {
        if let Some(SpanSink::Exporter(spans)) = &self.spans {
            ring::count_dropped(Kind::Span, Reason::Shutdown, spans.waiting.len() as u64);
        }
        if let Some((_, logs)) = &self.logs {
            ring::count_dropped(Kind::Event, Reason::Shutdown, logs.waiting.len() as u64);
        }
    }

    fn until_due(&self, pause: Duration) -> Duration {
        if self.paused() {
            return pause;
        }
        let spans = match &self.spans {
            Some(SpanSink::Exporter(spans)) => spans.due,
            _ => None,
        };
        let logs = self.logs.as_ref().and_then(|(_, logs)| logs.due);
        let metrics = self.metrics.as_ref().and_then(|metrics| metrics.own.as_ref()).map(|own| own.next);
        let now = Instant::now();
        [spans, logs, metrics]
            .into_iter()
            .flatten()
            .map(|due| due.saturating_duration_since(now))
            .fold(pause, Duration::min)
            .max(Duration::from_millis(1))
    }

    /// Empties the rings and the runtime's counters into the waiting spans and the instruments.
    fn drain(&mut self) -> usize {
        match &mut self.metrics {
            Some(metrics) => metrics.instruments.ask(self.control.counted),
            None => metric::forget(self.control.counted), // else it would be told where metrics are wanted later
        }
        if self.epoch.1.elapsed() > EPOCH_LIFE {
            self.epoch = (Epoch::now(now_ns(self.control)), Instant::now());
        }
        let (epoch, limits) = (self.epoch.0, self.limits);
        let (spans, metrics, scope) = (&mut self.spans, &mut self.metrics, &self.scope);
        let (events, logs, said_op) = (&mut self.events, &mut self.logs, &mut self.said_op);
        ring::drain(|record, attrs, strings| match record {
            Record::Metric(record) => {
                if let Some(metrics) = metrics {
                    metrics.instruments.measurement(record, attrs, strings);
                    if record.metric == Metric::GgmlOpDuration as u16 && !std::mem::replace(said_op, true) {
                        // whoever measures should not wonder where the time went
                        warn!("the level of detail is `op`, which may cost speed");
                    }
                }
            }
            Record::Span(record, links) => {
                if let Some(metrics) = metrics {
                    metrics.instruments.span_duration(record, attrs, strings);
                }
                if let Some(spans) = spans.as_mut().filter(|_| record.flags & FLAG_EXPORT != 0) {
                    let mut data = span_data(record, attrs, links, strings, epoch, scope, limits);
                    data.events = events.take(record.span_id);
                    match spans {
                        SpanSink::Exporter(spans) => spans.take(data),
                        SpanSink::Host(host) => host.take(data, record.flags & FLAG_LOCAL_ROOT != 0),
                    }
                }
            }
            Record::Event(record) => {
                if spans.is_some() {
                    events.add(record, attrs, strings, epoch);
                }
                if let Some((records, queue)) = logs
                    && let Some(log) = records.make(record, attrs, strings, epoch)
                {
                    queue.take(log);
                }
            }
        })
    }

    fn export_queues(&mut self) {
        match &mut self.spans {
            Some(SpanSink::Exporter(spans)) => spans.export(false),
            Some(SpanSink::Host(host)) => host.emit_old(),
            None => {}
        }
        if let Some((_, logs)) = &mut self.logs {
            logs.export(false);
        }
    }

    /// Hands over what waits, as far as there is room; what still waits.
    fn hand_over(&mut self) -> usize {
        let mut left = 0;
        if let Some(SpanSink::Exporter(spans)) = &mut self.spans {
            spans.export(true);
            left += spans.waiting.len();
        }
        if let Some((_, logs)) = &mut self.logs {
            logs.export(true);
            left += logs.waiting.len();
        }
        left
    }

    /// False if it was time and there was no room.
    fn export_metrics(&mut self, now: bool) -> bool {
        let Some(metrics) = &mut self.metrics else { return true };
        let spans = match &self.spans {
            Some(SpanSink::Exporter(spans)) => Some(spans.way_out()),
            _ => None,
        };
        let logs = self.logs.as_ref().map(|(_, logs)| logs.way_out());
        metrics.export(now, [spans, logs], self.control)
    }

    /// Everything that was recorded before, to the receiver. False if something was refused or the time ran out.
    fn flush(&mut self, deadline: Instant) -> bool {
        self.drain();
        if self.paused() {
            return false;
        }
        // all signals at once: none waits for the receiver of another
        let mut collected = self.export_metrics(true);
        while (self.hand_over() > 0 || !collected) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
            collected = collected || self.export_metrics(true);
        }
        let mut answers = Vec::new();
        match &mut self.spans {
            Some(SpanSink::Exporter(spans)) => answers.push(spans.ask(deadline)),
            Some(SpanSink::Host(host)) => {
                host.emit_all();
                let provider = host.provider();
                answers.push(in_background(move || provider.force_flush().is_ok()));
            }
            None => {}
        }
        if let Some((_, logs)) = &mut self.logs {
            answers.push(logs.ask(deadline));
        }
        match &self.metrics {
            Some(Metrics { own: Some(own), .. }) => {
                let (answer, wait) = reply::channel();
                answers.push((own.outlet.flush(deadline, answer), wait));
            }
            Some(Metrics { provider, .. }) => {
                let provider = provider.clone();
                answers.push(in_background(move || provider.force_flush().is_ok()));
            }
            None => {}
        }
        // every answer is waited for, also after a bad one
        answers.into_iter().fold(collected, |delivered, (asked, wait)| {
            asked && wait.recv_timeout(deadline.saturating_duration_since(Instant::now())).unwrap_or(false) && delivered
        })
    }
}

/// A provider of the program's flushes for as long as it likes; only this thread waits for it, which has a deadline.
fn in_background(flush: impl FnOnce() -> bool + Send + 'static) -> (bool, reply::Receiver<bool>) {
    let (answer, wait) = reply::channel();
    let thread = std::thread::Builder::new().name("llama-otel-flush".into()).spawn(move || {
        let _ = answer.send(flush());
    });
    (thread.is_ok(), wait)
}

/// Metrics that we collect and export ourselves; `None` if they go nowhere.
fn own_metrics(
    export: &ExportThread,
    config: &Config,
    resource: Resource,
    scope: &InstrumentationScope,
) -> Result<Option<Metrics>, String> {
    let Some((outlet, temporality)) = export.metrics(config)? else { return Ok(None) };
    let reader = SharedReader(Arc::new(ManualReader::builder().with_temporality(temporality).build()));
    let mut provider = SdkMeterProvider::builder().with_reader(reader.clone()).with_resource(resource);
    if config.histograms == HistogramAggregation::Base2Exponential {
        provider = provider.with_view(exponential);
    }
    let provider = provider.build();
    Ok(Some(Metrics {
        instruments: Instruments::new(provider.meter_with_scope(scope.clone())),
        own: Some(OwnReader {
            outlet,
            reader,
            interval: config.metric_interval,
            next: Instant::now() + config.metric_interval,
        }),
        provider,
    }))
}

/// The specification's defaults of the base-2 exponential histogram.
fn exponential(instrument: &Instrument) -> Option<Stream> {
    if instrument.kind() != InstrumentKind::Histogram {
        return None;
    }
    let aggregation = Aggregation::Base2ExponentialHistogram { max_size: 160, max_scale: 20, record_min_max: true };
    Stream::builder().with_aggregation(aggregation).build().ok()
}

impl<T> Queue<T>
where
    Vec<T>: Batch,
{
    fn new(outlet: Outlet<Vec<T>>, delay: Duration, batch: usize, max_waiting: usize) -> Self {
        Queue { outlet, waiting: VecDeque::new(), due: None, delay, batch, max_waiting }
    }

    fn take(&mut self, item: T) {
        if self.waiting.len() >= self.batch {
            self.export(false);
        }
        if self.waiting.len() >= self.max_waiting {
            ring::count_dropped(<Vec<T> as Batch>::KIND, Reason::QueueFull, 1);
            return;
        }
        self.due.get_or_insert_with(|| Instant::now() + self.delay);
        self.waiting.push_back(item);
    }

    fn way_out(&self) -> WayOut<'_> {
        let waiting = self.waiting.len() as u64 + self.outlet.waiting();
        WayOut { signal: <Vec<T> as Batch>::SIGNAL, stats: self.outlet.stats(), waiting }
    }

    /// Whether the question for delivery of all that was taken could be asked, and where the answer comes.
    fn ask(&self, deadline: Instant) -> (bool, reply::Receiver<bool>) {
        let (answer, wait) = reply::channel();
        (self.waiting.is_empty() && self.outlet.flush(deadline, answer), wait)
    }

    /// Hands over full batches; the rest too if `all` or when it is due.
    fn export(&mut self, all: bool) {
        let all = all || self.due.is_some_and(|due| Instant::now() >= due);
        let before = self.waiting.len();
        while self.outlet.has_room() && (self.waiting.len() >= self.batch || (all && !self.waiting.is_empty())) {
            // a vector of its own size: one split off would keep the memory of the whole queue
            let n = self.waiting.len().min(self.batch);
            let batch: Vec<T> = self.waiting.drain(..n).collect();
            if let Err(batch) = self.outlet.offer(batch) {
                batch.into_iter().rev().for_each(|item| self.waiting.push_front(item));
                break;
            }
        }
        self.due = match self.waiting.len() {
            0 => None,
            left if left < before => Some(Instant::now() + self.delay),
            // there was no room: not at every look, but soon
            _ if all => Some(Instant::now() + self.delay.min(IDLE)),
            _ => self.due,
        };
    }
}

impl Metrics {
    /// Collects and exports if it is time; `others`: the ways out of the other signals. False if there was no room.
    fn export(&mut self, now: bool, others: [Option<WayOut>; 2], control: &Control) -> bool {
        let Some(own) = &mut self.own else {
            self.instruments.ask(control.observe);
            self.instruments.drops();
            return true;
        };
        let metrics =
            WayOut { signal: ResourceMetrics::SIGNAL, stats: own.outlet.stats(), waiting: own.outlet.waiting() };
        let ways = others.into_iter().flatten().chain([metrics]);
        let ways: Vec<_> = ways.map(|WayOut { signal, stats, waiting }| (signal, stats.take(), waiting)).collect();
        for (signal, exports, _) in &ways {
            for (outcome, seconds) in exports {
                let attributes = [("llama.otel.signal", *signal), ("llama.otel.outcome", *outcome)];
                self.instruments.own(Metric::LlamaOtelExportDuration, *seconds, &attributes);
            }
        }
        // an export under way is waited for: with delta temporality a collection that is thrown away would be lost
        if !(now || Instant::now() >= own.next) {
            return true;
        }
        if !own.outlet.has_room() {
            return false;
        }
        own.next = Instant::now() + own.interval;
        self.instruments.ask(control.observe);
        self.instruments.drops();
        for (signal, _, waiting) in &ways {
            self.instruments.own(Metric::LlamaOtelQueueUsage, *waiting as f64, &[("llama.otel.signal", *signal)]);
        }
        let mut collected = ResourceMetrics::default();
        match own.reader.collect(&mut collected) {
            Ok(()) => {
                let _ = own.outlet.offer(collected);
            }
            Err(error) => error!("metrics could not be collected: {error}"),
        }
        true
    }
}

fn now_ns(control: &Control) -> i64 {
    // SAFETY: otel.cpp sets it to a function that only reads a clock.
    control.now_ns.map_or(0, |now_ns| unsafe { now_ns() })
}
