//! Operators at the wheel, between their plans and the gateways.

use carriageway_proto::{ControlFrame, Frame, Stamp};
use carriageway_transport::core::connection::Channel;

use super::{World, home};
use crate::checker::What;
use crate::gateway::operator_name;
use crate::network::Side;
use crate::pilot::{Pilot, Report, Word};
use crate::plan::{Plan, REST, SECOND, final_drive};
use crate::queue::Task;

/// Somebody drives every vehicle once the world is healthy, and vanishes well before its end.
pub(super) fn add_final(plan: &mut Plan) {
    let at = plan.mix.horizon + REST - 50 * SECOND;
    if plan.is_driven {
        plan.drives.extend((0..plan.mix.vehicles).map(|vehicle| final_drive(vehicle, at)));
    }
}

impl World {
    pub(super) fn beat(&mut self, number: usize) {
        let Self { air, gateways, pilots, .. } = self;
        let drive = air.plan.drives[number].clone();
        let pilot = pilots[number].get_or_insert_with(|| {
            Pilot::new(drive.gateway.unwrap_or_else(|| home(air, gateways, drive.vehicle)))
        });
        let here = gateways[pilot.gateway].host.stamp(air.now);
        if air.now >= drive.span.1 {
            if let Some(word) = pilot.leave(&drive) {
                let task = Task::Word { drive: number, gateway: pilot.gateway, word: Box::new(word) };
                air.queue.push(air.now + drive.delay, task);
            }
            return;
        }
        // The floor under the gateway's clock lags by what the quickest answer took.
        let lag = std::time::Duration::from_micros(drive.delay / 4);
        let stamp = Stamp { clock: here.clock - lag, ..here };
        let (words, made) = pilot.beat(air.now, &drive, stamp, &mut air.chance);
        let gateway = pilot.gateway;
        if let Some(made) = made {
            let operator = operator_name(drive.operator).into();
            let vehicle = self.vehicles[drive.vehicle].name.clone();
            let what = What::Steered {
                vehicle,
                operator,
                token: made.token,
                counter: made.counter,
                print: made.print,
                neutral: made.neutral,
            };
            air.tell(&"world".into(), what);
        }
        for word in words {
            let at = air.now + drive.delay + air.chance.below(drive.delay / 2 + 1);
            air.queue.push(at, Task::Word { drive: number, gateway, word: Box::new(word) });
        }
        air.queue.push(air.now + drive.period, Task::Beat(number));
    }

    pub(super) fn word(&mut self, number: usize, gateway: usize, word: Word) {
        let drive = self.air.plan.drives[number].clone();
        self.gateways[gateway].word(&mut self.air, (number, &drive), word);
    }

    pub(super) fn report(&mut self, number: usize, report: Report) {
        if let Some(pilot) = &mut self.pilots[number] {
            pilot.hears(&self.air.plan.drives[number], report);
        }
    }

    /// A copy of control comes on a connection that the vehicle has with that gateway, or ever had.
    pub(super) fn stray(&mut self, (vehicle, gateway): (usize, usize), (sent, frame): (u64, ControlFrame)) {
        let Self { air, vehicles, gateways, .. } = self;
        if vehicles[vehicle].is_of_before(sent, frame.stamp) {
            return;
        }
        let open_only = air.chance.percent(70);
        let ways = |connection: &u32| {
            air.network.of(*connection).gateway == gateway
                && (!open_only || air.network.is_open(*connection, Side::Vehicle))
        };
        let connections: Vec<_> = air.network.ever_of(vehicle).into_iter().filter(ways).collect();
        if connections.is_empty() {
            return;
        }
        let connection = air.chance.pick(&connections);
        let is_shared = air.network.channels(connection).contains(&Channel::Shared);
        let channel = if is_shared { Channel::Shared } else { Channel::Datagram };
        let bytes = Frame::Control(frame).encode(gateways[gateway].host.read(air.now));
        vehicles[vehicle].frame(air, connection, channel, bytes);
    }
}
