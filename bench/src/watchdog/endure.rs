//! A long drive over a bad link, in which nothing may stop the vehicle.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use carriageway_agent::core::drive::{Counts, Refused};
use carriageway_proto::SafeCause;
use serde::Serialize;
use serde_json::Value as Json;

use super::operator::Operator;
use super::vehicle::Halted;
use super::{Outcome, Scene};
use crate::stats::Summary;

/// What came of the drive.
#[derive(Debug, Default, Serialize)]
pub(super) struct Endured {
    minutes: u32,
    link: String,
    /// Stops, by cause: there must be none.
    stops: Vec<String>,
    /// Times that the soft limit passed and let the throttle go for a moment.
    stale: u64,
    /// Control frames that the operator sent, from one report of the gateway's to another.
    sent: u64,
    /// Frames that the gateway passed on between these reports: as many, but for those between the two at either end.
    relayed: u64,
    /// What the gateway did not pass on meanwhile, by reason.
    dropped: BTreeMap<String, u64>,
    /// Frames that fed the watchdog.
    accepted: u64,
    /// Frames that came and fed nothing, by reason.
    refused: Vec<(&'static str, u64)>,
    /// States that no frame brought, and states that only a later frame brought.
    lost: u64,
    recovered: u64,
    /// Age of control as it was followed, in milliseconds since the operator's hand.
    age_ms: Option<Summary>,
    /// Packets that the relay delivered and lost since it began, from the vehicle and to it.
    packets: serde_json::Value,
    /// How late the relay itself delivered, in milliseconds: p99 and the worst.
    relay_late_ms: (f64, f64),
}

/// What is counted on the way, as of a report of the gateway's.
struct Counted {
    drive: Counts,
    ages: usize,
    passage: Passage,
}

impl Counted {
    fn now(operator: &Operator) -> Self {
        let (dash, vehicle) = (&operator.pilot().dash, operator.vehicle());
        let passage = Passage::of(dash.sent, &dash.report);
        Self { drive: vehicle.handle.status().drive, ages: vehicle.told.ages().len(), passage }
    }
}

/// Frames from the operator's hand through the gateway.
#[derive(Debug, PartialEq)]
struct Passage {
    sent: u64,
    relayed: u64,
    dropped: BTreeMap<String, u64>,
}

impl Passage {
    /// All so far: what was sent until this report of the gateway's came, and what it says.
    fn of(sent: u64, report: &Json) -> Self {
        let count = |count: &Json| count.as_u64().unwrap_or(0);
        let reasons = report["dropped"].as_object().into_iter().flatten();
        let dropped = reasons.map(|(why, dropped)| (why.clone(), count(dropped))).collect();
        Self { sent, relayed: count(&report["relayed"]), dropped }
    }

    /// What has come since `from`.
    fn since(mut self, from: &Self) -> Self {
        for (why, count) in &mut self.dropped {
            *count -= from.dropped.get(why).copied().unwrap_or(0);
        }
        self.dropped.retain(|_, count| *count > 0);
        Self { sent: self.sent - from.sent, relayed: self.relayed - from.relayed, dropped: self.dropped }
    }
}

/// Drives for so many minutes.
pub(super) async fn run(scene: &Scene<'_>, minutes: u32) -> Result<Endured> {
    let mut stand = scene.set_up(1).await?;
    let (mut operator, relay) = stand.places.pop().context("there is one vehicle")?;
    operator.until_followed().await?;
    let mut stops: Vec<Halted> = operator.drive_until_reported().await?;
    let begun = Counted::now(&operator);
    let mut until = stand.clock.now();
    for minute in 1..=minutes {
        until = until + Duration::from_mins(1);
        stops.extend(operator.drive_until(until).await?);
        let drive = operator.vehicle().handle.status().drive;
        let accepted = drive.accepted - begun.drive.accepted;
        let stale = drive.stale - begun.drive.stale;
        let told = format!(
            "minute {minute} of {minutes}: {} stops, {stale} times stale, {accepted} accepted",
            stops.len()
        );
        crate::say(&told);
    }
    stops.extend(operator.drive_until_reported().await?);
    let ended = Counted::now(&operator);
    let stats = relay.stats()?;
    let millis = |time: Duration| time.as_secs_f64() * 1_000.0;
    let ages = operator.vehicle().told.ages();
    stand.places.push((operator, relay));
    stand.take_down().await;
    let Passage { sent, relayed, dropped } = ended.passage.since(&begun.passage);
    let (from, to) = (begun.drive, ended.drive);
    let refused = Refused::ALL.map(|why| (why.name(), to.refused.of(why) - from.refused.of(why)));
    let packets = stats.to_json();
    Ok(Endured {
        minutes,
        link: scene.link.name.clone(),
        stops: stops.iter().map(|halted| SafeCause::to_string(&halted.cause)).collect(),
        stale: to.stale - from.stale,
        sent,
        relayed,
        dropped,
        accepted: to.accepted - from.accepted,
        refused: refused.into_iter().filter(|(_, count)| *count > 0).collect(),
        lost: to.lost - from.lost,
        recovered: to.recovered - from.recovered,
        age_ms: Summary::of(ages.into_iter().skip(begun.ages).take(ended.ages - begun.ages)),
        packets: serde_json::json!({ "up": packets["up"], "down": packets["down"] }),
        relay_late_ms: (millis(stats.lateness.quantile(0.99)), millis(stats.lateness.worst())),
    })
}

impl Outcome for Endured {
    fn table(&self) -> String {
        let Summary { count, p50, p99, max } = self.age_ms.unwrap_or_default();
        let refused: Vec<_> = self.refused.iter().map(|(why, count)| format!("{why} {count}")).collect();
        let dropped: Vec<_> = self.dropped.iter().map(|(why, count)| format!("{why} {count}")).collect();
        let mut text = format!("{} minutes, {}\n\n| what | figure |\n|---|---|\n", self.minutes, self.link);
        for (what, figure) in [
            ("stops", format!("{} {}", self.stops.len(), self.stops.join(", "))),
            ("soft limit passed", self.stale.to_string()),
            ("frames sent, passed on by the gateway", format!("{}, {}", self.sent, self.relayed)),
            ("not passed on", dropped.join(", ")),
            ("frames accepted", self.accepted.to_string()),
            ("frames refused", refused.join(", ")),
            ("states lost for good, brought by the next frame", format!("{}, {}", self.lost, self.recovered)),
            ("age of control, p50 / p99 / max", format!("{p50:.1} / {p99:.1} / {max:.1} ms ({count})")),
            (
                "relay late, p99 / max",
                format!("{:.2} / {:.2} ms", self.relay_late_ms.0, self.relay_late_ms.1),
            ),
        ] {
            // Writing to a string does not fail.
            let _written = writeln!(text, "| {what} | {figure} |");
        }
        text
    }

    fn failure(&self) -> Option<String> {
        let stops = self.stops.len();
        (stops > 0).then(|| format!("the vehicle was stopped {stops} times although its link was never cut"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_sent_and_what_was_passed_on_are_of_one_window() {
        let begun = Passage::of(120, &json!({ "relayed": 117, "dropped": { "no_lease": 2, "stale": 1 } }));
        let ended =
            Passage::of(3_120, &json!({ "relayed": 3_110, "dropped": { "no_lease": 2, "stale": 8 } }));
        let dropped = [("stale".to_owned(), 7)].into();
        assert_eq!(ended.since(&begun), Passage { sent: 3_000, relayed: 2_993, dropped });
    }
}
