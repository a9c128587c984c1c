//! Places where the tests make this crate panic: none of it must reach inference. Without the feature `inject`, which
//! only the tests ask for, they are nothing.

/// The name of the place where it shall panic: the environment variable `LLAMA_OTEL_PANIC_AT` of the process.
#[cfg(feature = "inject")]
fn wanted() -> Option<&'static str> {
    static WANTED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    WANTED.get_or_init(|| std::env::var("LLAMA_OTEL_PANIC_AT").ok()).as_deref()
}

#[cfg(not(feature = "inject"))]
#[inline(always)]
fn wanted() -> Option<&'static str> {
    None
}

/// Whether it shall panic anywhere.
#[inline(always)]
pub fn is_on() -> bool {
    wanted().is_some()
}

/// Panics if this is the place.
#[inline(always)]
pub fn point(name: &str) {
    assert!(wanted() != Some(name), "injected at {name}");
}
