//! The life of telemetry in a process: start, the orders that the program gives while it runs, shutdown.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc as reply;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::abi::{CAPTURE_MODEL_PATH, Control};
use crate::config::{self, Config, Detail};
use crate::host;
use crate::log::{error, warn};
use crate::pipeline::Drain;
use crate::process;
use crate::propagation;
use crate::ring;

/// Longest that the end of the process waits for the receiver; less if `OTEL_BSP_EXPORT_TIMEOUT` is.
const EXIT_TIMEOUT: Duration = Duration::from_secs(5);

/// What the shutdown keeps of its time, at most, to give up what is under way and count it.
const RESERVE: Duration = Duration::from_millis(250);

/// Telemetry that was started.
struct Running {
    control: &'static Control,
    orders: Arc<Orders>,
    thread: JoinHandle<()>,
    /// How long the end of the process may take.
    exit_timeout: Duration,
    /// The level that was asked for, whether or not anything is exported now.
    detail: AtomicU32,
}

/// What the drain thread is told, and whether it may export.
#[derive(Default)]
pub struct Orders {
    queue: Mutex<VecDeque<Order>>,
    /// Nobody takes orders any more.
    closed: AtomicBool,
    pub paused: AtomicBool,
}

pub enum Order {
    Flush { deadline: Instant, answer: reply::Sender<bool> },
    Stop { deadline: Instant, answer: reply::Sender<bool> },
}

impl Orders {
    pub fn next(&self) -> Option<Order> {
        lock(&self.queue).pop_front()
    }

    /// False if nobody will answer.
    fn give(&self, order: Order) -> bool {
        let mut queue = lock(&self.queue);
        let open = !self.closed.load(Ordering::Relaxed);
        if open {
            queue.push_back(order);
        }
        open
    }

    /// Who waits for an answer, and whoever will, sees its sender go.
    pub fn close(&self) {
        let mut queue = lock(&self.queue);
        self.closed.store(true, Ordering::Relaxed);
        queue.clear();
    }
}

static RUNNING: Mutex<Option<Arc<Running>>> = Mutex::new(None);
/// `llama_backend_init` or a model load has asked for a start, so that a later wish of the program's can be followed at once.
static ASKED: AtomicBool = AtomicBool::new(false);

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `None` in a forked child too, where the lock may be held for ever.
fn running() -> Option<Arc<Running>> {
    if process::is_forked() { None } else { lock(&RUNNING).clone() }
}

/// Reads the environment and starts the threads if telemetry is wanted. Does nothing while it runs.
pub fn start(control: &'static Control) {
    ASKED.store(true, Ordering::Relaxed);
    start_with(control, Config::from_variables);
}

/// Starts after the program gave its providers, if llama.cpp was there before.
pub fn start_late() {
    if let (true, Some(control)) = (ASKED.load(Ordering::Relaxed), propagation::control()) {
        start(control);
    }
}

fn start_with(control: &'static Control, read: impl FnOnce(&config::Variables) -> Option<Config>) -> bool {
    if process::is_forked() {
        return false;
    }
    let mut running = lock(&RUNNING);
    if running.is_some() {
        return true;
    }
    let variables = config::variables();
    let host = host::given();
    let Some(config) = (if host.is_some() { Config::for_host(&variables) } else { read(&variables) }) else {
        return false;
    };
    crate::log::set_level(config.log_level);
    for warning in &config.warnings {
        warn!("{warning}");
    }
    let orders = Arc::new(Orders::default());
    let drain = match Drain::new(control, &config, host, orders.clone()) {
        Ok(drain) => drain,
        Err(why) => {
            // every model load asks again; the answer is the same
            static ONCE: std::sync::Once = std::sync::Once::new();
            ONCE.call_once(|| error!("telemetry is off: {why}"));
            return false;
        }
    };
    match std::thread::Builder::new().name("llama-otel".into()).spawn(move || drain.run()) {
        Ok(thread) => {
            ring::set_drain_thread(thread.thread().clone());
            control.capture.store(if config.capture_model_path { CAPTURE_MODEL_PATH } else { 0 }, Ordering::Relaxed);
            control.sample_threshold.store(config.sample_threshold(), Ordering::Relaxed);
            control.parent_based.store(config.parent_based.into(), Ordering::Relaxed);
            control.propagators.store(config.propagators, Ordering::Relaxed);
            propagation::set_baggage_keys(control, &config.baggage_attributes);
            control.detail.store(config.detail as u32, Ordering::Release);
            let detail = AtomicU32::new(config.detail as u32);
            let exit_timeout = config.span_export_timeout.min(EXIT_TIMEOUT);
            *running = Some(Arc::new(Running { control, orders, thread, exit_timeout, detail }));
            process::prepare();
            true
        }
        Err(why) => {
            error!("telemetry is off: no thread could be started: {why}");
            false
        }
    }
}

pub fn is_active() -> bool {
    running().is_some()
}

impl Running {
    /// The level of the macros: while nothing is exported no more than what keeps sums right.
    fn apply_detail(&self) {
        let wanted = self.detail.load(Ordering::Relaxed);
        let paused = self.orders.paused.load(Ordering::Relaxed);
        let level = if paused { wanted.min(Detail::Metrics as u32) } else { wanted };
        self.control.detail.store(level, Ordering::Release);
    }

    /// Gives an order to the drain thread and waits for the answer.
    fn order(&self, timeout: Duration, order: impl FnOnce(Instant, reply::Sender<bool>) -> Order) -> bool {
        let (answer, wait) = reply::channel();
        if !self.orders.give(order(Instant::now() + timeout, answer)) {
            return false;
        }
        self.thread.thread().unpark();
        wait.recv_timeout(timeout).unwrap_or(false)
    }
}

pub fn set_detail(detail: u32) {
    if process::is_forked() {
        return;
    }
    // Under the lock: a shutdown that comes meanwhile turns it off afterwards.
    if let Some(running) = &*lock(&RUNNING) {
        running.detail.store(detail.min(Detail::Op as u32), Ordering::Relaxed);
        running.apply_detail();
    }
}

/// See [`crate::set_export`].
pub fn set_export(on: bool) -> bool {
    if process::is_forked() {
        return !on;
    }
    if let Some(running) = &*lock(&RUNNING) {
        running.orders.paused.store(!on, Ordering::Relaxed);
        running.apply_detail();
        return true;
    }
    match propagation::control() {
        Some(control) if on && ASKED.load(Ordering::Relaxed) => start_with(control, Config::asked_for),
        _ => !on,
    }
}

pub fn flush(timeout: Duration) -> bool {
    match running() {
        Some(running) => running.order(timeout, |deadline, answer| Order::Flush { deadline, answer }),
        None => true,
    }
}

/// The last delivery, when the process ends.
pub fn shutdown_at_exit() -> bool {
    running().is_none_or(|running| shutdown(running.exit_timeout))
}

pub fn shutdown(timeout: Duration) -> bool {
    if process::is_forked() {
        return true;
    }
    let running = {
        let mut place = lock(&RUNNING);
        let Some(running) = place.take() else { return true };
        running.control.detail.store(Detail::Off as u32, Ordering::Release);
        running
    };
    let reserve = RESERVE.min(timeout / 10);
    running.order(timeout, |deadline, answer| Order::Stop { deadline: deadline - reserve, answer })
}

/// Turns recording off for good: after a panic of our own, telemetry must not go on costing something.
pub fn give_up(why: &str) {
    if let Some(control) = propagation::control() {
        control.detail.store(Detail::Off as u32, Ordering::Release);
    }
    error!("telemetry is off {why}");
}
