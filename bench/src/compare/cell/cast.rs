//! Everybody in a cell: every vehicle, and the gateway's end for each.

use carriageway_netem::testbed::SERVER;
use tokio::sync::{mpsc, watch};

use super::crew::Ready;
use super::spec::{Side, Spec};
use crate::compare::subjects::{End, Notes, Papers};
use crate::compare::timeline::Timeline;
use crate::compare::virtual_time::Place;
use crate::compare::workload::{Ear, Feed, Heard, Manner, Shed, seed_of};

/// Both ends of every vehicle's link, and what tells them to stop.
pub(super) struct Cast {
    pairs: Vec<Pair>,
    stop: watch::Sender<bool>,
    notes: Notes,
}

/// Both ends of one vehicle's link.
struct Pair {
    papers: Papers,
    seed: u64,
    /// What goes up, and what goes down.
    feeds: [Feed; 2],
    /// What the vehicle hears, and what the gateway hears of it.
    ears: [Ear; 2],
}

impl Cast {
    /// One pair for each set of papers, in the order of the vehicles' numbers.
    pub(super) fn new(spec: &Spec, manner: Manner, papers: Vec<Papers>, timeline: &Timeline) -> Self {
        let pair = |(number, papers)| {
            let feeds = [Feed::new(manner), Feed::new(manner)];
            let ear = |feed: &Feed| Ear::new(timeline.clone(), feed.clone()).of_vehicle(number);
            Pair { papers, seed: seed_of(spec.seed, number), ears: feeds.each_ref().map(ear), feeds }
        };
        let pairs = spec.workload.numbers().zip(papers).map(pair).collect();
        Self { pairs, stop: watch::Sender::new(false), notes: Notes::default() }
    }

    /// Its ends, in the order of the vehicles' numbers, and where each says that it is ready.
    pub(super) fn ends(&self, side: Side) -> (Vec<End>, Vec<Ready>) {
        let place = match side {
            Side::Vehicle => 0,
            Side::Gateway => 1,
        };
        let end = |pair: &Pair| {
            let (ready, is_ready) = mpsc::channel(1);
            let end = End {
                feed: pair.feeds[place].clone(),
                ear: pair.ears[place].clone(),
                papers: pair.papers.clone(),
                host: SERVER,
                seed: pair.seed,
                place: Place::Kernel,
                ready,
                stop: self.stop.subscribe(),
                notes: self.notes.clone(),
            };
            (end, is_ready)
        };
        self.pairs.iter().map(end).unzip()
    }

    /// Of what goes up and of what goes down, in the order of the vehicles' numbers.
    pub(super) fn feeds(&self) -> Vec<[Feed; 2]> {
        self.pairs.iter().map(|pair| pair.feeds.clone()).collect()
    }

    /// All that arrived so far: vehicle by vehicle, what the gateway heard before what the vehicle did.
    pub(super) fn heard(&self) -> Vec<Heard> {
        self.pairs.iter().flat_map(|pair| pair.ears.iter().rev()).flat_map(Ear::take).collect()
    }

    /// What never reached the subject, up and down.
    pub(super) fn shed(&self) -> [Shed; 2] {
        [0, 1].map(|way| {
            let each = self.pairs.iter().map(|pair| pair.feeds[way].shed());
            each.fold(Shed::default(), |all, one| all + one)
        })
    }

    /// Tells all of them that the run is over.
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// What they said of themselves.
    pub(super) const fn notes(&self) -> &Notes {
        &self.notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::workload::{Kind, Message, Workload};

    fn spec(subject: &str, vehicles: u16) -> Spec {
        let spec = serde_json::json!({
            "name": "a", "subject": subject, "label": subject,
            "link": { "name": "l", "profile": "clean", "trace": null },
            "workload": Workload { vehicles, ..Workload::default() },
            "block": 1, "seed": 4_001, "realtime": false, "attempt": 1, "folder": "/nowhere",
        });
        serde_json::from_value(spec).unwrap()
    }

    fn cast(subject: &str, vehicles: u16) -> Cast {
        let papers = (1..=vehicles).map(|number| Papers::of_fleet("none".into(), number)).collect();
        Cast::new(&spec(subject, vehicles), Manner::AsTheyCome, papers, &Timeline::starting_now())
    }

    #[test]
    fn every_vehicle_has_a_seed_of_its_own_and_the_same_for_every_subject() {
        let seeds = |subject, vehicles, side| {
            cast(subject, vehicles).ends(side).0.iter().map(|end| end.seed).collect::<Vec<_>>()
        };
        let ours = seeds("quic-cubic", 5, Side::Vehicle);
        assert_eq!(ours[0], 4_001, "the first is as if alone");
        assert!((1..5).all(|one| !ours[..one].contains(&ours[one])), "{ours:?}");
        assert_eq!(ours, seeds("tcp-two-bbr", 5, Side::Vehicle));
        assert_eq!(ours, seeds("quic-cubic", 5, Side::Gateway));
        assert_eq!(ours[..2], seeds("quic-cubic", 2, Side::Vehicle), "however many others there are");
    }

    #[test]
    fn both_ends_of_a_link_are_of_one_vehicle_and_of_no_other() {
        let cast = cast("quic-cubic", 3);
        let [vehicles, gateway] = [Side::Vehicle, Side::Gateway].map(|side| cast.ends(side).0);
        for (end, other) in vehicles.iter().zip(&gateway) {
            assert_eq!(end.vehicle(), other.vehicle());
        }
        vehicles[1].ear.hear(&Message::new(Kind::Command, 0).encode()).unwrap();
        gateway[2].ear.hear(&Message::new(Kind::Telemetry, 0).encode()).unwrap();
        assert_eq!(vehicles[1].feed.try_next().map(|message| message.kind), Some(Kind::Ack));
        assert!(cast.feeds().iter().flatten().all(|feed| feed.try_next().is_none()), "no other answers");
        let heard: Vec<_> = cast.heard().iter().map(|heard| (heard.vehicle, heard.kind)).collect();
        assert_eq!(heard, [(2, Kind::Command), (3, Kind::Telemetry)]);
    }
}
