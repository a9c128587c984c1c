//! The threads of telemetry: what priority they run with, and that they sleep when there is nothing to do. One test, in
//! a process of its own: it sets the environment and counts its threads.
#![cfg(target_os = "linux")]

use std::ffi::{c_char, c_uint};
use std::path::PathBuf;
use std::time::Duration;

use otel_shim as _;
use otlp_receiver::Receiver;

unsafe extern "C" {
    fn llama_otel_scenario(name: *const c_char) -> bool;
    safe fn llama_otel_scenario_flush(timeout_ms: c_uint) -> bool;
}

/// Longest CPU time that all of them may take in a second without work. One that spins takes a second.
const IDLE: Duration = Duration::from_millis(50);

/// The folders of telemetry's threads in /proc.
fn own_threads() -> Vec<PathBuf> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    tasks.filter(|dir| std::fs::read_to_string(dir.join("comm")).unwrap().starts_with("llama-otel")).collect()
}

fn nice(stat: &str) -> i64 {
    // The 19th field; the second, the name in parentheses, may hold spaces.
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    fields.split(' ').nth(16).unwrap().parse().unwrap()
}

fn cpu_time() -> Duration {
    let nanoseconds = own_threads().into_iter().map(|dir| {
        let text = std::fs::read_to_string(dir.join("schedstat")).unwrap();
        text.split(' ').next().unwrap().parse::<u64>().unwrap()
    });
    Duration::from_nanos(nanoseconds.sum())
}

#[test]
fn they_give_way_and_never_spin() {
    let receiver = Receiver::start().unwrap();
    // SAFETY: no other thread reads the environment: the receiver does not, and telemetry is not started.
    unsafe { std::env::set_var("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.http_endpoint()) };
    // SAFETY: a C string.
    assert!(unsafe { llama_otel_scenario(c"nested".as_ptr()) });
    assert!(llama_otel_scenario_flush(5_000), "the receiver answers");

    let own = nice(&std::fs::read_to_string("/proc/thread-self/stat").unwrap());
    let threads = own_threads();
    assert!(threads.len() >= 2, "one drains, one exports: {threads:?}");
    for dir in &threads {
        let stat = std::fs::read_to_string(dir.join("stat")).unwrap();
        assert_eq!(nice(&stat), (own + 5).min(19), "{stat}");
    }

    std::thread::sleep(Duration::from_millis(200));
    let before = cpu_time();
    std::thread::sleep(Duration::from_secs(1));
    assert!(cpu_time() - before < IDLE, "with a receiver: {:?} of CPU time in a second", cpu_time() - before);

    // the receiver is gone and there is something for it
    drop(receiver.stop());
    // SAFETY: as above.
    assert!(unsafe { llama_otel_scenario(c"nested".as_ptr()) });
    assert!(!llama_otel_scenario_flush(1_000), "nobody is there");
    let before = cpu_time();
    std::thread::sleep(Duration::from_secs(1));
    assert!(cpu_time() - before < IDLE, "without a receiver: {:?} of CPU time in a second", cpu_time() - before);
}
