//! BOUND for what is in flight at a gateway: one command per target, and of what waited for its vehicle one per
//! class. An emergency stop is never held.

use std::collections::BTreeMap;

use super::book::Book;
use super::event::{Event, Name, What, is_end};

#[derive(Debug)]
struct Away {
    vehicle: Name,
    class: Name,
    path: Name,
    waited: bool,
}

#[derive(Debug, Default)]
pub(super) struct Flight {
    /// By gateway and record: sent, and not ended.
    away: BTreeMap<(Name, Name), Away>,
}

impl super::Rule for Flight {
    fn invariant(&self) -> &'static str {
        "BOUND"
    }

    fn look(&mut self, event: &Event, _: &Book) -> Option<String> {
        let place = |id: &Name| (event.node.clone(), id.clone());
        if event.what == What::Died {
            self.away.retain(|(node, _), _| *node != event.node);
        } else if let What::Unsent { id, .. } | What::Over { id } = &event.what {
            self.away.remove(&place(id));
        } else if let What::Phase { id, phase, .. } = &event.what
            && is_end(phase)
        {
            self.away.remove(&place(id));
        }
        let What::Sent { vehicle, id, class, path, waited } = &event.what else { return None };
        if &**class == "safety" {
            return None;
        }
        let of_class = |(other, away): &(&(Name, Name), &Away)| {
            **other != place(id)
                && other.0 == event.node
                && away.vehicle == *vehicle
                && away.class == *class
                && (*waited && away.waited || away.path == *path)
        };
        let other = self.away.iter().find(of_class).map(|((_, other), _)| other.clone());
        let (vehicle, class, path) = (vehicle.clone(), class.clone(), path.clone());
        self.away.insert(place(id), Away { vehicle, class, path, waited: *waited });
        other.map(|other| format!("record {id} was sent while record {other} was in flight"))
    }
}
