//! Runs one scenario of `tests/cpp/scenarios.cpp` in a process of its own, as the tests need: the environment decides what is exported.
//!
//! `scenario NAME [exit|flush|shutdown|twice|leave]`: how the process ends. Prints what was found out about telemetry as one line of JSON.

use std::ffi::{CString, c_char, c_uint};
use std::time::{Duration, Instant};

// the symbols of the crate's C++ library
use otel_shim as _;

unsafe extern "C" {
    fn llama_otel_scenario(name: *const c_char) -> bool;
    safe fn llama_otel_scenario_flush(timeout_ms: c_uint) -> bool;
    safe fn llama_otel_scenario_shutdown(timeout_ms: c_uint) -> bool;
}

fn run(name: &str) {
    let c_name = CString::new(name).expect("a name without NUL");
    // SAFETY: the name is a C string; the scenario copies it.
    assert!(unsafe { llama_otel_scenario(c_name.as_ptr()) }, "no such scenario: {name}");
}

fn main() {
    let mut args = std::env::args().skip(1);
    let name = args.next().expect("usage: scenario NAME [exit|flush|shutdown|twice|leave]");
    let end = args.next().unwrap_or_else(|| "exit".into());

    run(&name);
    let active = otel_shim::is_active();
    let threads = std::fs::read_dir("/proc/self/task").map(|tasks| tasks.count()).unwrap_or(0);
    let start = Instant::now();
    let delivered = match end.as_str() {
        "flush" => llama_otel_scenario_flush(3000),
        "shutdown" => llama_otel_scenario_shutdown(3000),
        "twice" => {
            let first = llama_otel_scenario_shutdown(3000);
            run(&name);
            first && llama_otel_scenario_flush(3000)
        }
        "leave" => {
            std::thread::sleep(Duration::from_secs(1));
            // SAFETY: the process ends without its last delivery.
            unsafe { libc::_exit(0) }
        }
        _ => true,
    };
    let seconds = start.elapsed().as_secs_f64();
    let dropped: Vec<String> = otel_shim::dropped().iter().map(|(s, r, n)| format!("\"{s}.{r}\":{n}")).collect();
    println!(
        "{{\"active\":{active},\"threads\":{threads},\"delivered\":{delivered},\"seconds\":{seconds},\"dropped\":{{{}}}}}",
        dropped.join(",")
    );
}
