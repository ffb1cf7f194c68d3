//! DRAIN: whom a gateway on its way out sends away in time has nothing under way there, and is sent nothing more: a
//! drain makes nothing UNKNOWN.

use std::collections::{BTreeMap, BTreeSet};

use super::book::Book;
use super::event::{Event, Name, What, is_end};

/// A gateway and one of its vehicles.
type Place = (Name, Name);

#[derive(Debug, Default)]
pub(super) struct SentAway {
    /// Sent, and not known to have ended.
    under_way: BTreeMap<Place, BTreeSet<Name>>,
    gone: BTreeSet<Place>,
}

impl super::Rule for SentAway {
    fn invariant(&self) -> &'static str {
        "DRAIN"
    }

    fn look(&mut self, event: &Event, _: &Book) -> Option<String> {
        let place = |vehicle: &Name| (event.node.clone(), vehicle.clone());
        if let What::Sent { vehicle, id, .. } = &event.what {
            self.under_way.entry(place(vehicle)).or_default().insert(id.clone());
            let is_gone = self.gone.contains(&place(vehicle));
            return is_gone.then(|| format!("record {id} was sent to {vehicle}, which had been sent away"));
        } else if let What::Unsent { id, .. } | What::Over { id } = &event.what {
            self.ended(&event.node, id);
        } else if let What::Phase { id, phase, .. } = &event.what {
            if is_end(phase) {
                self.ended(&event.node, id);
            }
        } else if event.what == What::Died {
            self.under_way.retain(|(gateway, _), _| *gateway != event.node);
            self.gone.retain(|(gateway, _)| *gateway != event.node);
        } else if let What::SentAway { vehicle, in_time } = &event.what {
            self.gone.insert(place(vehicle));
            let left = self.under_way.get(&place(vehicle)).and_then(BTreeSet::first).filter(|_| *in_time)?;
            return Some(format!("{vehicle} was sent away while record {left} was under way"));
        }
        None
    }
}

impl SentAway {
    fn ended(&mut self, gateway: &Name, id: &Name) {
        let of_gateway = self.under_way.iter_mut().filter(|((node, _), _)| node == gateway);
        for (_, under_way) in of_gateway {
            under_way.remove(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Rule as _;
    use super::*;

    fn breaks(events: Vec<What>) -> bool {
        let (mut rule, book) = (SentAway::default(), Book::default());
        let event = |(at, what)| Event { at, node: "g".into(), what };
        (0..).zip(events).map(event).any(|event| rule.look(&event, &book).is_some())
    }

    fn sent() -> What {
        let (vehicle, id, class, path) = ("v".into(), "r".into(), "body".into(), "A.B".into());
        What::Sent { vehicle, id, class, path, waited: false }
    }

    fn away(in_time: bool) -> What {
        What::SentAway { vehicle: "v".into(), in_time }
    }

    #[test]
    fn whom_a_drain_lets_go_in_time_has_nothing_under_way() {
        let over = || What::Over { id: "r".into() };
        assert!(breaks(vec![sent(), away(true)]));
        assert!(!breaks(vec![sent(), over(), away(true)]), "it has ended");
        assert!(!breaks(vec![sent(), away(false)]), "the drain's time is over");
        assert!(breaks(vec![away(true), sent()]), "nothing is sent after that");
        assert!(!breaks(vec![away(true), What::Died, sent()]), "by another process");
    }
}
