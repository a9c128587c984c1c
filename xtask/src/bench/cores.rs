//! A core for who decodes, the others for everything else: telemetry's own threads and the receivers, which a scheduler puts
//! now beside the decoding thread and now on its core, so that one pair of processes differs from the next by percents.

use super::programs::Dialogue;

/// While it lives, whatever this thread starts keeps off one core. Does nothing on other systems than Linux, with one core,
/// and where the system does not allow it.
pub struct Cores(#[cfg(target_os = "linux")] Option<linux::Parted>);

impl Cores {
    #[cfg(target_os = "linux")]
    pub fn part() -> Self {
        Self(linux::Parted::new())
    }

    #[cfg(not(target_os = "linux"))]
    pub fn part() -> Self {
        Self()
    }

    /// Gives the free core to the first thread of a process, which is the one that decodes. Its other threads must run already.
    pub fn give(&self, process: &Dialogue) {
        #[cfg(target_os = "linux")]
        if let Some(parted) = &self.0 {
            parted.give(process.id());
        }
        #[cfg(not(target_os = "linux"))]
        let _ = process;
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};

    pub struct Parted {
        all: CpuSet,
        one: CpuSet,
    }

    impl Parted {
        pub fn new() -> Option<Self> {
            let all = sched_getaffinity(None).ok()?;
            let first = (0..CpuSet::MAX_CPU).find(|cpu| all.is_set(*cpu))?;
            let (mut one, mut others) = (CpuSet::new(), all);
            one.set(first);
            others.unset(first);
            if others.count() == 0 {
                return None;
            }
            sched_setaffinity(None, &others).ok()?;
            Some(Self { all, one })
        }

        pub fn give(&self, process: u32) {
            let Some(pid) = i32::try_from(process).ok().and_then(Pid::from_raw) else { return };
            // A process that has ended is found out by whoever asks it next.
            let _ = sched_setaffinity(Some(pid), &self.one);
        }
    }

    impl Drop for Parted {
        fn drop(&mut self) {
            let _ = sched_setaffinity(None, &self.all);
        }
    }
}
