//! Running ahead of everything else, on processors that do not sleep.

use std::fs::File;
use std::io::{self, Write as _};

/// Lowest of the real-time priorities: ahead of all ordinary processes, behind the kernel's own real-time threads.
const PRIORITY: libc::c_int = 1;

/// Puts the calling thread under `SCHED_FIFO`. Needs `CAP_SYS_NICE` or a limit on `rtprio` of at least one.
pub fn enter() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: PRIORITY };
    #[allow(unsafe_code, reason = "rustix does not offer the scheduler")]
    // SAFETY: the call reads `parameters`, which outlives it; process id 0 is the calling thread.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Keeps all processors from sleeping as long as it lives: one that sleeps wakes late, in a virtual machine by as much as its host takes
/// to come back to it, which was milliseconds where this was measured. It costs power, and no processor's time.
#[derive(Debug)]
pub struct Awake {
    /// The kernel forgets the wish when it is closed.
    _wish: File,
}

impl Awake {
    /// Asks the kernel for a wake-up latency of zero (its PM QoS interface). Needs to write to `/dev/cpu_dma_latency`: mostly root.
    pub fn stay() -> io::Result<Self> {
        let mut wish = File::options().write(true).open("/dev/cpu_dma_latency")?;
        wish.write_all(&0_i32.to_ne_bytes())?;
        Ok(Self { _wish: wish })
    }
}
