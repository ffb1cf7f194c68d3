//! Becoming root of a user namespace of our own, where we are not root already.

use std::fs;
use std::io;

use anyhow::Context;
use rustix::process::{getegid, geteuid};
use rustix::thread::UnshareFlags;

/// Gets the right to make network namespaces, if this process lacks it. To be called before any thread is started: a process with
/// threads cannot change its user namespace.
pub(super) fn acquire() -> anyhow::Result<()> {
    let (user, group) = (geteuid(), getegid());
    if user.is_root() {
        return Ok(());
    }
    let advice = "run as root, allow user namespaces, or use `carriageway-netem relay`";
    enter_user_namespace().with_context(|| format!("a user namespace of our own is refused; {advice}"))?;
    // Before the group is mapped: the kernel insists.
    fs::write("/proc/self/setgroups", "deny").context("giving up setgroups")?;
    fs::write("/proc/self/uid_map", format!("0 {} 1", user.as_raw()))
        .context("becoming root of a user namespace")?;
    fs::write("/proc/self/gid_map", format!("0 {} 1", group.as_raw()))
        .context("becoming root of a user namespace")
}

fn enter_user_namespace() -> io::Result<()> {
    #[allow(unsafe_code, reason = "unshare is unsafe only with UnshareFlags::FILES")]
    // SAFETY: the file descriptor table stays shared.
    unsafe {
        Ok(rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER)?)
    }
}
