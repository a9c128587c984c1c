//! The mark that an instrumented llama.cpp carries, and what makes a program insist upon it.

/// Makes the crate that says it unable to link with a llama.cpp that is not instrumented, or for another version of this crate,
/// and gives it `llama_otel_build() -> &'static CStr`: what library it is linked with.
///
/// The symbol is defined by the telemetry runtime inside a patched llama.cpp only (`cpp/otel.cpp`), and its name ends in
/// `LLAMA_OTEL_ABI_VERSION` of `include/otel-backend.h`.
#[macro_export]
macro_rules! require_instrumented {
    () => {
        unsafe extern "C" {
            fn llama_otel_instrumented_abi_7() -> *const ::core::ffi::c_char;
        }

        // Kept also in a program that never asks, so that it fails to link.
        #[used]
        static LLAMA_OTEL_REQUIRED: unsafe extern "C" fn() -> *const ::core::ffi::c_char =
            llama_otel_instrumented_abi_7;

        /// The mark of the instrumented llama.cpp that this program is linked with: the version of the ABI between it and
        /// its telemetry, llama.cpp's version and commit, for people. It exists with an instrumented llama.cpp only.
        pub fn llama_otel_build() -> &'static ::core::ffi::CStr {
            // SAFETY: it returns a string literal.
            unsafe { ::core::ffi::CStr::from_ptr(llama_otel_instrumented_abi_7()) }
        }
    };
}
