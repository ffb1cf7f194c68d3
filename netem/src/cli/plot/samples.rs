//! What there is to draw: packets from a log, or from a link in virtual time.

use std::time::Duration;

use anyhow::Context;
use carriageway_netem::core::{
    Direction, Dropped, Event, Kind, Moment, OutageMode, Packet, Pipe, Rate, Seed,
};
use carriageway_netem::profile::{Agenda, Profile, Scenario};

/// Period and size of the signal that a simulated link carries.
const SIGNAL_PERIOD: Duration = Duration::from_millis(20);
const SIGNAL_BYTES: u32 = 128;
const BULK_BYTES: u32 = 1_500;

/// One packet; times in seconds after the start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) direction: Direction,
    pub(super) offered: f64,
    pub(super) bytes: u32,
    pub(super) end: End,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum End {
    Delivered { left: f64, due: f64 },
    Dropped { at: f64 },
}

/// A line in the drawing.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mark {
    pub(super) at: f64,
    pub(super) name: String,
}

/// Reads what `run --log` wrote.
pub(super) fn from_log(text: &str) -> anyhow::Result<Vec<Sample>> {
    text.lines()
        .skip(1)
        .enumerate()
        .map(|(index, line)| sample(line).with_context(|| format!("line {}", index + 2)))
        .collect()
}

fn sample(line: &str) -> anyhow::Result<Sample> {
    let fields: Vec<_> = line.split(',').collect();
    let field =
        |index: usize| fields.get(index).copied().context("a field is missing; is this a packet log?");
    let seconds = |index| Ok::<_, anyhow::Error>(field(index)?.parse::<f64>().context("no number")? / 1e6);
    let direction = match field(3)? {
        "up" => Direction::Up,
        "down" => Direction::Down,
        other => anyhow::bail!("`{other}` is no direction; is this a packet log?"),
    };
    let end = match field(9)? {
        "delivered" => End::Delivered { left: seconds(7)?, due: seconds(12)? },
        _ => End::Dropped { at: seconds(7)? },
    };
    Ok(Sample {
        direction,
        offered: seconds(0)?,
        bytes: field(5)?.parse().context("no number of bytes")?,
        end,
    })
}

/// Runs a link in virtual time.
pub(super) fn simulate(link: &Profile, seed: u64, offer: Option<Rate>, time: Duration) -> Vec<Sample> {
    Direction::BOTH
        .into_iter()
        .flat_map(|direction| one_way(link, Seed(seed), direction, offer, time))
        .collect()
}

fn one_way(
    link: &Profile,
    seed: Seed,
    direction: Direction,
    offer: Option<Rate>,
    time: Duration,
) -> Vec<Sample> {
    let mut pipe = Pipe::new(link.law(direction).clone(), seed, direction, Moment::ZERO);
    let mut offers = Vec::new();
    let mut every = |period: Duration, size| {
        let count = time.as_nanos() / period.as_nanos().max(1);
        offers.extend((0..count).map(|turn| (Moment::ZERO + period * turn as u32, size)));
    };
    every(SIGNAL_PERIOD, SIGNAL_BYTES);
    if let Some(rate) = offer {
        every(rate.time_for(u64::from(BULK_BYTES)), BULK_BYTES);
    }
    offers.sort_unstable();
    let mut samples = Vec::new();
    for (at, size) in offers {
        if let Err(dropped) = pipe.push(at, Packet { size, kind: Kind::Udp, payload: () }) {
            samples.push(lost(direction, &dropped));
        }
        take(&mut pipe, at, direction, &mut samples);
    }
    take(&mut pipe, Moment::NEVER, direction, &mut samples);
    samples
}

fn take(pipe: &mut Pipe<()>, now: Moment, direction: Direction, samples: &mut Vec<Sample>) {
    while let Some(event) = pipe.pop(now) {
        samples.push(match event {
            Event::Dropped(dropped) => lost(direction, &dropped),
            Event::Delivered(delivery) => Sample {
                direction,
                offered: seconds(delivery.pushed),
                bytes: delivery.packet.size,
                end: End::Delivered { left: seconds(delivery.left), due: seconds(delivery.due) },
            },
        });
    }
}

fn lost(direction: Direction, dropped: &Dropped<()>) -> Sample {
    Sample {
        direction,
        offered: seconds(dropped.pushed),
        bytes: dropped.packet.size,
        end: End::Dropped { at: seconds(dropped.at) },
    }
}

/// What happens within `time`: events, and the outages of the first path.
pub(super) fn events(scenario: &Scenario, time: Duration) -> Vec<Mark> {
    let mut agenda = Agenda::new(scenario.events.clone());
    let mut marks = Vec::new();
    while let Some(due) = agenda.next_due().filter(|due| *due < time) {
        let Some(event) = agenda.pop(due) else { break };
        marks.push(Mark { at: due.as_secs_f64(), name: event.what.name().into() });
    }
    for outage in &scenario.paths[0].profile.up.outages {
        let turns = outage.every.map_or(1, |every| 1 + time.as_nanos() / every.as_nanos().max(1));
        let name = match outage.mode {
            OutageMode::Drop => "outage",
            OutageMode::Hold => "hold",
        };
        let at = (0..turns).map(|turn| outage.from + outage.every.unwrap_or_default() * turn as u32);
        marks.extend(at.filter(|at| *at < time).map(|at| Mark { at: at.as_secs_f64(), name: name.into() }));
    }
    marks
}

fn seconds(moment: Moment) -> f64 {
    moment.as_nanos() as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read() {
        let text =
            "head\n10,1,lte0,up,0,29,udp,20,0,delivered,1,0,30,31\n10,1,lte0,down,0,29,udp,20,0,loss,0,0,,\n";
        let samples = from_log(text).unwrap();
        assert_eq!(samples[0].end, End::Delivered { left: 20e-6, due: 30e-6 });
        assert_eq!(samples[1].end, End::Dropped { at: 20e-6 });
        assert!(format!("{:#}", from_log("head\nx\n").unwrap_err()).starts_with("line 2: "));
    }

    #[test]
    fn a_profile_is_simulated() {
        let link = Profile::find("tunnel").unwrap();
        let samples = simulate(&link, 7, None, Duration::from_secs(20));
        assert_eq!(samples.len(), 2 * 20 * 50);
        let dropped = samples.iter().filter(|sample| matches!(sample.end, End::Dropped { .. })).count();
        assert!((380..440).contains(&dropped), "4 of 20 seconds are a tunnel: {dropped}");
        assert_eq!(events(&Scenario::find("tunnel").unwrap(), Duration::from_mins(1)).len(), 2);
    }
}
