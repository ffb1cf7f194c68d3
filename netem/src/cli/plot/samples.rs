//! What there is to draw: packets from a log, or from a link in virtual time.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context;
use carriageway_netem::core::{Direction, Dropped, Event, Kind, Moment, Packet, Pipe, Rate, Seed};
use carriageway_netem::profile::{Agenda, Happening, Scenario};

/// Period and size of the signal that a simulated link carries.
const SIGNAL_PERIOD: Duration = Duration::from_millis(20);
const SIGNAL_BYTES: u32 = 128;
const BULK_BYTES: u32 = 1_500;

/// One packet; times in seconds after the start.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) direction: Direction,
    pub(super) offered: f64,
    pub(super) bytes: u32,
    pub(super) end: End,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum End {
    Delivered { left: f64, due: f64 },
    Dropped { at: f64, cause: String },
}

/// Which wire of a log: vehicle (counted from one) and path.
pub(super) type Wire = (usize, String);

/// Reads what `run --log` wrote about one wire; which is to be said if there are several.
pub(super) fn from_log(
    text: &str,
    vehicle: Option<usize>,
    path: Option<&str>,
) -> anyhow::Result<(Wire, Vec<Sample>)> {
    let (mut wires, mut samples) = (BTreeSet::<Wire>::new(), Vec::new());
    for (index, line) in text.lines().enumerate().skip(1) {
        let (wire, sample) = sample(line).with_context(|| format!("line {}", index + 1))?;
        let wanted =
            vehicle.is_none_or(|vehicle| vehicle == wire.0) && path.is_none_or(|path| path == wire.1);
        if wanted {
            wires.insert(wire);
            samples.push(sample);
        }
    }
    let mut rest = wires.iter();
    match (rest.next(), rest.next()) {
        (Some(wire), None) => Ok((wire.clone(), samples)),
        (None, _) => anyhow::bail!("there is no packet to draw"),
        (Some(_), Some(_)) => {
            let names: Vec<_> =
                wires.iter().take(8).map(|(vehicle, path)| format!("{vehicle} {path}")).collect();
            anyhow::bail!(
                "the log has several wires; say --vehicle and --on for one of {}: {}",
                wires.len(),
                names.join(", ")
            )
        }
    }
}

fn sample(line: &str) -> anyhow::Result<(Wire, Sample)> {
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
        cause => End::Dropped { at: seconds(7)?, cause: cause.into() },
    };
    let bytes = field(5)?.parse().context("no number of bytes")?;
    let wire = (field(1)?.parse().context("no vehicle")?, field(2)?.into());
    Ok((wire, Sample { direction, offered: seconds(0)?, bytes, end }))
}

/// Runs the only path of `scenario` in virtual time.
pub(super) fn simulate(scenario: &Scenario, seed: u64, offer: Option<Rate>, time: Duration) -> Vec<Sample> {
    Direction::BOTH
        .into_iter()
        .flat_map(|direction| one_way(scenario, Seed(seed), direction, offer, time))
        .collect()
}

fn one_way(
    scenario: &Scenario,
    seed: Seed,
    direction: Direction,
    offer: Option<Rate>,
    time: Duration,
) -> Vec<Sample> {
    let law = scenario.paths[0].profile.law(direction).clone();
    let mut link = Link {
        pipe: Pipe::new(law, seed, direction, Moment::ZERO),
        direction,
        agenda: Agenda::new(scenario.events.clone()),
        samples: Vec::new(),
    };
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
    for (at, size) in offers {
        link.happen(at);
        if let Err(dropped) = link.pipe.push(at, Packet { size, kind: Kind::Udp, payload: () }) {
            link.samples.push(lost(direction, &dropped));
        }
        link.take(at);
    }
    link.happen(Moment::ZERO + time);
    link.take(Moment::NEVER);
    link.samples
}

/// One direction under its events.
struct Link {
    pipe: Pipe<()>,
    direction: Direction,
    agenda: Agenda,
    samples: Vec<Sample>,
}

impl Link {
    /// Lets happen what is due by `now`, each at its own time.
    fn happen(&mut self, now: Moment) {
        while let Some(due) = self.agenda.next_due().filter(|due| Moment::ZERO + *due <= now) {
            let Some(event) = self.agenda.pop(due) else { return };
            let at = Moment::ZERO + due;
            self.take(at);
            match event.what {
                Happening::Udp(policy) => self.pipe.set_udp(at, policy),
                Happening::Capacity { up, down } => {
                    let [up, down] = [(Direction::Up, up), (Direction::Down, down)];
                    let mine = if self.direction == up.0 { up.1 } else { down.1 };
                    if let Some(capacity) = mine {
                        self.pipe.set_capacity(at, capacity);
                    }
                }
                // What they change is not the link, but who sends into it and from where.
                Happening::Rebind(_)
                | Happening::Link { .. }
                | Happening::Carrier { .. }
                | Happening::Address { .. }
                | Happening::Prefer => {}
            }
        }
    }

    fn take(&mut self, now: Moment) {
        while let Some(event) = self.pipe.pop(now) {
            self.samples.push(match event {
                Event::Dropped(dropped) => lost(self.direction, &dropped),
                Event::Delivered(delivery) => Sample {
                    direction: self.direction,
                    offered: seconds(delivery.pushed),
                    bytes: delivery.packet.size,
                    end: End::Delivered { left: seconds(delivery.left), due: seconds(delivery.due) },
                },
            });
        }
    }
}

fn lost(direction: Direction, dropped: &Dropped<()>) -> Sample {
    Sample {
        direction,
        offered: seconds(dropped.pushed),
        bytes: dropped.packet.size,
        end: End::Dropped { at: seconds(dropped.at), cause: dropped.cause.name().into() },
    }
}

fn seconds(moment: Moment) -> f64 {
    moment.as_nanos() as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_log_is_read_wire_by_wire() {
        let text =
            "head\n10,1,lte0,up,0,29,udp,20,0,delivered,1,0,30,31\n10,1,lte0,down,0,29,udp,20,0,loss,0,0,,\n";
        let (wire, samples) = from_log(text, None, None).unwrap();
        assert_eq!(wire, (1, "lte0".into()));
        assert_eq!(samples[0].end, End::Delivered { left: 20e-6, due: 30e-6 });
        assert_eq!(samples[1].end, End::Dropped { at: 20e-6, cause: "loss".into() });
        let error = |text: &str, path| format!("{:#}", from_log(text, None, path).unwrap_err());
        assert!(error("head\nx\n", None).starts_with("line 2: "));
        let two = format!("{text}10,1,wlan0,down,0,29,udp,20,0,loss,0,0,,\n");
        assert!(error(&two, None).contains("one of 2: 1 lte0, 1 wlan0"), "{}", error(&two, None));
        assert_eq!(from_log(&two, Some(1), Some("wlan0")).unwrap().1.len(), 1);
        assert!(error(&two, Some("eth0")).contains("no packet"));
    }

    #[test]
    fn a_profile_is_simulated() {
        let samples = simulate(&Scenario::find("tunnel").unwrap(), 7, None, Duration::from_secs(20));
        assert_eq!(samples.len(), 2 * 20 * 50);
        let dropped = samples.iter().filter(|sample| matches!(sample.end, End::Dropped { .. })).count();
        assert!((380..440).contains(&dropped), "4 of 20 seconds are a tunnel: {dropped}");
    }

    #[test]
    fn events_change_what_is_simulated() {
        let text = "summary = 'x'\n[[event]]\nat = '2s'\ndo = 'udp-block'\n[[event]]\nat = '3s'\ndo = 'udp-pass'\n\
            [[event]]\nat = '5s'\ndo = 'capacity'\nrate = '8 kbit/s'\ndirection = 'up'\n";
        let scenario = Scenario::parse("x.toml", text, Path::new("")).unwrap();
        let samples = simulate(&scenario, 7, None, Duration::from_secs(6));
        let blocked: Vec<_> = samples
            .iter()
            .filter(|sample| matches!(&sample.end, End::Dropped { cause, .. } if cause == "udp-blocked"))
            .collect();
        assert_eq!(blocked.len(), 2 * 50);
        assert!(blocked.iter().all(|sample| (2.0..3.0).contains(&sample.offered)));
        let slow = |sample: &&Sample| matches!(sample.end, End::Delivered { left, .. } if left - sample.offered > 0.1);
        assert!(
            samples
                .iter()
                .filter(slow)
                .all(|sample| sample.direction == Direction::Up && sample.offered >= 5.0)
        );
        assert_eq!(samples.iter().filter(slow).count(), 50);
    }
}
