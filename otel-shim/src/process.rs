//! What the process may do to telemetry: end, fork, and unload the library that telemetry is part of.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::{life, propagation};

/// Set in a child of `fork`, where our threads do not exist and our locks may be held by them for ever.
static FORKED: AtomicBool = AtomicBool::new(false);

/// Whether this is a child of a process in which telemetry ran. There it stays off: nothing that takes a lock may be called.
pub fn is_forked() -> bool {
    FORKED.load(Ordering::Relaxed)
}

/// Called when telemetry has started: delivers at exit, switches off in children, and keeps the code loaded that our
/// threads run, also when the program closes the library.
pub fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the function takes nothing and does not unwind.
        unsafe {
            libc::atexit(at_exit);
        }
        #[cfg(unix)]
        // SAFETY: the function only stores to two words; the library's own name is a C string that lives as long as it.
        unsafe {
            libc::pthread_atfork(None, None, Some(in_child));
            stay_loaded();
        }
    });
}

extern "C" fn at_exit() {
    crate::guarded(false, life::shutdown_at_exit);
}

#[cfg(unix)]
extern "C" fn in_child() {
    FORKED.store(true, Ordering::Relaxed);
    if let Some(control) = propagation::control() {
        control.detail.store(crate::Detail::Off as u32, Ordering::Relaxed);
    }
}

/// # Safety
/// None of its own: `dladdr` and `dlopen` are called with what they return.
#[cfg(unix)]
unsafe fn stay_loaded() {
    let address: extern "C" fn() = at_exit;
    let mut info = std::mem::MaybeUninit::<libc::Dl_info>::uninit();
    // SAFETY: the address is one of this library's functions; `info` is filled when the result is not zero.
    unsafe {
        if libc::dladdr(address as *const libc::c_void, info.as_mut_ptr()) != 0 {
            let name = info.assume_init().dli_fname;
            // For the main program this finds nothing to do.
            libc::dlopen(name, libc::RTLD_LAZY | libc::RTLD_NOLOAD | libc::RTLD_NODELETE);
        }
    }
}
