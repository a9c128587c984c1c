//! Places where the tests make this crate panic: none of it must reach inference. Without the feature `inject`, which
//! only the tests ask for, they are nothing.

pub const IS_ON: bool = cfg!(feature = "inject");

/// Panics if the environment variable `LLAMA_OTEL_PANIC_AT` of the process is this name.
#[inline(always)]
pub fn point(name: &str) {
    #[cfg(feature = "inject")]
    {
        static WANTED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
        let wanted = WANTED.get_or_init(|| std::env::var("LLAMA_OTEL_PANIC_AT").ok());
        assert!(wanted.as_deref() != Some(name), "injected at {name}");
    }
    let _ = name;
}
