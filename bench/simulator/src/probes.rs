//! Numbered messages on two lanes, both ways: what LANE is checked by.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use carriageway_proto::{Class, Moment};
use carriageway_transport::core::Session;
use carriageway_transport::core::lane::{Fate, Ticket};

use crate::air::Air;
use crate::checker::{LaneFate, Name, What};
use crate::host::Host;
use crate::plan::SECOND;

const LANES: [Class; 2] = [Class::Diagnostics, Class::Bulk];

/// True of the lanes that carry probes and nothing else here.
pub(crate) fn carries(class: Class) -> bool {
    LANES.contains(&class)
}

/// One sender's probes.
#[derive(Debug)]
pub(crate) struct Probes {
    direction: &'static str,
    /// Names the sender: numbers of two senders are not compared.
    sender: String,
    number: u64,
    under_way: BTreeMap<Ticket, (Class, u64)>,
    next_at: Moment,
}

impl Probes {
    pub(crate) fn new(direction: &'static str, sender: String, now: Moment) -> Self {
        Self {
            direction,
            sender,
            number: 0,
            under_way: BTreeMap::new(),
            next_at: now + Duration::from_secs(1),
        }
    }

    pub(crate) fn wakes_at(&self) -> Moment {
        self.next_at
    }

    fn lane(&self, class: Class) -> Name {
        format!("{class} {} {}", self.direction, self.sender).into()
    }

    /// Sends a few, where it is time. `of` is the sender and the session's vehicle.
    pub(crate) fn send(
        &mut self,
        now: Moment,
        session: &mut Session,
        air: &mut Air,
        of: (&Name, &Name),
        host: &Host,
    ) {
        if now < self.next_at {
            return;
        }
        self.next_at = now + Duration::from_micros(air.chance.between(SECOND, 12 * SECOND));
        for _ in 0..air.chance.between(1, 3) {
            let class = air.chance.pick(&LANES);
            let ttl = air.chance.pick(&[None, Some(SECOND / 2), Some(3 * SECOND), Some(8 * SECOND)]);
            let expires = ttl.map(|ttl| now + Duration::from_micros(ttl));
            let payload = Bytes::from(format!("{}:{}", self.sender, self.number + 1));
            let Ok(ticket) = session.send(class, payload, expires) else { continue };
            self.number += 1;
            self.under_way.insert(ticket, (class, self.number));
            let (lane, number) = (self.lane(class), self.number);
            // A clock that goes backwards moves the end; nothing is promised of that.
            let expires = expires.filter(|_| !air.plan.has_jumps()).map(|at| host.when(at, air.now));
            air.tell(of.0, What::Handed { vehicle: of.1.clone(), lane, number, expires });
        }
    }

    /// What became of one; false where `ticket` is none of these.
    pub(crate) fn settled(&mut self, air: &mut Air, of: (&Name, &Name), ticket: Ticket, fate: Fate) -> bool {
        let Some((class, number)) = self.under_way.remove(&ticket) else { return false };
        let fate = match fate {
            Fate::Acknowledged => LaneFate::Acknowledged,
            Fate::Expired { sent } => LaneFate::Expired { sent },
            Fate::Lost { sent } => LaneFate::Lost { sent },
        };
        let (vehicle, lane) = (of.1.clone(), self.lane(class));
        air.tell(of.0, What::Settled { vehicle, lane, number, fate });
        true
    }
}

/// One came out at `node`, of a session of `(vehicle, epoch)`.
pub(crate) fn delivered(air: &mut Air, node: &Name, of: (&Name, u64), lane: (Class, &str), payload: &[u8]) {
    let text = std::str::from_utf8(payload).ok().and_then(|text| text.split_once(':'));
    let Some((sender, Ok(number))) = text.map(|(sender, number)| (sender, number.parse())) else { return };
    let lane = format!("{} {} {sender}", lane.0, lane.1).into();
    air.tell(node, What::Delivered { vehicle: of.0.clone(), epoch: of.1, lane, number });
}
