//! Every variable of `docs/configuration.md`, each against a real receiver: what it changes, and what a wrong value says.

mod child;

#[path = "cases/configuration.rs"]
mod cases;

use cases::{Variables, exported, header, of, program};
use child::{Child, run};
use otlp_receiver::model::{MetricKind, Temporality};
use otlp_receiver::{Receiver, Signal};

/// Cargo builds the examples with these tests.
fn can_run(_: Variables) -> bool {
    true
}

#[test]
fn the_console_is_standard_output() {
    let receiver = Receiver::start().unwrap();
    let variables =
        [("OTEL_TRACES_EXPORTER", "console"), ("OTEL_METRICS_EXPORTER", "console"), ("OTEL_LOGS_EXPORTER", "none")];
    let child = program("scenario", &["nested", "exit"], &receiver, &variables);
    assert!(
        child.stdout.contains("llama_model_load.hparams") && child.stdout.contains("llama.token.count"),
        "{}",
        child.stdout
    );
    assert_eq!(receiver.requests().len(), 0);
}

#[test]
fn compression_is_a_signal_s_choice() {
    let (_, requests) =
        exported(&[("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"), ("OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", "none")]);
    let encodings =
        |signal| of(&requests, signal).iter().map(|request| header(request, "content-encoding")).collect::<Vec<_>>();
    assert_eq!((encodings(Signal::Traces), encodings(Signal::Metrics)), (vec![Some("gzip")], vec![None]));
}

#[test]
fn temporality_and_histograms() {
    let batch_size = |variables: Variables| exported(variables).0.metric("llama.decode.batch.size").unwrap().clone();
    let tokens = |variables: Variables| exported(variables).0.metric("llama.token.count").unwrap().temporality;
    const PREFERENCE: &str = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";
    assert_eq!(tokens(&[]), Temporality::Cumulative);
    for preference in ["delta", "lowmemory"] {
        assert_eq!(tokens(&[(PREFERENCE, preference)]), Temporality::Delta, "{preference}");
    }
    assert_eq!(batch_size(&[]).kind, MetricKind::Histogram);
    let exponential = batch_size(&[(
        "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
        "base2_exponential_bucket_histogram",
    )]);
    assert_eq!(
        (exponential.kind, exponential.count(), exponential.latest()[0].mean()),
        (MetricKind::ExponentialHistogram, 1, Some(12.0))
    );
}

#[test]
fn limits_of_links() {
    let links = |variables: Variables| {
        let receiver = Receiver::start().unwrap();
        program("embedding", &["sequences"], &receiver, variables);
        receiver.stop().spans_named("llama_generation").iter().map(|span| span.links.len()).max()
    };
    assert!(links(&[]) > Some(0));
    assert_eq!(links(&[("OTEL_SPAN_LINK_COUNT_LIMIT", "0")]), Some(0));
}
