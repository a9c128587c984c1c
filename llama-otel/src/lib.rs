//! What a Rust program can ask of llama.cpp's telemetry. None of it has to be called: the `OTEL_*` variables alone
//! decide what is exported.
//!
//! The functions act on the one runtime of the process, whichever crate linked llama.cpp: `llama-otel-sys`, which has the
//! same names as `llama_otel_sys::otel`, or a `llama-cpp-sys-2` that `cargo xtask export dropin` made.
//!
//! - Parents: [`with_parent`], [`attach_current`], [`set_traceparent`], [`set_context_parent`], [`follow_current_context`].
//! - The program's own providers: [`use_providers`].
//! - Switches: [`set_detail`], [`set_export`], [`set_deadline`].
//! - Delivery: [`flush`], [`shutdown`], [`dropped`], [`is_active`].
//!
//! Every function may be called from any thread at any time; none panics. `docs/embedding.md` is the guide, and
//! `llama-otel.h` the same for C and C++.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! llama_otel::set_detail(llama_otel::Detail::Decode);
//! // … llama.cpp decodes …
//! if !llama_otel::flush(Duration::from_secs(2)) {
//!     eprintln!("not everything arrived: {:?}", llama_otel::dropped());
//! }
//! ```

pub use otel_shim::{
    Detail, Headers, IdGeneratorForLlama, ParentError, ParentGuard, Providers, ProvidersError, attach, attach_current,
    detail, dropped, flush, follow_current_context, is_active, set_context_parent, set_context_traceparent,
    set_deadline, set_detail, set_export, set_traceparent, shutdown, use_providers, with_parent,
};
