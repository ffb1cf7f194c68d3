//! Sentences that follow from the figures.

use std::collections::BTreeMap;

use super::numbers::{Unit, probability};
use super::view::{Standing, View};
use crate::compare::analysis::{Metric, Row, Verdict};
use crate::compare::plan::CONTROL;
use crate::compare::statistics::FEWEST_BLOCKS;
use crate::compare::workload::{Kind, Workload};

/// Blocks below which an interval says little: a bootstrap over few blocks is too narrow.
const FEW_BLOCKS: usize = 10;

/// The load, for people.
pub(super) fn workload(load: &Workload) -> String {
    let mut parts = Vec::new();
    let mut rate = |hz: f64, kind: Kind, what: &str| {
        if hz > 0.0 {
            let times = hz.to_string();
            let often = if times == "1" { "once".to_owned() } else { times + " times" };
            parts.push(format!("{what} {often} a second with {} bytes", kind.bytes()));
        }
    };
    rate(load.control_hz, Kind::Control, "control to the vehicle");
    rate(load.telemetry_hz, Kind::Telemetry, "telemetry from the vehicle");
    rate(load.snapshot_hz, Kind::Snapshot, "a snapshot of all signals from the vehicle");
    if load.commands_hz > 0.0 {
        parts.push(format!(
            "commands of four classes to the vehicle, {} a second on average at random moments, each with {} bytes and answered",
            load.commands_hz,
            Kind::Command.bytes()
        ));
    }
    if load.camera_mbits > 0.0 {
        parts.push(format!("a camera's stream of {} Mbit/s from the vehicle", load.camera_mbits));
    }
    let files = [(load.log, "a log goes up"), (load.map, "a map goes down")];
    let files: Vec<_> = files.into_iter().filter(|(is_on, _)| *is_on).map(|(_, what)| what).collect();
    if files.is_empty() {
        parts.push("no file".to_owned());
    } else {
        let rival = if load.rival { ", beside one TCP connection with CUBIC in that direction" } else { "" };
        let files = files.join(" and ");
        parts.push(format!("in the middle third {files} as fast as the subject takes it{rival}"));
    }
    let fleet = match load.vehicles {
        1 => String::new(),
        vehicles => format!(" for each of {vehicles} vehicles on one gateway, each on a link of its own"),
    };
    format!("{} s{fleet}: {}.", load.seconds, parts.join("; "))
}

/// What intervals say of one subject on one link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Comparison {
    /// Better than the reference, each in words.
    pub(super) wins: Vec<String>,
    /// Worse.
    pub(super) losses: Vec<String>,
    /// Figures that never came, where the reference's did.
    pub(super) never: Vec<String>,
    /// Figures whose interval has zero in it.
    pub(super) open: usize,
}

impl Comparison {
    /// Of a subject on a link with the reference.
    pub(super) fn of(view: &View<'_>, link: &str, label: &str) -> Self {
        let mut comparison = Self::default();
        for (metric, is_headline) in headlines_first(view) {
            let Some(row) = view.row(link, label, &metric.name) else { continue };
            let name = if is_headline { &metric.title } else { &metric.name };
            match view.standing(row, metric) {
                Standing::Better => comparison.wins.push(by(name, metric, row)),
                Standing::Worse => comparison.losses.push(by(name, metric, row)),
                Standing::Never => comparison.never.push(name.clone()),
                Standing::Open => comparison.open += 1,
                Standing::Reference | Standing::Unknown => {}
            }
        }
        comparison
    }

    /// Nothing to say.
    pub(super) const fn is_empty(&self) -> bool {
        self.wins.is_empty() && self.losses.is_empty() && self.never.is_empty() && self.open == 0
    }
}

/// All metrics, and whether they are headlines: these come first and are spelled out, the others go by their names.
fn headlines_first<'a>(view: &View<'a>) -> impl Iterator<Item = (&'a Metric, bool)> {
    let headlines = view.headlines();
    let known: Vec<_> = headlines.iter().map(|metric| &metric.name).collect();
    let others = view.analysis.metrics.iter().filter(move |metric| !known.contains(&&metric.name));
    headlines.into_iter().map(|metric| (metric, true)).chain(others.map(|metric| (metric, false)))
}

/// `Command p99 −12 ms (−20 to −4)`.
fn by(name: &str, metric: &Metric, row: &Row) -> String {
    let unit = Unit::of(metric);
    let difference = row.difference.as_ref().map(|difference| {
        format!("{} ({})", unit.difference(difference), unit.difference_interval(difference))
    });
    let difference = difference.unwrap_or_else(|| "came, where the reference's never did".to_owned());
    format!("{name} {difference}")
}

/// How the control came out: its rows with a difference, and of those the ones whose interval excludes zero.
pub(super) fn control<'a>(view: &'a View<'_>) -> (usize, Vec<&'a Row>) {
    let rows = view.analysis.rows.iter().filter(|row| row.label == CONTROL && row.difference.is_some());
    let rows: Vec<_> = rows.collect();
    let count = rows.len();
    let is_told_apart = |row: &&Row| row.difference.as_ref().is_some_and(|d| d.low > 0.0 || d.high < 0.0);
    (count, rows.into_iter().filter(is_told_apart).collect())
}

/// Where a claim was judged, and by what.
pub(super) fn verdict(view: &View<'_>, verdict: &Verdict) -> String {
    let unit = view.metric_in(&verdict.claim).map_or(Unit::unknown(), Unit::of);
    let difference = verdict.difference.as_ref().map_or_else(
        || "no finite difference, as something never came or was not run".to_owned(),
        |difference| {
            format!(
                "{} ({}), + is as claimed",
                unit.difference(difference),
                unit.difference_interval(difference)
            )
        },
    );
    let p = verdict.holm_p.map_or_else(|| "no p value".to_owned(), |p| format!("p {}", probability(p)));
    format!("on {}: {difference}; {p}", verdict.link)
}

/// The control in one sentence.
pub(super) fn control_sentence(view: &View<'_>) -> String {
    let (count, apart) = control(view);
    let reference = &view.analysis.reference;
    if count == 0 {
        return format!(
            "There is no A/A control in these results: {reference} was not compared with itself, so nothing shows what chance and machine do."
        );
    }
    let by_chance = if view.blocks().len() < FEWEST_BLOCKS {
        "From so few blocks an interval often misses it by chance alone.".to_owned()
    } else {
        format!("Of 95 % intervals about {} would miss it by chance alone.", (count as f64 * 0.05).round())
    };
    format!(
        "{reference} was run a second time in every block. Of {count} differences between the two, {} have an interval that covers 0; {} {} not. {by_chance}",
        count - apart.len(),
        apart.len(),
        if apart.len() == 1 { "does" } else { "do" },
    )
}

/// What a reader should hold against the figures, from facts alone.
pub(super) fn threats(view: &View<'_>) -> Vec<String> {
    let analysis = view.analysis;
    let mut threats = Vec::new();
    if view.is_debug() {
        let build = analysis.stage.build.to_uppercase();
        threats.push(format!(
            "THIS IS A {build} BUILD. IT MEASURES THE COMPILER; NO FIGURE OF IT MAY BE QUOTED."
        ));
    }
    if view.plan.as_ref().is_some_and(|plan| plan.is_virtual) {
        threats.push(
            "The runs were in virtual time: what the machine costs a subject is not in these figures."
                .to_owned(),
        );
    }
    threats.push(blocks(view.blocks().len()));
    threats.extend(uneven(view));
    threats.extend(busy(&analysis.stage.load, &analysis.stage.processor));
    threats.extend(void(analysis.valid, analysis.void.len()));
    threats.extend(faults(&analysis.void));
    let (count, apart) = control(view);
    if count == 0 {
        threats.push("No A/A control: nothing shows what chance and machine do.".to_owned());
    } else if apart.len() as f64 > (count as f64 * 0.05).ceil() {
        threats.push(format!(
            "{} of {count} A/A intervals exclude 0, more than 5 %: differences of that size are this machine's, not a subject's.",
            apart.len()
        ));
    }
    if analysis.stage.origin.commit.ends_with('+') || analysis.stage.origin.commit == "unknown" {
        threats.push(format!(
            "The commit is {}: the sources differ from any that can be checked out, or are not known.",
            analysis.stage.origin.commit
        ));
    }
    threats.push(
        "Intervals in tables are not corrected for how many there are: of every twenty comparisons without any difference, one looks like one. Only the claims, written down before any run, are corrected (Holm)."
            .to_owned(),
    );
    threats.push("The link is an emulator's. It knows no other users of the cell and no radio that sleeps; what it does is in its own documentation.".to_owned());
    threats
}

fn blocks(count: usize) -> String {
    if count == 0 {
        "No block counted.".to_owned()
    } else if count < FEWEST_BLOCKS {
        format!(
            "ONLY {count} BLOCK{}: from fewer than {FEWEST_BLOCKS} no interval is sure, whatever it excludes.",
            plural(count).to_uppercase()
        )
    } else if count < FEW_BLOCKS {
        format!(
            "Only {count} block{}: bootstrap intervals over fewer than {FEW_BLOCKS} are too narrow.",
            plural(count)
        )
    } else {
        format!(
            "{count} blocks: intervals are over these; effects that are rarer than one in {count} are not in them."
        )
    }
}

/// Labels that lack blocks that others have.
fn uneven(view: &View<'_>) -> Vec<String> {
    let all = view.blocks().len();
    let mut least: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for row in &view.analysis.rows {
        let most = least.entry((&row.link, &row.label)).or_default();
        *most = (*most).max(row.blocks.len());
    }
    let fewer = least.into_iter().filter(|(_, count)| *count > 0 && *count < all);
    fewer.map(|((link, label), count)| format!("{label} has {count} of {all} blocks on {link}.")).collect()
}

/// Whether there was more to do than processors.
fn busy(load: &str, processor: &str) -> Option<String> {
    let first: f64 = load.split_whitespace().next()?.parse().ok()?;
    let count: f64 = processor.split_whitespace().next()?.parse().ok()?;
    let said = format!("load {load} on {processor}");
    (first > count * 0.5).then(|| {
        format!("The machine had other work when the runs began ({said}): every tail is wider for it, also the reference's.")
    })
}

fn void(valid: usize, void: usize) -> Option<String> {
    let all = valid + void;
    let share = void as f64 * 100.0 / all.max(1) as f64;
    (void > 0).then(|| {
        format!("{void} of {all} runs ({share:.0} %) were void by the rule that was fixed before any run, and do not count; they are listed with their reasons.")
    })
}

/// What the void runs say of the machine.
fn faults(void: &[(String, Vec<String>)]) -> Option<String> {
    let of_machine = |fault: &String| {
        let fault = fault.to_lowercase();
        ["steal", "pressure", "stolen", "too busy"].iter().any(|word| fault.contains(word))
    };
    let count = void.iter().filter(|(_, faults)| faults.iter().any(of_machine)).count();
    (count > 0).then(|| {
        format!("{count} of the void runs are void for a machine that was too busy: the runs that count had less of that, not none.")
    })
}

/// With a capital letter.
pub(super) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// `s` of more than one.
pub(super) const fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_says_what_is_in_it_and_nothing_else() {
        let drive = workload(&Workload::default());
        assert!(
            drive.starts_with("30 s: control to the vehicle 50 times a second with 64 bytes;"),
            "{drive}"
        );
        assert!(
            drive.contains("a log goes up as fast") && !drive.contains("map") && !drive.contains("camera")
        );
        let parked = Workload { control_hz: 0.0, log: false, ..Workload::default() };
        assert!(workload(&parked).ends_with("no file.") && !workload(&parked).contains("control"));
    }

    #[test]
    fn a_fleet_is_said_to_be_one() {
        let fleet = workload(&Workload { vehicles: 10, ..Workload::default() });
        let says =
            "30 s for each of 10 vehicles on one gateway, each on a link of its own: control to the vehicle";
        assert!(fleet.starts_with(says), "{fleet}");
    }

    #[test]
    fn a_busy_machine_is_named() {
        assert!(busy("3.10 2.0 1.0 2/100 7", "2 x AMD").is_some());
        assert_eq!(busy("0.10 2.0 1.0 2/100 7", "2 x AMD"), None);
        assert_eq!(busy("unknown", "2 x AMD"), None);
    }
}
