//! WATCHDOG, too: only control that is whole, newest and under its own lease feeds, and nothing but a re-arm of
//! the safe state in force and five neutral states arm the vehicle.
//!
//! What a log does not say is not judged: control without a fingerprint, safe states without a nonce.

use std::collections::BTreeMap;

use super::book::Book;
use super::event::{Event, Name, What};

/// Good neutral states that arm a vehicle.
const NEUTRAL: u32 = 5;

/// Since a vehicle's process began.
#[derive(Debug, Default)]
struct Vehicle {
    /// Of the safe state in force.
    nonce: u64,
    /// A re-arm of it was taken, and so many neutral states in a row were accepted since.
    row: Option<u32>,
    armed: bool,
    /// The highest counter accepted, by token.
    counters: BTreeMap<u64, u64>,
}

#[derive(Debug, Default)]
pub(super) struct Fed(BTreeMap<Name, Vehicle>);

impl super::Rule for Fed {
    fn invariant(&self) -> &'static str {
        "WATCHDOG"
    }

    fn look(&mut self, event: &Event, book: &Book) -> Option<String> {
        let node = &event.node;
        match &event.what {
            What::Died => {
                self.0.remove(node);
                None
            }
            What::Driving { armed: false, nonce, .. } => {
                let vehicle = self.0.entry(node.clone()).or_default();
                (vehicle.nonce, vehicle.row, vehicle.armed) = (*nonce, None, false);
                None
            }
            What::Rearmed { nonce, .. } => {
                let vehicle = self.0.entry(node.clone()).or_default();
                let is_meant = std::mem::take(&mut vehicle.nonce) == *nonce;
                vehicle.row = Some(0);
                (!is_meant).then(|| "the vehicle was re-armed from a safe state that was not meant".into())
            }
            What::Driving { armed: true, .. } => self.0.get_mut(node)?.arms(),
            What::Controlled { token, print } if *print > 0 => self.feeds(book, node, *token, *print),
            _ => None,
        }
    }
}

impl Fed {
    fn feeds(&mut self, book: &Book, node: &Name, token: u64, print: u64) -> Option<String> {
        let Some(made) = book.steered(node, print).filter(|made| made.token == token) else {
            return Some("control was accepted that nobody made like this for this vehicle".into());
        };
        let vehicle = self.0.entry(node.clone()).or_default();
        let last = vehicle.counters.entry(token).or_default();
        if made.counter <= *last {
            return Some(format!("control {} was accepted after {last}", made.counter));
        }
        *last = made.counter;
        match &mut vehicle.row {
            Some(row) if made.neutral => *row += 1,
            Some(row) => *row = 0,
            None if vehicle.armed => {}
            None => return Some("control was accepted in the safe state".into()),
        }
        None
    }
}

impl Vehicle {
    fn arms(&mut self) -> Option<String> {
        self.armed = true;
        match self.row.take() {
            None => Some("the vehicle was armed without a re-arm".into()),
            Some(row) if row < NEUTRAL => Some(format!("the vehicle was armed after {row} neutral states")),
            Some(_) => None,
        }
    }
}
