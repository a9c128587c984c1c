//! Lives and ends in the ways that `tests/lifecycle.rs` and `tests/isolation.rs` ask for, each in a process of its own.
//!
//! `lifecycle MODE [ARGUMENTS]`. Prints what was found out as one line of JSON.

use std::{
    ffi::{CString, c_int, c_uint},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

// the symbols of the crate's C++ library
use otel_shim as _;

unsafe extern "C" {
    safe fn llama_otel_lifecycle_start();
    safe fn llama_otel_lifecycle_decode(i: i64);
    safe fn llama_otel_lifecycle_statics();
    safe fn llama_otel_lifecycle_thread_local();
    safe fn llama_otel_lifecycle_free_during_shutdown(n_threads: c_int) -> bool;
    safe fn llama_otel_lifecycle_leave_running(n_threads: c_int);
    safe fn llama_otel_lifecycle_beside(is_shutdown: bool, timeout_ms: c_uint, waited: &mut f64) -> f64;
    safe fn llama_otel_lifecycle_leave_flushing(timeout_ms: c_uint);
    safe fn llama_otel_scenario_flush(timeout_ms: c_uint) -> bool;
    safe fn llama_otel_scenario_shutdown(timeout_ms: c_uint) -> bool;
}

fn dropped() -> Value {
    otel_shim::dropped().iter().map(|(signal, reason, n)| (format!("{signal}.{reason}"), json!(n))).collect()
}

fn decode(n: i64) {
    (0..n).for_each(|i| llama_otel_lifecycle_decode(i));
}

/// Resident bytes of this process; 0 where that cannot be asked.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) << 10
}

/// Decodes for `seconds`, `rate` times a second or without a pause (0); looks at the memory ten times.
fn steady(seconds: f64, rate: u32) -> Value {
    let (start, length) = (Instant::now(), Duration::from_secs_f64(seconds));
    let (mut n, mut resident_bytes, mut longest) = (0i64, Vec::new(), Duration::ZERO);
    while start.elapsed() < length {
        let begin = Instant::now();
        decode(100);
        longest = longest.max(begin.elapsed());
        n += 100;
        if start.elapsed() > length.mul_f64(0.1 * resident_bytes.len() as f64) {
            resident_bytes.push(resident());
        }
        if rate > 0 {
            let due = start + Duration::from_secs_f64(n as f64 / f64::from(rate));
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }
    let begin = Instant::now();
    let delivered = llama_otel_scenario_shutdown(5000);
    json!({
        "spans": n, "resident": resident_bytes, "longest_seconds": longest.as_secs_f64(),
        "delivered": delivered, "shutdown_seconds": begin.elapsed().as_secs_f64(),
    })
}

/// A child that goes on without exec, as a pre-forking server does.
#[cfg(unix)]
fn fork() -> Value {
    decode(10);
    // SAFETY: the child only calls this crate, whose promise this is, and exits.
    match unsafe { libc::fork() } {
        0 => {
            llama_otel_lifecycle_start();
            decode(1000);
            let ok = llama_otel_scenario_flush(3000) && !otel_shim::is_active();
            std::process::exit(if ok { 7 } else { 8 });
        }
        child => {
            let start = Instant::now();
            let mut status = 0;
            // SAFETY: `status` is a place for an integer.
            unsafe { libc::waitpid(child, &raw mut status, 0) };
            let seconds = start.elapsed().as_secs_f64();
            decode(10);
            json!({ "child": libc::WEXITSTATUS(status), "seconds": seconds })
        }
    }
}

/// Telemetry in a shared library that is closed again.
#[cfg(unix)]
fn plugin(path: &str) -> Value {
    let path = CString::new(path).expect("a path without NUL");
    for _ in 0..3 {
        // SAFETY: the library is this crate's own example `plugin`, with a function of that name and type.
        unsafe {
            let library = libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
            assert!(!library.is_null(), "the plugin could not be loaded");
            let run = libc::dlsym(library, c"llama_otel_plugin".as_ptr());
            assert!(!run.is_null(), "the plugin lacks its function");
            std::mem::transmute::<*mut libc::c_void, extern "C" fn()>(run)();
            assert_eq!(libc::dlclose(library), 0);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    json!({})
}

/// So many threads, ten decodes on each; none ends before all have recorded.
fn crowd(threads: usize) -> Value {
    let all = std::sync::Barrier::new(threads);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                decode(10);
                all.wait();
            });
        }
    });
    json!({ "spans": 10 * threads, "delivered": llama_otel_scenario_shutdown(5000) })
}

/// What waits when telemetry ends with the export off, and another life in which that is told.
fn shut_down_while_off() -> Value {
    decode(10);
    otel_shim::set_export(false);
    let delivered = llama_otel_scenario_shutdown(5000);
    let on = otel_shim::set_export(true);
    json!({ "spans": 10, "delivered": delivered, "on": on, "told": llama_otel_scenario_flush(5000) })
}

async fn inside_tokio() -> Value {
    let start = Instant::now();
    llama_otel_lifecycle_start();
    decode(10);
    let flushed = otel_shim::flush(Duration::from_secs(5));
    tokio::task::yield_now().await;
    decode(10);
    let delivered = otel_shim::shutdown(Duration::from_secs(5));
    json!({ "flushed": flushed, "delivered": delivered, "seconds": start.elapsed().as_secs_f64() })
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mode = arguments.first().expect("usage: lifecycle MODE").as_str();
    let argument = |i: usize| arguments.get(i).expect("one more argument").as_str();
    if !mode.starts_with("tokio") && mode != "plugin" {
        llama_otel_lifecycle_start();
    }
    let mut report = match mode {
        "steady" => steady(argument(1).parse().expect("seconds"), argument(2).parse().expect("spans a second")),
        #[cfg(unix)]
        "fork" => fork(),
        #[cfg(unix)]
        "plugin" => plugin(argument(1)),
        "exit-in-thread" => {
            decode(10);
            let thread = std::thread::spawn(|| {
                decode(10);
                println!("{{}}");
                std::process::exit(0);
            });
            let _ = thread.join();
            unreachable!("the other thread ends the process")
        }
        "exit-while-working" => {
            llama_otel_lifecycle_leave_running(8);
            std::thread::sleep(Duration::from_millis(100));
            json!({})
        }
        "statics" => {
            llama_otel_lifecycle_statics();
            llama_otel_lifecycle_thread_local();
            json!({})
        }
        "double" => {
            llama_otel_lifecycle_start();
            decode(10);
            let first = llama_otel_scenario_shutdown(5000);
            let second = llama_otel_scenario_shutdown(5000);
            let off = !otel_shim::is_active();
            decode(10); // nobody is there to take it
            llama_otel_lifecycle_start();
            llama_otel_lifecycle_start();
            decode(10);
            json!({ "first": first, "second": second, "off": off, "on": otel_shim::is_active() })
        }
        "threads" => {
            let length = Duration::from_secs_f64(argument(2).parse().expect("seconds"));
            let (start, threads) = (Instant::now(), argument(1).parse().expect("threads"));
            std::thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| {
                        while start.elapsed() < length {
                            decode(10);
                            std::thread::sleep(Duration::from_millis(1));
                        }
                    });
                }
            });
            json!({ "delivered": llama_otel_scenario_shutdown(5000) })
        }
        "crowd" => crowd(argument(1).parse().expect("threads")),
        "shut-down-while-off" => shut_down_while_off(),
        "free-during-shutdown" => json!({ "delivered": llama_otel_lifecycle_free_during_shutdown(8) }),
        "decode-then" => {
            decode(10);
            json!({ "flushed": llama_otel_scenario_flush(argument(1).parse().expect("milliseconds")) })
        }
        "beside-flush" | "beside-shutdown" => {
            decode(10);
            let (timeout, mut waited) = (argument(1).parse().expect("milliseconds"), 0.0);
            let seconds = llama_otel_lifecycle_beside(mode == "beside-shutdown", timeout, &mut waited);
            json!({ "seconds": seconds, "waited": waited })
        }
        "exit-while-flushing" => {
            decode(10);
            llama_otel_lifecycle_leave_flushing(argument(1).parse().expect("milliseconds"));
            json!({})
        }
        "decode" => {
            decode(argument(1).parse().expect("a number"));
            json!({})
        }
        "tokio-current" => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(inside_tokio())
        }
        "tokio-one-worker" => {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
            runtime.block_on(async { tokio::spawn(inside_tokio()).await.expect("no panic") })
        }
        _ => panic!("no such mode: {mode}"),
    };
    report["dropped"] = dropped();
    report["active"] = json!(otel_shim::is_active());
    println!("{report}");
}
