//! Two sessions with a wire between them that takes no time and loses nothing.

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use carriageway_proto::{BootId, Class, Epoch, Frame, Moment, SessionId};
use carriageway_transport::core::connection::{Capabilities, Channel, ConnectionId, Lanes, Transport};
use carriageway_transport::core::session::{self, Happening, Input, Output};
use carriageway_transport::core::{Greeting, Session};

/// The one connection.
const WIRE: ConnectionId = ConnectionId(1);

/// That of QUIC on an ordinary path.
const CAPABILITIES: Capabilities = Capabilities {
    transport: Transport::Quic,
    lanes: Lanes::Independent,
    datagram: Some(1_100),
    migrates: true,
};

/// The vehicle's boot.
pub(super) const VEHICLE_BOOT: BootId = BootId::from_bytes([1; 16]);

/// A vehicle's session and the gateway's session for it.
pub(super) struct Wire {
    pub(super) gateway: Session,
    pub(super) vehicle: Session,
}

/// What either side was told.
#[derive(Default)]
pub(super) struct Told {
    pub(super) gateway: Vec<Happening>,
    pub(super) vehicle: Vec<Happening>,
}

fn channels() -> impl Iterator<Item = Channel> {
    Class::ALL.into_iter().map(Channel::Lane).chain([Channel::Datagram])
}

impl Wire {
    /// A session that lives.
    pub(super) fn up(now: Moment) -> Result<Self> {
        let mut vehicle = Session::connecting(session::Config::default(), VEHICLE_BOOT, Epoch::NONE);
        let why = "a measurement".to_owned();
        vehicle.handle(now, Input::Opened { connection: WIRE, capabilities: CAPABILITIES, why });
        channels().for_each(|channel| vehicle.handle(now, Input::Room(WIRE, channel)));
        let Output::Transmit(_, channel, hello) = vehicle.poll(now) else {
            bail!("a session begins with its hello")
        };
        vehicle.handle(now, Input::Room(WIRE, channel));
        let (clock, Frame::Hello(hello)) = Frame::decode(hello)? else {
            bail!("a session begins with its hello")
        };
        let boot = BootId::from_bytes([2; 16]);
        let epoch = Epoch::NONE.next();
        let mut gateway =
            Session::accepting(session::Config::default(), boot, SessionId::from_bytes([3; 16]), epoch);
        let greeting = Greeting { hello, clock, arrived: now };
        gateway.handle(now, Input::Greeted { connection: WIRE, capabilities: CAPABILITIES, greeting });
        channels().for_each(|channel| gateway.handle(now, Input::Room(WIRE, channel)));
        let mut wire = Self { gateway, vehicle };
        let told = wire.carry(now);
        let lives = |told: &[Happening]| told.iter().any(|one| matches!(one, Happening::Established { .. }));
        if !lives(&told.gateway) || !lives(&told.vehicle) {
            bail!("the two sessions did not come to an understanding");
        }
        Ok(wire)
    }

    /// Lets time pass on both sides.
    pub(super) fn tick(&mut self, now: Moment) {
        self.gateway.handle(now, Input::Tick);
        self.vehicle.handle(now, Input::Tick);
    }

    /// Carries all that either side has for the other, and gives what they were told.
    pub(super) fn carry(&mut self, now: Moment) -> Told {
        let mut told = Told::default();
        loop {
            let down = pass(now, &mut self.gateway, &mut self.vehicle, &mut told.gateway);
            let up = pass(now, &mut self.vehicle, &mut self.gateway, &mut told.vehicle);
            if !down && !up {
                return told;
            }
        }
    }

    /// A message in each direction, as a command and its outcome are.
    pub(super) fn exchange(&mut self, now: Moment, down: Bytes, up: Bytes) -> Result<()> {
        self.gateway.send(Class::Body, down, None).context("the lane down")?;
        arrived(&self.carry(now).vehicle)?;
        self.vehicle.send(Class::Body, up, None).context("the lane up")?;
        arrived(&self.carry(now).gateway)
    }
}

fn arrived(told: &[Happening]) -> Result<()> {
    let has = told.iter().any(|one| matches!(one, Happening::Message { .. }));
    if has { Ok(()) } else { bail!("a message got lost between two cores") }
}

/// Everything that `from` has. True where anything went.
fn pass(now: Moment, from: &mut Session, to: &mut Session, told: &mut Vec<Happening>) -> bool {
    let mut any = false;
    loop {
        match from.poll(now) {
            Output::Transmit(connection, channel, frame) => {
                any = true;
                to.handle(now, Input::Frame(connection, channel, frame));
                from.handle(now, Input::Room(connection, channel));
            }
            Output::Happened(happening) => told.push(happening),
            Output::Close(_, _, _) | Output::Wait(_) => return any,
        }
    }
}
