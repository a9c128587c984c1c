//! Host mode: the program's own providers take what llama.cpp records, so that its processors, readers, resource and
//! sampler are those of everything else in the program. They are handed over, never looked for: a provider of another
//! version of the SDK is another type, and the compiler says so.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, Tracer, TracerProvider,
};
use opentelemetry::{Context, InstrumentationScope};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SdkTracer, SdkTracerProvider, SpanData};

use crate::life::{self, lock};

/// Spans that wait for the span around them, all together; with more, the oldest go without it.
const MAX_HELD: usize = 4_096;
/// Longest that a span waits for it.
const MAX_AGE: Duration = Duration::from_secs(60);

thread_local! {
    /// The ids that the next span of this thread takes, which llama.cpp's spans had since they were opened.
    static NEXT_IDS: Cell<Option<(TraceId, SpanId)>> = const { Cell::new(None) };
}

/// Gives llama.cpp's spans the ids that they have had since they were opened, and every other span what the generator
/// inside gives. A tracer provider needs it before it can be handed over:
/// `SdkTracerProvider::builder().with_id_generator(IdGeneratorForLlama::new())`.
#[derive(Clone, Debug)]
pub struct IdGeneratorForLlama<G = RandomIdGenerator>(
    /// Ids of all other spans.
    pub G,
);

impl IdGeneratorForLlama {
    /// Random ids for all other spans, as the SDK's default.
    pub fn new() -> Self {
        IdGeneratorForLlama(RandomIdGenerator::default())
    }
}

impl Default for IdGeneratorForLlama {
    fn default() -> Self {
        Self::new()
    }
}

impl<G: IdGenerator> IdGenerator for IdGeneratorForLlama<G> {
    fn new_trace_id(&self) -> TraceId {
        NEXT_IDS.get().map_or_else(|| self.0.new_trace_id(), |(trace_id, _)| trace_id)
    }

    fn new_span_id(&self) -> SpanId {
        NEXT_IDS.get().map_or_else(|| self.0.new_span_id(), |(_, span_id)| span_id)
    }
}

/// The providers of a program. What is left out is not exported.
#[derive(Clone, Debug, Default)]
pub struct Providers {
    tracer: Option<SdkTracerProvider>,
    meter: Option<SdkMeterProvider>,
}

/// Why providers were not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProvidersError {
    #[error(
        "the tracer provider was built without `.with_id_generator(IdGeneratorForLlama::new())`: llama.cpp's spans have \
         their ids before the provider sees them"
    )]
    IdGenerator,
    #[error("telemetry runs already; hand the providers over before the first call of llama.cpp, or after `shutdown`")]
    Running,
}

impl Providers {
    pub fn new() -> Self {
        Self::default()
    }

    /// Spans go through this provider's sampler and processors. It must have [`IdGeneratorForLlama`].
    pub fn tracer(mut self, provider: &SdkTracerProvider) -> Self {
        self.tracer = Some(provider.clone());
        self
    }

    /// Metrics go through this provider's views and readers.
    pub fn meter(mut self, provider: &SdkMeterProvider) -> Self {
        self.meter = Some(provider.clone());
        self
    }

    /// Hands the providers over; see [`crate::use_providers`].
    ///
    /// # Errors
    /// Telemetry runs already, or the tracer provider lacks the id generator.
    pub fn hand_over(self) -> Result<(), ProvidersError> {
        if life::is_active() {
            return Err(ProvidersError::Running);
        }
        if self.tracer.as_ref().is_some_and(|provider| !takes_our_ids(provider)) {
            return Err(ProvidersError::IdGenerator);
        }
        *lock(&GIVEN) = Some(self);
        crate::propagation::follow_current_context(true);
        life::start_late();
        Ok(())
    }

    pub(crate) fn spans(&self, scope: &InstrumentationScope) -> Option<HostSpans> {
        let provider = self.tracer.clone()?;
        let tracer = provider.tracer_with_scope(scope.clone());
        Some(HostSpans { provider, tracer, held: HashMap::new(), n_held: 0 })
    }

    pub(crate) fn meter_provider(&self) -> Option<&SdkMeterProvider> {
        self.meter.as_ref()
    }
}

static GIVEN: Mutex<Option<Providers>> = Mutex::new(None);

pub fn given() -> Option<Providers> {
    lock(&GIVEN).clone()
}

/// A span that is opened and then forgotten shows it; only ended spans are exported.
fn takes_our_ids(provider: &SdkTracerProvider) -> bool {
    let ids = (TraceId::from(u128::MAX - 1), SpanId::from(u64::MAX - 1));
    NEXT_IDS.set(Some(ids));
    let span =
        provider.tracer("llama.cpp").build_with_context(SpanBuilder::from_name("llama.otel.probe"), &Context::new());
    NEXT_IDS.set(None);
    let took = span.span_context().span_id() == ids.1;
    let shut_down = !span.span_context().is_valid();
    std::mem::forget(span);
    took || shut_down
}

/// Spans on their way into the program's tracer provider. A span ends before the one around it does, but the sampler is
/// asked about the outer one first: what is inside waits for it.
pub struct HostSpans {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    /// By the span around them.
    held: HashMap<SpanId, (Instant, Vec<SpanData>)>,
    n_held: usize,
}

impl HostSpans {
    /// An ended span; `local_root`: none of llama.cpp's is around it.
    pub fn take(&mut self, span: SpanData, local_root: bool) {
        if local_root {
            self.emit(span, None);
            return;
        }
        self.held.entry(span.parent_span_id).or_insert_with(|| (Instant::now(), Vec::new())).1.push(span);
        self.n_held += 1;
        if self.n_held > MAX_HELD {
            self.emit_orphans(Duration::ZERO);
        }
    }

    /// Spans whose outer one was not exported; called now and then.
    pub fn emit_old(&mut self) {
        if self.n_held > 0 {
            self.emit_orphans(MAX_AGE);
        }
    }

    fn emit_orphans(&mut self, age: Duration) {
        let old: Vec<SpanId> =
            self.held.iter().filter(|(_, (since, _))| since.elapsed() >= age).map(|(id, _)| *id).collect();
        for id in old {
            for span in self.inside(id) {
                self.emit(span, Some(true));
            }
        }
    }

    fn inside(&mut self, id: SpanId) -> Vec<SpanData> {
        let (_, spans) = self.held.remove(&id).unwrap_or_else(|| (Instant::now(), Vec::new()));
        self.n_held -= spans.len();
        spans
    }

    /// Gives the span to the provider, and then those inside it. `outer`: whether the one around it was sampled; `None`
    /// for a local root, whose parent has the flag that it came with, which its recording proves to be set.
    fn emit(&mut self, data: SpanData, outer: Option<bool>) {
        let mut todo = vec![(data, outer)];
        while let Some((data, outer)) = todo.pop() {
            let id = data.span_context.span_id();
            let sampled = self.build(data, outer.unwrap_or(true));
            todo.extend(self.inside(id).into_iter().map(|span| (span, Some(sampled))));
        }
    }

    fn build(&self, data: SpanData, parent_sampled: bool) -> bool {
        let mut parent = Context::new();
        if data.parent_span_id != SpanId::INVALID {
            parent = parent.with_remote_span_context(SpanContext::new(
                data.span_context.trace_id(),
                data.parent_span_id,
                if parent_sampled { TraceFlags::SAMPLED } else { TraceFlags::default() },
                data.parent_span_is_remote,
                data.span_context.trace_state().clone(),
            ));
        }
        NEXT_IDS.set(Some((data.span_context.trace_id(), data.span_context.span_id())));
        let builder = SpanBuilder::from_name(data.name)
            .with_kind(data.span_kind)
            .with_start_time(data.start_time)
            .with_attributes(data.attributes)
            .with_links(data.links.links);
        let mut span = self.tracer.build_with_context(builder, &parent);
        NEXT_IDS.set(None);
        span.set_status(data.status);
        span.end_with_timestamp(data.end_time);
        span.span_context().is_sampled()
    }

    pub fn provider(&self) -> SdkTracerProvider {
        self.provider.clone()
    }

    /// Lets everything go that waits, because there will be nothing more for a while.
    pub fn emit_all(&mut self) {
        self.emit_orphans(Duration::ZERO);
    }
}
