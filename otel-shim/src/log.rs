//! What telemetry says about itself: whole lines on standard error, each by one write, so that threads do not mix and a
//! forked child cannot find a lock taken.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};

/// Which lines are written (`OTEL_LOG_LEVEL`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    None,
    Error,
    Warn,
    Info,
}

static LEVEL: AtomicU8 = AtomicU8::new(Level::Info as u8);

pub fn set_level(level: Level) {
    LEVEL.store(level as u8, Ordering::Relaxed);
}

pub fn line(level: Level, text: fmt::Arguments) {
    if level as u8 > LEVEL.load(Ordering::Relaxed) {
        return;
    }
    let line = format!("llama-otel: {text}\n");
    #[cfg(unix)]
    // SAFETY: the buffer is as long as it says; a line that cannot be written is lost.
    unsafe {
        libc::write(2, line.as_ptr().cast(), line.len());
    }
    #[cfg(not(unix))]
    eprint!("{line}");
}

macro_rules! error {
    ($($text:tt)*) => { $crate::log::line($crate::log::Level::Error, format_args!($($text)*)) };
}
macro_rules! warn_line {
    ($($text:tt)*) => { $crate::log::line($crate::log::Level::Warn, format_args!($($text)*)) };
}
macro_rules! info {
    ($($text:tt)*) => { $crate::log::line($crate::log::Level::Info, format_args!($($text)*)) };
}
pub(crate) use {error, info, warn_line as warn};
