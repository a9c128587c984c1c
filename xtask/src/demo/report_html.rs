//! The run as one self-contained page.
//!
//! The page is a fixed template with two islands of JSON in it, what to draw and the telemetry as
//! it came; its script builds everything from them with `textContent`. So there is one place
//! where foreign text meets HTML: `island`.

use super::facts::{Facts, phase_of, start_of, token_latency};
use super::rows::{Row, rows};
use anyhow::{Context as _, Result};
use otlp_receiver::Telemetry;
use otlp_receiver::model::{Attributes, Metric, MetricKind, Point, Span};
use serde::Serialize;
use std::collections::HashMap;

const TEMPLATE: &str = include_str!("report.html.template");
const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = include_str!("report.js");

/// What the script draws. Times are seconds since the first span's start: nanoseconds since the
/// epoch do not fit a JavaScript number.
#[derive(Serialize)]
struct Page<'a> {
    facts: &'a Facts,
    latency: Option<(f64, f64)>,
    rows: Vec<Lane<'a>>,
    metrics: Vec<Chart<'a>>,
}

/// One line of the waterfall.
#[derive(Serialize)]
struct Lane<'a> {
    name: &'a str,
    depth: usize,
    phase: Option<&'static str>,
    failed: bool,
    p50: f64,
    p99: f64,
    total: f64,
    /// (index into the telemetry's spans, start, duration).
    spans: Vec<(usize, f64, f64)>,
}

/// One metric, with its series apart.
#[derive(Serialize)]
struct Chart<'a> {
    name: &'a str,
    unit: &'a str,
    kind: MetricKind,
    description: &'a str,
    series: Vec<Series<'a>>,
}

#[derive(Serialize)]
struct Series<'a> {
    attributes: &'a Attributes,
    /// (time, value) of each export; empty for a histogram.
    values: Vec<(f64, f64)>,
    /// The last state of a histogram.
    latest: Point,
    mean: Option<f64>,
    p50: Option<f64>,
    p95: Option<f64>,
}

/// The page's HTML.
///
/// # Errors
/// If the telemetry cannot be written as JSON.
pub fn render(telemetry: &Telemetry, facts: &Facts) -> Result<String> {
    let start = start_of(telemetry);
    let indices: HashMap<_, _> =
        telemetry.spans.iter().enumerate().map(|(index, span)| (std::ptr::from_ref(span), index)).collect();
    let page = Page {
        facts,
        latency: token_latency(telemetry),
        rows: rows(&telemetry.tree(), false).iter().filter_map(|row| lane(row, &indices, start)).collect(),
        metrics: telemetry.metrics.iter().map(|metric| chart(metric, start)).collect(),
    };
    let page = serde_json::to_string(&page).context("cannot write the run's facts as JSON")?;
    let telemetry = serde_json::to_string(telemetry).context("cannot write the telemetry as JSON")?;
    Ok(filled(&[("style", STYLE), ("page", &island(&page)), ("telemetry", &island(&telemetry)), ("script", SCRIPT)]))
}

/// The template with its placeholders filled, in their order there; what is filled in is not
/// searched for placeholders.
fn filled(parts: &[(&str, &str)]) -> String {
    let mut page = String::new();
    let mut rest = TEMPLATE;
    for (name, text) in parts {
        if let Some((before, after)) = rest.split_once(&format!("{{{{{name}}}}}")) {
            page.extend([before, text]);
            rest = after;
        }
    }
    page + rest
}

/// JSON that is safe inside a `<script>` element: no character that HTML gives a meaning.
fn island(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                safe.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            _ => safe.push(character),
        }
    }
    safe
}

fn since(start: u64, time: u64) -> f64 {
    // Points may be older than the first span.
    (i128::from(time) - i128::from(start)) as f64 / 1e9
}

fn lane<'a>(row: &Row<'a>, indices: &HashMap<*const Span, usize>, start: u64) -> Option<Lane<'a>> {
    let first = row.first()?;
    let spread = row.spread();
    let place = |span: &&Span| {
        let index = indices.get(&std::ptr::from_ref(*span))?;
        Some((*index, since(start, span.start_unix_nano), span.seconds()))
    };
    Some(Lane {
        name: &first.name,
        depth: row.depth,
        phase: phase_of(first),
        failed: first.failed(),
        p50: spread.p50,
        p99: spread.p99,
        total: spread.total,
        spans: row.spans.iter().filter_map(place).collect(),
    })
}

fn chart(metric: &Metric, start: u64) -> Chart<'_> {
    let latest = metric.latest();
    let series = metric.series().into_iter().zip(latest).filter_map(|(points, latest)| {
        let values =
            points.iter().filter_map(|point| Some((since(start, point.time_unix_nano), point.value?.as_f64())));
        Some(Series {
            attributes: &points.first()?.attributes,
            values: values.collect(),
            mean: latest.mean(),
            p50: latest.quantile(0.5),
            p95: latest.quantile(0.95),
            latest,
        })
    });
    Chart {
        name: &metric.name,
        unit: &metric.unit,
        kind: metric.kind,
        description: &metric.description,
        series: series.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;
    use serde_json::Value;

    const HOSTILE: &str = "</script><script>alert(1)</script><!--<img src=x onerror=alert(2)>\"'&amp;\u{1}\u{2028}{{script}}{{telemetry}}";

    fn page(telemetry: &Telemetry) -> String {
        render(telemetry, &Facts::of(telemetry)).unwrap()
    }

    fn data<'a>(page: &'a str, id: &str) -> &'a str {
        let (_, rest) = page.split_once(&format!("id=\"{id}\">")).unwrap();
        rest.split_once("</script>").unwrap().0
    }

    fn without_data(page: &str) -> String {
        page.replace(data(page, "page"), "").replace(data(page, "telemetry"), "")
    }

    #[test]
    fn the_data_reads_back() {
        let telemetry = fixture::run("Gemma 3 270M");
        let page = page(&telemetry);
        let back: Telemetry = serde_json::from_str(data(&page, "telemetry")).unwrap();
        assert!(back == telemetry, "the telemetry differs");
        let drawn: Value = serde_json::from_str(data(&page, "page")).unwrap();
        assert_eq!(drawn["rows"].as_array().unwrap().len(), 14);
        assert_eq!(drawn["facts"]["output_tokens"], 64);
        let lanes = drawn["rows"].as_array().unwrap().iter();
        assert_eq!(lanes.map(|lane| lane["spans"].as_array().unwrap().len()).sum::<usize>(), telemetry.spans.len());
    }

    #[test]
    fn hostile_text_stays_inside_the_data() {
        let mut telemetry = fixture::failed_load(HOSTILE);
        telemetry.spans[0].name = HOSTILE.to_owned();
        telemetry.resource.insert(HOSTILE.to_owned(), HOSTILE.into());
        let page = page(&telemetry);
        for id in ["page", "telemetry"] {
            assert!(!data(&page, id).contains(['<', '>', '&', '\u{2028}', '\u{1}']));
        }
        let back: Telemetry = serde_json::from_str(data(&page, "telemetry")).unwrap();
        assert!(back == telemetry, "the telemetry differs");
        // Outside the data the page is the same as for any other run.
        assert_eq!(without_data(&page), without_data(&super::tests::page(&fixture::run("m"))));
    }

    #[test]
    fn the_page_is_complete_and_loads_nothing() {
        let page = page(&fixture::run("m"));
        assert!(page.starts_with("<!doctype html>"));
        assert!(!page.contains("{{") && page.ends_with("</html>\n"));
        let fixed = without_data(&page).replace("http://www.w3.org/2000/svg", "");
        for loading in ["http:", "https:", "src=", "url(", "@import", "<link", "fetch(", "innerHTML", "eval("] {
            assert!(!fixed.contains(loading), "the template has {loading}");
        }
        assert!(page.contains("default-src 'none'"));
        assert_eq!(fixed.matches("<script").count(), fixed.matches("</script>").count());
    }
}
