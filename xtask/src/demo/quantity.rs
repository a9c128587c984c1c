//! Figures and foreign text as people read them.

use serde_json::Value;

/// A time in seconds with a fitting unit: `870 ns`, `23.4 µs`, `4.1 ms`, `1.25 s`, `2 min 05 s`.
pub fn seconds(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        "–".to_owned()
    } else if size == 0.0 {
        "0 s".to_owned()
    } else if size < 1e-6 {
        format!("{} ns", three_digits(value * 1e9))
    } else if size < 0.999_5e-3 {
        format!("{} µs", three_digits(value * 1e6))
    } else if size < 0.999_5 {
        format!("{} ms", three_digits(value * 1e3))
    } else if size < 99.95 {
        format!("{} s", three_digits(value))
    } else {
        format!("{} min {:02.0} s", (value / 60.0).trunc(), value.abs() % 60.0)
    }
}

/// A size in bytes: `512 B`, `4.00 KiB`, `279 MiB`.
pub fn bytes(value: f64) -> String {
    let mut value = value;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if value.abs() < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    if unit == "B" { format!("{value} B") } else { format!("{} {unit}", three_digits(value)) }
}

/// A count: exact up to five digits, then `268 M`.
pub fn count(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    for (size, unit) in [(1e12, "T"), (1e9, "B"), (1e6, "M"), (1e5, "k")] {
        if value.abs() >= size {
            let divisor = if unit == "k" { 1e3 } else { size };
            return format!("{} {unit}", three_digits(value / divisor));
        }
    }
    if value.fract() == 0.0 { format!("{value}") } else { three_digits(value) }
}

/// A value in a metric's unit.
pub fn in_unit(value: f64, unit: &str) -> String {
    match unit {
        "s" => seconds(value),
        "By" => bytes(value),
        "1" => format!("{} %", three_digits(value * 100.0)),
        _ => count(value),
    }
}

/// Three significant digits without an exponent.
pub fn three_digits(value: f64) -> String {
    let size = value.abs();
    let decimals = if size >= 99.95 || size == 0.0 {
        0
    } else if size >= 9.995 {
        1
    } else if size >= 0.999_5 {
        2
    } else {
        3
    };
    format!("{value:.decimals$}")
}

/// An attribute's value in short; its name tells the unit.
pub fn attribute(name: &str, value: &Value) -> String {
    let last = name.rsplit('.').next().unwrap_or(name);
    match value {
        Value::String(text) => printable(text),
        Value::Number(number) => {
            let figure = number.as_f64().unwrap_or(f64::NAN);
            match last {
                "size" => bytes(figure),
                "total" | "free" if name.contains(".memory.") => bytes(figure),
                "time" | "wait" | "time_to_first_token" | "time_per_output_token" => seconds(figure),
                "throughput" => format!("{}/s", count(figure)),
                "n_params" => count(figure),
                "t_eval_us" => seconds(figure / 1e6),
                _ if number.is_f64() => three_digits(figure),
                _ => number.to_string(),
            }
        }
        Value::Array(values) => {
            let texts: Vec<_> = values.iter().map(|value| attribute(name, value)).collect();
            texts.join(" ")
        }
        other => printable(&other.to_string()),
    }
}

/// Foreign text for a terminal: control and direction characters, which could restyle or
/// reorder what surrounds them, become visible substitutes.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|character| match character {
            '\n' => '⏎',
            '\t' => ' ',
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
            it if it.is_control() => '\u{fffd}',
            it => it,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn figures_keep_three_digits_and_a_fitting_unit() {
        let times = [0.0, 8.7e-7, 0.000_023_4, 0.999_9e-3, 0.004_12, 0.999_9, 1.25, 125.0];
        let expected = ["0 s", "870 ns", "23.4 µs", "1.00 ms", "4.12 ms", "1.00 s", "1.25 s", "2 min 05 s"];
        assert_eq!(times.map(seconds), expected);
        assert_eq!([512.0, 4096.0, 292_356_096.0].map(bytes), ["512 B", "4.00 KiB", "279 MiB"]);
        assert_eq!([64.0, 99_999.0, 268_098_176.0].map(count), ["64", "99999", "268 M"]);
        assert_eq!(in_unit(0.137, "1"), "13.7 %");
    }

    #[test]
    fn attributes_are_read_by_their_names() {
        let text = |name, value| attribute(name, &value);
        assert_eq!(text("llama.model.size", json!(4096)), "4.00 KiB");
        assert_eq!(text("llama.kv_cache.cells.total", json!(4096)), "4096");
        assert_eq!(text("llama.device.memory.total", json!(4096)), "4.00 KiB");
        assert_eq!(text("llama.context.t_eval_us", json!(1500)), "1.50 ms");
        assert_eq!(text("llama.sampling.temp", json!(0.8)), "0.800");
        assert_eq!(text("llama.sampling.chain", json!(["top-k", "greedy"])), "top-k greedy");
    }

    #[test]
    fn foreign_text_cannot_reach_the_terminal() {
        assert_eq!(printable("a\x1b[31mb\u{202e}c\nd\u{9b}"), "a\u{fffd}[31mb\u{fffd}c⏎d\u{fffd}");
    }
}
