//! What the kernel says of a process.

use std::fs;

use anyhow::{Context as _, Result};

/// Clock ticks per second in /proc (USER_HZ), the same on every Linux of today.
const TICKS: f64 = 100.0;

/// A process's use of the machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Usage {
    pub(crate) resident_kib: u64,
    pub(crate) resident_most_kib: u64,
    /// CPU seconds, user and system.
    pub(crate) cpu: f64,
    /// The same, of the children that it has waited for.
    pub(crate) children_cpu: f64,
}

impl Usage {
    /// Of the process of this id.
    pub(crate) fn read(id: u32) -> Result<Self> {
        let file =
            |name: &str| fs::read_to_string(format!("/proc/{id}/{name}")).context("the process is gone");
        let (status, stat) = (file("status")?, file("stat")?);
        Self::parse(&status, &stat).context("cannot read what the kernel says of the process")
    }

    fn parse(status: &str, stat: &str) -> Option<Self> {
        let kib = |name: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim_start_matches(':').trim().strip_suffix("kB")?.trim().parse().ok()
        };
        // The name in parentheses may hold anything; utime and stime are the 14th and 15th field, those of the children follow.
        let rest: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |place: usize| rest.get(place)?.parse::<f64>().ok();
        let cpu = (ticks(11)? + ticks(12)?) / TICKS;
        let children_cpu = (ticks(13)? + ticks(14)?) / TICKS;
        Some(Self { resident_kib: kib("VmRSS")?, resident_most_kib: kib("VmHWM")?, cpu, children_cpu })
    }

    /// CPU seconds between two looks.
    pub(crate) fn cpu_between(from: &Self, to: &Self) -> f64 {
        to.cpu - from.cpu
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_understood() {
        let status = "Name:\tbench\nVmHWM:\t   20480 kB\nVmRSS:\t   10240 kB\nThreads:\t3\n";
        let stat = "77 (a name) with) S 1 77 77 0 -1 4194560 100 0 0 0 250 50 30 20 20 0 3 0 1 2 3";
        let usage = Usage::parse(status, stat).unwrap();
        assert_eq!(
            usage,
            Usage { resident_kib: 10_240, resident_most_kib: 20_480, cpu: 3.0, children_cpu: 0.5 }
        );
        assert_eq!(Usage::parse("", stat), None);
        assert_eq!(Usage::parse(status, "77 (short) S"), None);
    }

    #[test]
    fn this_process_has_a_usage() {
        assert!(Usage::read(std::process::id()).unwrap().resident_kib > 0);
    }
}
