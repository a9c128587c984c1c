//! What must not happen: while off, no allocation, no thread, no socket; while recording, no allocation and no system
//! call on the calling thread.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{allocations, tasks, work};

const OPERATIONS: u64 = 10_000;
/// Of these a ring takes as many before a quarter of it is full, and the drain thread would be woken.
const RECORDED: u64 = 400;

/// Everything that is measured while telemetry is off, with no `OTEL_*` variable set.
pub fn off() -> Value {
    work::start_if_asked();
    let works: Vec<_> = work::all().into_iter().filter(|work| work.name.starts_with("off.")).collect();
    let allocations = allocations::during(|| works.iter().for_each(|work| (work.run)(OPERATIONS)));
    json!({
        "active": otel_shim::is_active(),
        "allocations": allocations,
        "threads": tasks::count() - 1,
        "sockets": tasks::sockets(),
    })
}

/// Spans and measurements by a thread that has recorded before.
///
/// # Errors
/// Telemetry is not on, or the system does not let a thread give up its system calls.
pub fn recording() -> Result<Value, String> {
    work::start()?;
    otel_shim::set_detail(otel_shim::Detail::Decode);
    let names = ["span", "span_with_attributes", "metric", "metric_with_attribute"];
    let mut figures = serde_json::Map::new();
    for work in work::all().into_iter().filter(|work| names.contains(&work.name)) {
        (work.run)(RECORDED);
        let allocations = allocations::during(|| (work.run)(RECORDED));
        work::flush();
        let system_calls = makes_system_calls(work.run)?;
        figures.insert(work.name.to_owned(), json!({ "allocations": allocations, "system_calls": system_calls }));
        work::flush();
    }
    // The test of the test: a thread that does make a system call must be found out.
    let caught = makes_system_calls(|_| std::thread::sleep(Duration::from_nanos(1)))?;
    figures.insert("caught".to_owned(), json!(caught));
    Ok(Value::Object(figures))
}

/// Runs the work on a thread that has given up all system calls but `write` and its own end: the kernel kills it at
/// any other, and then it reports nothing. A filter, not the strict mode, which forbids reading the clock as well.
#[cfg(target_os = "linux")]
fn makes_system_calls(run: fn(u64)) -> Result<bool, String> {
    use std::io::Read as _;
    use std::os::fd::AsRawFd as _;

    const DONE: u8 = 1;
    const REFUSED: u8 = 2;

    let (mut reader, writer) = std::io::pipe().map_err(|error| error.to_string())?;
    std::thread::spawn(move || {
        // The thread's own ring, and everything that is bound at the first call.
        run(1);
        work::flush();
        let fd = writer.as_raw_fd();
        let filtered = give_up_system_calls();
        if filtered {
            run(RECORDED);
        }
        let answer = if filtered { DONE } else { REFUSED };
        // SAFETY: a byte is written from a live variable; `exit` ends this thread, whose stack is never used again.
        unsafe {
            libc::write(fd, (&raw const answer).cast(), 1);
            libc::syscall(libc::SYS_exit, 0);
        }
    });
    // The write end lives in the thread, which never closes it: a dead one is one that is silent.
    let mut poll = libc::pollfd { fd: reader.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one descriptor, alive during the call.
    if unsafe { libc::poll(&raw mut poll, 1, 5_000) } <= 0 {
        return Ok(true);
    }
    let mut answer = [0];
    reader.read_exact(&mut answer).map_err(|error| error.to_string())?;
    match answer {
        [DONE] => Ok(false),
        _ => Err("this system does not let a thread give up its system calls (seccomp)".to_owned()),
    }
}

/// From now on the calling thread is killed at any system call but `write` and `exit`. False if the system refuses.
#[cfg(target_os = "linux")]
fn give_up_system_calls() -> bool {
    let (load, equal, end) = (
        libc::BPF_LD | libc::BPF_W | libc::BPF_ABS,
        libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
        libc::BPF_RET | libc::BPF_K,
    );
    let step = |code: u32, k: u32, jt, jf| libc::sock_filter { code: code as u16, jt, jf, k };
    // The number of the call is the first word of what the filter sees.
    let mut steps = [
        step(load, 0, 0, 0),
        step(equal, libc::SYS_write as u32, 1, 0),
        step(equal, libc::SYS_exit as u32, 0, 1),
        step(end, libc::SECCOMP_RET_ALLOW, 0, 0),
        step(end, libc::SECCOMP_RET_KILL_THREAD, 0, 0),
    ];
    let program = libc::sock_fprog { len: steps.len() as u16, filter: steps.as_mut_ptr() };
    // SAFETY: the program lives during the call, which copies it; without new privileges it needs no right.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    }
}

#[cfg(not(target_os = "linux"))]
fn makes_system_calls(_: fn(u64)) -> Result<bool, String> {
    Err("system calls can be ruled out on Linux only".to_owned())
}
