//! Running ahead of everything else.

use std::io;

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
