//! A long life: the receiver comes and goes, the memory stays.
//!
//! For six seconds; `LLAMA_OTEL_SOAK_MINUTES=30` for as long as the nightly workflow does.

mod child;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use child::run;
use otlp_receiver::{Behaviour, Receiver};

/// What the memory may grow by between the first tenth of a life and any later one.
const GROWTH: u64 = 4 << 20;

#[test]
fn memory_is_flat_over_a_long_life() {
    let minutes: f64 = std::env::var("LLAMA_OTEL_SOAK_MINUTES").map_or(0.1, |minutes| minutes.parse().unwrap());
    let seconds = minutes * 60.0;
    let receiver = Receiver::start().unwrap();
    let endpoint = receiver.http_endpoint();
    let over = AtomicBool::new(false);
    let child = thread::scope(|scope| {
        scope.spawn(|| {
            let faults = [
                Behaviour::Accept,
                Behaviour::Refuse { status: 503, retry_after: None },
                Behaviour::Accept,
                Behaviour::Close,
                Behaviour::Accept,
                Behaviour::Silent,
            ];
            let phase = Duration::from_secs_f64((seconds / 12.0).clamp(0.25, 20.0));
            for behaviour in faults.into_iter().cycle() {
                receiver.set_behaviour(behaviour);
                thread::sleep(phase);
                receiver.clear(); // it keeps everything
                if over.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "1000"),
            ("OTEL_BSP_SCHEDULE_DELAY", "200"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "1000"),
            ("LLAMA_OTEL_DETAIL", "decode"),
        ];
        let child = run("lifecycle", &["steady", &seconds.to_string(), "2000"], &variables);
        over.store(true, Ordering::Relaxed);
        child
    });
    assert_eq!(child.code, Some(0), "{}", child.stderr);
    let resident: Vec<u64> = child.report["resident"].as_array().unwrap().iter().filter_map(|n| n.as_u64()).collect();
    assert!(resident.len() > 5, "{}", child.report);
    println!("{} spans in {minutes} minutes, resident MiB: {:?}", child.report["spans"], mib(&resident));
    let most = resident[2..].iter().max().unwrap();
    assert!(*most <= resident[1] + GROWTH, "resident MiB: {:?}", mib(&resident));
}

fn mib(bytes: &[u64]) -> Vec<u64> {
    bytes.iter().map(|bytes| bytes >> 20).collect()
}
