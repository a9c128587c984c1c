//! The threads of telemetry give way to inference: they run when it leaves time, and it never waits for them.

/// Added to the nice value that the program runs with. Five steps are a third of the time where both want the same
/// core; a thread that slept is still woken soon enough to empty a ring that fills up.
#[cfg(target_os = "linux")]
const NICER: libc::c_int = 5;

/// Lowers the priority of the calling thread. Without effect where the system does not let it.
pub fn lower() {
    // On Linux 0 is the calling thread, not its process, and lowering needs no right.
    #[cfg(target_os = "linux")]
    // SAFETY: both take numbers only.
    unsafe {
        let nice = libc::getpriority(libc::PRIO_PROCESS, 0);
        libc::setpriority(libc::PRIO_PROCESS, 0, nice + NICER);
    }
    #[cfg(target_os = "macos")]
    // SAFETY: takes numbers only.
    unsafe {
        libc::pthread_set_qos_class_self_np(libc::qos_class_t::QOS_CLASS_UTILITY, 0);
    }
}
