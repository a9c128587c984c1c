//! The run as text: headline facts, the span tree, the metrics as a table.

use super::facts::{Facts, start_of, token_latency};
use super::quantity::{attribute, bytes, count, in_unit, printable, seconds};
use super::rows::{Row, rows};
use otlp_receiver::Telemetry;
use otlp_receiver::model::{Attributes, Metric, MetricKind, Number, Point, Span};
use owo_colors::{OwoColorize, Style};
use std::fmt::Write;

#[derive(Clone, Copy, Default)]
pub struct Options {
    /// Whether to colour with ANSI escapes.
    pub colour: bool,
    /// Whether each span has a line of its own.
    pub all: bool,
}

/// The attributes worth a place on a line, the most telling first, with a short name.
const MAIN_ATTRIBUTES: &[(&str, &str)] = &[
    ("error.type", ""),
    ("llama.model.name", ""),
    ("llama.model.file", "file"),
    ("llama.model.arch", "arch"),
    ("llama.model.ftype", ""),
    ("llama.model.n_params", "params"),
    ("llama.model.size", "size"),
    ("llama.model.n_tensors", "tensors"),
    ("llama.model.n_tokens", "vocab"),
    ("llama.context.n_ctx", "n_ctx"),
    ("llama.context.n_batch", "n_batch"),
    ("llama.context.n_threads", "threads"),
    ("llama.context.tokens_evaluated", "tokens"),
    ("llama.context.t_eval_us", "eval"),
    ("llama.decode.phase", ""),
    ("llama.batch.n_tokens", "tokens"),
    ("llama.kv_cache.cells.used", "kv"),
    ("llama.kv_cache.cells.total", "cells"),
    ("llama.kv_cache.size", "kv size"),
    ("gen_ai.usage.input_tokens", "in"),
    ("gen_ai.usage.output_tokens", "out"),
    ("llama.generation.time_to_first_token", "first token"),
    ("llama.generation.decode.throughput", "rate"),
    ("llama.ubatch.n_tokens", "tokens"),
    ("llama.graph.nodes", "nodes"),
    ("llama.graph.splits", "splits"),
    ("llama.sampling.chain", ""),
    ("llama.sampling.temp", "temp"),
    ("llama.sampling.top_p", "top_p"),
    ("llama.sampling.top_k", "top_k"),
    ("llama.sampling.candidates", "candidates"),
    ("llama.state.size", "size"),
    ("llama.memory.size", "memory"),
    ("llama.backend.count", "backends"),
    ("llama.device.name", "device"),
    ("llama.device.type", ""),
];

/// How many of them one line takes.
const ATTRIBUTES_PER_LINE: usize = 5;

/// The whole report, ending in a newline.
pub fn render(telemetry: &Telemetry, facts: &Facts, options: Options) -> String {
    if telemetry.spans.is_empty() && telemetry.metrics.is_empty() {
        return "no telemetry was received\n".to_owned();
    }
    let mut out = String::new();
    let paint = Paint(options.colour);
    headline(&mut out, telemetry, facts, paint);
    if !telemetry.spans.is_empty() {
        out.push('\n');
        span_tree(&mut out, telemetry, options, paint);
    }
    if !telemetry.metrics.is_empty() {
        out.push('\n');
        metrics_table(&mut out, &telemetry.metrics, paint);
    }
    out
}

#[derive(Clone, Copy)]
struct Paint(bool);

impl Paint {
    fn with(self, style: Style, text: &str) -> String {
        if self.0 && !text.is_empty() { text.style(style).to_string() } else { text.to_owned() }
    }
    fn strong(self, text: &str) -> String {
        self.with(Style::new().bold(), text)
    }
    fn faint(self, text: &str) -> String {
        self.with(Style::new().dimmed(), text)
    }
    fn bad(self, text: &str) -> String {
        self.with(Style::new().red().bold(), text)
    }
    fn good(self, text: &str) -> String {
        self.with(Style::new().green(), text)
    }
}

fn headline(out: &mut String, telemetry: &Telemetry, facts: &Facts, paint: Paint) {
    let mut line = |label: &str, parts: Vec<Option<String>>| {
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        if !parts.is_empty() {
            let _ = writeln!(out, "{}  {}", paint.faint(&format!("{label:<7}")), parts.join(" · "));
        }
    };
    let model = &facts.model;
    let text = |text: &Option<String>| text.as_deref().map(printable);
    line(
        "model",
        vec![
            text(&model.name).map(|name| paint.strong(&name)),
            text(&model.arch),
            text(&model.ftype),
            model.n_params.map(|params| format!("{} parameters", count(params as f64))),
            model.size.map(|size| bytes(size as f64)),
        ],
    );
    line(
        "tokens",
        vec![
            facts.input_tokens.map(|tokens| format!("{tokens} in")),
            facts.output_tokens.map(|tokens| format!("{tokens} out")),
        ],
    );
    line(
        "speed",
        vec![
            facts.time_to_first_token.map(|time| format!("first token after {}", seconds(time))),
            facts.output_rate.map(|rate| paint.strong(&format!("{} tokens/s", count(rate)))),
            facts.prompt_rate.map(|rate| format!("prompt {} tokens/s", count(rate))),
            token_latency(telemetry).map(|(p50, p99)| format!("decode p50 {}, p99 {}", seconds(p50), seconds(p99))),
        ],
    );
    let phases: Vec<_> = facts.phases.iter().map(|phase| format!("{} {}", phase.label, seconds(phase.value))).collect();
    if facts.wall_time > 0.0 {
        line("time", vec![Some(format!("{} = {}", seconds(facts.wall_time), phases.join(" + ")))]);
    }
    let parts: Vec<_> =
        facts.memory.iter().map(|part| format!("{} {}", printable(&part.label), bytes(part.value))).collect();
    line("memory", vec![facts.peak_memory.map(|peak| format!("{} at its peak ({})", bytes(peak), parts.join(", ")))]);
    let errors = if facts.error_count == 0 {
        vec![Some(paint.good("none"))]
    } else if facts.errors.is_empty() {
        vec![Some(paint.bad(&format!("{} counted, without spans", facts.error_count)))]
    } else {
        let failures = facts.errors.iter().map(|failure| {
            let kind = failure.error_type.as_deref().unwrap_or("error");
            let text = format!("{}: {} {}", failure.span, kind, failure.message);
            Some(paint.bad(printable(&text).trim_end()))
        });
        failures.collect()
    };
    line("errors", errors);
    if facts.dropped > 0.0 {
        line("dropped", vec![Some(paint.bad(&format!("{} spans or points did not arrive", count(facts.dropped))))]);
    }
}

fn span_tree(out: &mut String, telemetry: &Telemetry, options: Options, paint: Paint) {
    let rows = rows(&telemetry.tree(), options.all);
    let start = start_of(telemetry);
    let labels: Vec<_> = rows.iter().map(|row| (branch(row), label(row))).collect();
    let width = labels.iter().map(|(branch, label)| columns(branch) + columns(label)).max().unwrap_or(0).max(4);
    let _ = writeln!(out, "{}", paint.faint(&format!("{:<width$}  {:>9}  {:>9}", "SPAN", "START", "DURATION")));
    for (row, (branch, label)) in rows.iter().zip(&labels) {
        let Some(first) = row.first() else { continue };
        let padding = " ".repeat(width - columns(branch) - columns(label));
        let failed = first.failed();
        let name = if failed { paint.bad(label) } else { label.clone() };
        let offset = first.start_unix_nano.saturating_sub(start) as f64 / 1e9;
        let duration = if row.spans.len() > 1 { row.spread().total } else { first.seconds() };
        let _ = write!(out, "{}{name}{padding}  {:>9}  {:>9}", paint.faint(branch), seconds(offset), seconds(duration));
        let mut notes = Vec::new();
        if row.spans.len() > 1 {
            let spread = row.spread();
            notes.push(format!("p50 {} p99 {}", seconds(spread.p50), seconds(spread.p99)));
        }
        notes.extend(main_attributes(row));
        let notes = notes.join("  ");
        let _ = write!(out, "  {}", paint.faint(&notes));
        if failed {
            let _ = write!(out, "  {}", paint.bad(&format!("✗ {}", printable(&first.status.message))));
        }
        trim_line(out);
    }
}

/// Ends a line without blanks before its end.
fn trim_line(out: &mut String) {
    out.truncate(out.trim_end_matches(' ').len());
    out.push('\n');
}

fn branch(row: &Row) -> String {
    let (Some(own), Some(above)) = (row.continues.last(), row.continues.get(1..row.depth.max(1))) else {
        return String::new();
    };
    if row.depth == 0 {
        return String::new();
    }
    let above: String = above.iter().map(|more| if *more { "│  " } else { "   " }).collect();
    format!("{above}{}", if *own { "├─ " } else { "└─ " })
}

fn label(row: &Row) -> String {
    let name = row.first().map_or_else(String::new, |span: &Span| printable(&span.name));
    if row.spans.len() > 1 { format!("{name} ×{}", row.spans.len()) } else { name }
}

/// Columns on a terminal, close enough: names are ASCII, model names may be anything.
fn columns(text: &str) -> usize {
    text.chars().count()
}

fn main_attributes(row: &Row) -> Vec<String> {
    let shown = MAIN_ATTRIBUTES.iter().filter_map(|(name, short)| {
        let value = attribute(name, row.shared(name)?);
        Some(if short.is_empty() { value } else { format!("{short} {value}") })
    });
    shown.take(ATTRIBUTES_PER_LINE).collect()
}

fn metrics_table(out: &mut String, metrics: &[Metric], paint: Paint) {
    let header = ["METRIC", "UNIT", "ATTRIBUTES", "VALUE", "COUNT", "MEAN", "P50", "P95"];
    let mut lines: Vec<[String; 8]> = Vec::new();
    for metric in metrics {
        let mut name = printable(&metric.name);
        let mut unit = printable(&metric.unit);
        for series in metric.series() {
            let Some(latest) = metric
                .latest()
                .into_iter()
                .find(|point| series.first().is_some_and(|first| first.attributes == point.attributes))
            else {
                continue;
            };
            let mut line = [
                std::mem::take(&mut name),
                std::mem::take(&mut unit),
                attributes_of(&latest.attributes),
                String::new(),
                String::new(),
                String::new(),
                String::new(),
                String::new(),
            ];
            let in_unit = |value: Option<f64>| value.map_or_else(String::new, |value| in_unit(value, &metric.unit));
            if matches!(metric.kind, MetricKind::Histogram | MetricKind::ExponentialHistogram) {
                line[4] = latest.count.unwrap_or(0).to_string();
                line[5] = in_unit(latest.mean());
                line[6] = in_unit(latest.quantile(0.5));
                line[7] = in_unit(latest.quantile(0.95));
            } else {
                line[3] = in_unit(latest.value.map(Number::as_f64));
                let peak = peak(metric, &series);
                if peak > latest.value.map(Number::as_f64) {
                    line[3] += &format!(" (peak {})", in_unit(peak));
                }
            }
            lines.push(line);
        }
    }
    let widths: [usize; 8] = std::array::from_fn(|column| {
        let cells = lines.iter().map(|line| columns(&line[column]));
        cells.chain([columns(header[column])]).max().unwrap_or(0)
    });
    let mut row = |cells: [&str; 8], style: &dyn Fn(&str) -> String| {
        let padded = cells.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
            let padding = " ".repeat(width - columns(cell));
            if column < 3 { format!("{cell}{padding}") } else { format!("{padding}{cell}") }
        });
        let _ = write!(out, "{}", style(padded.collect::<Vec<_>>().join("  ").trim_end()));
        out.push('\n');
    };
    row(header, &|text| paint.faint(text));
    for line in &lines {
        row(std::array::from_fn(|column| line[column].as_str()), &|text| text.to_owned());
    }
}

/// The largest value that a series ever had; `None` where only the last one means something.
fn peak(metric: &Metric, series: &[&Point]) -> Option<f64> {
    let cumulative_or_gauge = !metric.monotonic && metric.temporality != otlp_receiver::model::Temporality::Delta;
    let values = series.iter().filter_map(|point| point.value).map(Number::as_f64);
    values.reduce(f64::max).filter(|_| cumulative_or_gauge)
}

fn attributes_of(attributes: &Attributes) -> String {
    let pairs =
        attributes.iter().map(|(name, value)| format!("{}={}", printable(short_name(name)), attribute(name, value)));
    pairs.collect::<Vec<_>>().join(" ")
}

/// `phase` of `llama.decode.phase`, `context` of `llama.context.id`.
fn short_name(name: &str) -> &str {
    let mut parts = name.rsplit('.');
    match (parts.next(), parts.next()) {
        (Some("name" | "type" | "id" | "kind"), Some(before)) => before,
        (last, _) => last.unwrap_or(name),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    fn text(telemetry: &Telemetry, options: Options) -> String {
        render(telemetry, &Facts::of(telemetry), options)
    }

    #[test]
    fn a_run_fits_on_a_screen_with_its_main_figures() {
        let text = text(&fixture::run("Gemma 3 270M"), Options::default());
        let contains = [
            "model    Gemma 3 270M · gemma3 · Q8_0 · 268 M parameters · 278 MiB\n",
            "tokens   6 in · 64 out\n",
            "errors   none\n",
            "├─ llama_model_load.hparams",
            "└─ llama_model_load.data",
            "llama_sample_token ×64",
            "llama_decode ×63",
            "(peak 278 MiB)",
            "phase=decode",
        ];
        for part in contains {
            assert!(text.contains(part), "{part:?} is not in:\n{text}");
        }
        assert!(text.lines().count() < 50, "{text}");
        assert!(text.lines().all(|line| line.trim_end() == line), "{text}");
        assert!(!text.contains('\x1b'), "colour without asking");
    }

    #[test]
    fn durations_stand_under_each_other() {
        let text = text(&fixture::run("m"), Options::default());
        let lines: Vec<Vec<char>> = text.lines().map(|line| line.chars().collect()).collect();
        let header = text.lines().position(|line| line.starts_with("SPAN")).unwrap();
        let title: String = lines[header].iter().collect();
        let end = title.find("DURATION").unwrap() + "DURATION".len();
        for line in &lines[header + 1..header + 15] {
            assert_eq!(line[end - 1], 's', "{}", line.iter().collect::<String>());
        }
    }

    #[test]
    fn all_gives_every_span_a_line() {
        let telemetry = fixture::run("m");
        let text = text(&telemetry, Options { all: true, colour: false });
        let decodes = text.lines().filter(|line| line.starts_with("llama_decode ")).count();
        assert_eq!(decodes, 64);
    }

    #[test]
    fn a_failure_is_shown_where_it_happened_and_on_top() {
        let text = text(&fixture::failed_load("missing.gguf"), Options::default());
        assert!(text.contains("errors   llama_model_load: file_not_found failed to open"), "{text}");
        assert!(text.contains("✗ failed to open GGUF file 'missing.gguf'"), "{text}");
    }

    #[test]
    fn hostile_names_reach_no_terminal() {
        let telemetry = fixture::run("a\x1b]0;title\x07\u{202e}b\nc");
        let text = text(&telemetry, Options::default());
        assert!(!text.contains(['\x1b', '\x07', '\u{202e}']), "{text}");
        assert!(text.contains("b⏎c"), "{text}");
    }

    #[test]
    fn nothing_received_is_still_a_report() {
        assert_eq!(text(&Telemetry::default(), Options::default()), "no telemetry was received\n");
    }
}
