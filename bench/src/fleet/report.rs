//! What a fleet costs, as JSON and as a table.

use std::fmt::Write as _;

use serde::Serialize;

use super::vehicles::Connected;
use crate::operator::counted;
use crate::stage::Stage;
use crate::stats::Summary;

/// A run's results.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) stage: Stage,
    pub(super) vehicles: u16,
    pub(super) signal_hz: f64,
    pub(super) connect: Connect,
    pub(super) resident_before_kib: u64,
    pub(super) resident_after_kib: u64,
    pub(super) resident_most_kib: u64,
    /// Of those that connected.
    pub(super) kib_per_vehicle: Option<f64>,
    /// The gateway's CPU seconds per second, of one processor.
    pub(super) cpu_share: f64,
    pub(super) commands: Commands,
    /// The gateway's own counters.
    pub(super) handshakes: Vec<String>,
    pub(super) open_files: u64,
}

/// How connecting went.
#[derive(Debug, Serialize)]
pub(super) struct Connect {
    connected: usize,
    missing: usize,
    turned_away: u64,
    /// From the start of all to each vehicle's session, in milliseconds; the largest is until all had one.
    times_ms: Option<Summary>,
    /// CPU seconds that the gateway spent meanwhile.
    gateway_cpu: f64,
}

/// How the commands went.
#[derive(Debug, Serialize)]
pub(super) struct Commands {
    succeeded: usize,
    /// How the others ended.
    others: Vec<String>,
    /// Milliseconds from the scheduled moment. One without success counts with the ten seconds that it was waited for.
    latency_ms: Option<Summary>,
}

impl Commands {
    /// Of milliseconds and ends.
    pub(super) fn of(ended: Vec<(f64, String)>) -> Self {
        let latency_ms = Summary::of(ended.iter().map(|(latency_ms, end)| counted(end, *latency_ms)));
        let all = ended.len();
        let others: Vec<_> = ended.into_iter().map(|(_, end)| end).filter(|end| end != "SUCCEEDED").collect();
        Self { succeeded: all - others.len(), others, latency_ms }
    }
}

impl Connect {
    pub(super) fn of(connected: &Connected, gateway_cpu: f64) -> Self {
        let Connected { times_ms, missing, turned_away } = connected;
        Self {
            connected: times_ms.len(),
            missing: *missing,
            turned_away: *turned_away,
            times_ms: Summary::of(times_ms.iter().copied()),
            gateway_cpu,
        }
    }
}

impl Report {
    /// For people, in Markdown.
    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        let of = |summary: Option<Summary>| {
            summary.map_or("-".into(), |Summary { p50, p99, max, .. }| {
                format!("{p50:.1} / {p99:.1} / {max:.1} ms")
            })
        };
        let Connect { connected, missing, turned_away, times_ms, gateway_cpu } = &self.connect;
        let mut row = |what: &str, figure: String| {
            let _ = writeln!(text, "| {what} | {figure} |");
        };
        row("what", "figure".into());
        row("---", "---".into());
        row("vehicles connected, of all", format!("{connected} of {}", self.vehicles));
        row("given up / connections turned away", format!("{missing} / {turned_away}"));
        row("session after the start of all, p50 / p99 / last", of(*times_ms));
        row("gateway CPU while connecting", format!("{gateway_cpu:.2} s"));
        row(
            "gateway memory, empty / with all / most",
            format!(
                "{} / {} / {} KiB",
                self.resident_before_kib, self.resident_after_kib, self.resident_most_kib
            ),
        );
        let each = self.kib_per_vehicle.map_or("-".into(), |kib| format!("{kib:.1} KiB"));
        row("memory per vehicle that connected", each);
        row(
            &format!("gateway CPU, signals at {} Hz", self.signal_hz),
            format!("{:.1} % of one processor", self.cpu_share * 100.0),
        );
        row("commands SUCCEEDED, of all", format!("{} of {}", self.commands.succeeded, self.vehicles));
        row("command, p50 / p99 / max", of(self.commands.latency_ms));
        let counters = self.handshakes.join("\n");
        format!("{}\n\n{text}\nThe gateway's own counters:\n{counters}\n", self.stage.lines())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_that_come_at_once_do_not_make_commands_quick() {
        let mut ended = vec![(40.0, "SUCCEEDED".to_owned()); 4];
        ended.extend(vec![(1.0, "vehicle-offline".to_owned()); 6]);
        let commands = Commands::of(ended);
        assert_eq!((commands.succeeded, commands.others.len()), (4, 6));
        assert!(commands.latency_ms.is_some_and(|summary| summary.p50 > 9_999.0));
    }
}
