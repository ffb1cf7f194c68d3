//! Idle against bulk, pooled over seeds, as JSON and as a table.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use carriageway_netem::profile::units;
use serde::Serialize;

use super::cell::Cell;
use super::{Load, Options, Transport};
use crate::stage::Stage;
use crate::stats::{Spread, Summary, ratio};

/// The queue at which the targets hold, in words of `--queue`.
const TARGET_QUEUE: &str = "16 KiB";

/// A run's results.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    stage: Stage,
    rate: String,
    delay_one_way: String,
    congestion: &'static str,
    seconds: u64,
    commands_per_second: f64,
    rules: [&'static str; 4],
    groups: Vec<Group>,
    cells: Vec<Cell>,
}

/// Fixed before any run.
const RULES: [&str; 4] = [
    "void: the emulator's own limits on lateness and drops were passed, or the session moved; repeated twice at most, never counted",
    "a command that did not end in SUCCEEDED counts with 10 s",
    "percentiles are nearest rank, pooled over the seeds; the range is that of single seeds",
    "the first 3 s of a cell are not measured",
];

/// One transport and queue: idle beside bulk.
#[derive(Debug, Serialize)]
struct Group {
    transport: Transport,
    queue: String,
    seeds: usize,
    commands: Compared,
    signals: Compared,
    /// Mbit/s of file.
    goodput: Option<Spread>,
    /// Share of the link's rate that the uplink carried under bulk.
    utilisation: Option<Spread>,
    /// Share of the signals that showed, worst seed, idle and bulk.
    signals_shown: [f64; 2],
    /// Commands that did not succeed, of all.
    failed: [usize; 2],
    tcp_congestion: String,
    real_tcp: bool,
    /// At most this times idle.
    target: Option<f64>,
    verdict: &'static str,
}

/// One kind of latency, in milliseconds.
#[derive(Debug, Default, Serialize)]
struct Compared {
    idle: Option<Summary>,
    bulk: Option<Summary>,
    /// The p99 of single seeds.
    idle_p99: Option<Spread>,
    bulk_p99: Option<Spread>,
    /// p99 under bulk in multiples of idle.
    ratio: Option<f64>,
}

impl Report {
    pub(super) fn new(stage: Stage, options: &Options, cells: Vec<Cell>) -> Self {
        let places: BTreeSet<_> =
            cells.iter().map(|cell| (cell.point.transport, cell.point.queue.clone())).collect();
        let rate = units::rate(&options.rate).map_or(0.0, |rate| rate.bits_per_second() as f64);
        let mut groups: Vec<_> =
            places.into_iter().map(|(transport, queue)| group(&cells, transport, &queue, rate)).collect();
        groups.sort_by_key(|group| (size(&group.queue), group.transport));
        Self {
            stage,
            rate: options.rate.clone(),
            delay_one_way: options.delay.clone(),
            congestion: options.congestion.name(),
            seconds: options.seconds().as_secs(),
            commands_per_second: options.commands,
            rules: RULES,
            groups,
            cells,
        }
    }

    /// For people, in Markdown.
    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        let Self { rate, delay_one_way, congestion, seconds, commands_per_second, .. } = self;
        let _ = writeln!(text, "{}\n", self.stage.lines());
        let _ = writeln!(
            text,
            "Link {rate}, {delay_one_way} each way; QUIC with {congestion}; {seconds} s a cell; {commands_per_second} commands/s; p50 / p99 / max in ms, p99 of single seeds in brackets\n"
        );
        let _ = writeln!(text, "| queue | transport | what | idle | under bulk | p99 ratio | target |");
        let _ = writeln!(text, "|---|---|---|---|---|---|---|");
        for group in &self.groups {
            group.rows(&mut text);
        }
        let _ = writeln!(
            text,
            "\n| queue | transport | bulk goodput, Mbit/s | uplink used | signals shown, idle / bulk | commands failed, idle / bulk | TCP | seeds | verdict |"
        );
        let _ = writeln!(text, "|---|---|---|---|---|---|---|---|---|");
        for group in &self.groups {
            group.rest(&mut text);
        }
        self.voids(&mut text);
        text
    }

    fn voids(&self, text: &mut String) {
        let void: Vec<_> = self.cells.iter().filter(|cell| !cell.is_valid()).collect();
        let _ =
            writeln!(text, "\n{} of {} runs were void and are not counted.", void.len(), self.cells.len());
        for cell in void {
            let _ = writeln!(
                text,
                "- {}, attempt {}: {}",
                cell.point.name(),
                cell.attempt,
                cell.faults.join("; ")
            );
        }
        if self.cells.iter().any(|cell| !cell.real_tcp) {
            let _ = writeln!(
                text,
                "\nA RELAY STOOD IN FOR THE TESTBED: the rows of WebSocket say nothing about TCP on such a link."
            );
        }
    }
}

impl Group {
    fn rows(&self, text: &mut String) {
        for (what, compared) in [("command", &self.commands), ("signal age", &self.signals)] {
            let _ = writeln!(
                text,
                "| {} | {} | {what} | {} | {} | {} | {} |",
                self.queue,
                self.transport.name(),
                shown(compared.idle, compared.idle_p99),
                shown(compared.bulk, compared.bulk_p99),
                compared.ratio.map_or("-".into(), |ratio| format!("{ratio:.2}")),
                self.target.map_or("-".into(), |target| format!("{target}")),
            );
        }
    }

    fn rest(&self, text: &mut String) {
        let [idle, bulk] = self.signals_shown.map(|share| share * 100.0);
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {idle:.1} % / {bulk:.1} % | {} / {} | {} | {} | {} |",
            self.queue,
            self.transport.name(),
            self.goodput.map_or("-".into(), |Spread { least, median, most }| format!(
                "{median:.2} ({least:.2} to {most:.2})"
            )),
            self.utilisation.map_or("-".into(), |Spread { median, .. }| format!("{:.0} %", median * 100.0)),
            self.failed[0],
            self.failed[1],
            if self.transport == Transport::WebSocket { &self.tcp_congestion } else { "-" },
            self.seeds,
            self.verdict,
        );
    }
}

fn shown(summary: Option<Summary>, p99: Option<Spread>) -> String {
    let (Some(Summary { p50, p99: pooled, max, .. }), Some(Spread { least, most, .. })) = (summary, p99)
    else {
        return "-".into();
    };
    format!("{p50:.0} / {pooled:.0} / {max:.0} ({least:.0} to {most:.0})")
}

/// Bytes of a queue, for the order of rows.
fn size(queue: &str) -> u64 {
    let digits: String = queue.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

fn group(cells: &[Cell], transport: Transport, queue: &str, rate: f64) -> Group {
    let of = |load: Load| -> Vec<&Cell> {
        let is_it = |cell: &&Cell| {
            let point = &cell.point;
            point.transport == transport && point.queue == queue && point.load == load && cell.is_valid()
        };
        cells.iter().filter(is_it).collect()
    };
    let (idle, bulk) = (of(Load::Idle), of(Load::Bulk));
    let commands = compare(&idle, &bulk, |cell| &cell.raw.commands);
    let signals = compare(&idle, &bulk, |cell| &cell.raw.signals);
    let target = (queue == TARGET_QUEUE).then_some(match transport {
        Transport::Quic => 1.5,
        Transport::WebSocket => 3.0,
    });
    let failed = |cells: &[&Cell]| -> usize {
        let ends = cells.iter().flat_map(|cell| &cell.ends);
        ends.filter(|(end, _)| *end != "SUCCEEDED").map(|(_, count)| count).sum()
    };
    let shown = |cells: &[&Cell]| cells.iter().map(|cell| cell.signals_shown).fold(f64::INFINITY, f64::min);
    let names: BTreeSet<_> = cells.iter().map(|cell| cell.tcp_congestion.as_str()).collect();
    Group {
        transport,
        queue: queue.into(),
        seeds: idle.len().min(bulk.len()),
        goodput: Spread::of(bulk.iter().map(|cell| cell.goodput_bits / 1e6)),
        utilisation: Spread::of(bulk.iter().map(|cell| cell.carried_bits / rate)),
        signals_shown: [shown(&idle), shown(&bulk)],
        failed: [failed(&idle), failed(&bulk)],
        tcp_congestion: names.into_iter().collect::<Vec<_>>().join(", "),
        real_tcp: cells.iter().all(|cell| cell.real_tcp),
        verdict: verdict(target, [commands.ratio, signals.ratio]),
        target,
        commands,
        signals,
    }
}

fn compare(idle: &[&Cell], bulk: &[&Cell], raw: impl Fn(&Cell) -> &Vec<f64>) -> Compared {
    let pooled = |cells: &[&Cell]| Summary::of(cells.iter().flat_map(|cell| raw(cell).iter().copied()));
    let single = |cells: &[&Cell]| {
        let each = cells.iter().filter_map(|cell| Summary::of(raw(cell).iter().copied()));
        Spread::of(each.map(|summary| summary.p99))
    };
    let (idle_all, bulk_all) = (pooled(idle), pooled(bulk));
    let ratio = idle_all.zip(bulk_all).and_then(|(idle, bulk)| ratio(bulk.p99, idle.p99));
    Compared { idle: idle_all, bulk: bulk_all, idle_p99: single(idle), bulk_p99: single(bulk), ratio }
}

fn verdict(target: Option<f64>, ratios: [Option<f64>; 2]) -> &'static str {
    match (target, ratios) {
        (None, _) => "for the record",
        (Some(target), [Some(commands), Some(signals)]) if commands <= target && signals <= target => "met",
        (Some(_), [Some(_), Some(_)]) => "MISSED",
        (Some(_), [None, _] | [_, None]) => "no valid runs",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_met_only_by_both_latencies() {
        assert_eq!(verdict(Some(1.5), [Some(1.5), Some(1.2)]), "met");
        assert_eq!(verdict(Some(1.5), [Some(1.2), Some(1.6)]), "MISSED");
        assert_eq!(verdict(Some(1.5), [Some(1.2), None]), "no valid runs");
        assert_eq!(verdict(None, [Some(9.0), Some(9.0)]), "for the record");
    }

    #[test]
    fn queues_are_in_order_of_their_size() {
        assert!(size("16 KiB") < size("250 KiB"));
    }
}
