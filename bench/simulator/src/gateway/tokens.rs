//! The tokens of leases on a gateway's disk: written one after the other, each durable or lost in a crash.

use std::collections::{BTreeMap, VecDeque};

use carriageway_proto::{Token, VehicleId};

use crate::chance::Chance;

#[derive(Debug, Default)]
pub(super) struct Tokens {
    kept: BTreeMap<VehicleId, Token>,
    writing: VecDeque<(VehicleId, Token)>,
}

impl Tokens {
    pub(super) fn begin(&mut self, vehicle: VehicleId, token: Token) {
        self.writing.push_back((vehicle, token));
    }

    /// The oldest write is done, or has failed.
    pub(super) fn finish(&mut self, kept: bool) -> Option<(VehicleId, Token)> {
        let (vehicle, token) = self.writing.pop_front()?;
        if kept {
            self.keep(vehicle.clone(), token);
        }
        Some((vehicle, token))
    }

    /// The process is gone: what of its writes came to the disk.
    pub(super) fn crash(&mut self, chance: &mut Chance) -> Vec<(VehicleId, Token)> {
        let mut kept = Vec::new();
        for (vehicle, token) in std::mem::take(&mut self.writing) {
            if !chance.percent(50) {
                break;
            }
            self.keep(vehicle.clone(), token);
            kept.push((vehicle, token));
        }
        kept
    }

    fn keep(&mut self, vehicle: VehicleId, token: Token) {
        let kept = self.kept.entry(vehicle).or_insert(token);
        *kept = token.max(*kept);
    }

    /// Everything it holds.
    pub(super) fn load(&self) -> impl Iterator<Item = (VehicleId, Token)> {
        self.kept.iter().map(|(vehicle, token)| (vehicle.clone(), *token))
    }
}
