//! Frames: what passes between two peers, decoded and checked.

use bytes::Bytes;
use prost::Message as _;
use thiserror::Error;

use crate::class::Class;
use crate::close::CloseCode;
use crate::control::ControlFrame;
use crate::id::{BootId, Epoch, SessionId};
use crate::scan;
use crate::time::{Moment, Stamp};
use crate::value::{SignalPath, Value};
use crate::wire;

/// How far lanes have been received: each class at most once, absent ones at 0.
pub type Received = Vec<(Class, u64)>;

/// One frame.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// First from the connecting side.
    Hello(Hello),
    /// The accepting side's answer.
    Welcome(Welcome),
    /// Liveness, round trip and clock.
    Heartbeat(Heartbeat),
    /// What has arrived.
    Ack(Ack),
    /// Names the class of a lane's stream.
    Open(Class),
    /// One message of a lane.
    Lane {
        /// The lane.
        class: Class,
        /// From 1, without holes.
        sequence: u64,
        /// An encoded [`crate::Message`].
        payload: Bytes,
    },
    /// Frames of a lane that outlived their ttl.
    Gap {
        /// The lane.
        class: Class,
        /// Everything up to here that has not arrived never will.
        through: u64,
    },
    /// Values of which only the newest matters.
    Signals(Vec<Signal>),
    /// The end of this connection.
    Goodbye(Goodbye),
    /// Control of the vehicle, of which only the newest matters.
    Control(ControlFrame),
}

/// See the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Protocol version.
    pub version: u32,
    /// The sender's clock and boot.
    pub stamp: Stamp,
    /// The session to resume.
    pub session: Option<SessionId>,
    /// The highest epoch the sender has held.
    pub epoch: Epoch,
    /// What the sender has received on that session's lanes.
    pub received: Received,
    /// For people; cut to 64 bytes.
    pub software: String,
    /// For people; cut to 128 bytes.
    pub reason: String,
}

/// See the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// Protocol version.
    pub version: u32,
    /// The session that this connection now carries.
    pub session: SessionId,
    /// Its epoch.
    pub epoch: Epoch,
    /// Whether it is the session the hello asked for.
    pub resumed: bool,
    /// What the sender has received on its lanes.
    pub received: Received,
    /// The sender's clock and boot.
    pub stamp: Stamp,
}

/// See the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Counts per connection and direction.
    pub sequence: u64,
    /// The other side's last heartbeat.
    pub echo: Option<Echo>,
}

/// See the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// The heartbeat echoed.
    pub sequence: u64,
    /// How long it was held, in microseconds.
    pub held_us: u64,
}

/// See the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Cumulative, per lane.
    pub received: Received,
    /// Arrival of the newest bulk frame named, by the receiver's clock.
    pub bulk_arrival: Option<Moment>,
}

/// See the schema.
#[derive(Clone, Debug, PartialEq)]
pub struct Signal {
    /// What the value is of.
    pub path: SignalPath,
    /// Rises per path within the session.
    pub sequence: u64,
    /// The value.
    pub value: Value,
    /// Time it waited at the sender, in microseconds.
    pub waited_us: u64,
}

/// See the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goodbye {
    /// Why.
    pub code: CloseCode,
    /// For people; cut to 128 bytes.
    pub reason: String,
    /// Least wait before connecting again, in milliseconds; 0: at the peer's discretion.
    pub retry_after_ms: u32,
}

/// Why bytes are no frame.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Not protobuf, or of another shape.
    #[error("not an envelope: {0}")]
    Protobuf(String),
    /// Would allocate out of proportion.
    #[error(transparent)]
    Unbounded(#[from] scan::Unbounded),
    /// No body, or one this version does not know.
    #[error("an envelope with no body known to this version")]
    NoBody,
    /// A field that must be there is absent or out of its range.
    #[error("{0} is absent or out of range")]
    Field(&'static str),
}

impl Frame {
    /// Decodes one frame and the sender's clock at the time it was encoded. Terminates on any bytes
    /// without panic and allocates at most four times their length plus 64 KiB.
    pub fn decode(bytes: Bytes) -> Result<(Moment, Self), DecodeError> {
        scan::bounded(&bytes)?;
        let envelope = wire::Envelope::decode(bytes).map_err(|e| DecodeError::Protobuf(e.to_string()))?;
        let frame = Self::try_from(envelope.body.ok_or(DecodeError::NoBody)?)?;
        Ok((Moment::from_micros(envelope.clock_us), frame))
    }

    /// Encodes the frame, stamped with the sender's `clock`.
    pub fn encode(&self, clock: Moment) -> Bytes {
        wire::Envelope { clock_us: clock.as_micros(), body: Some(self.into()) }.encode_to_vec().into()
    }
}

use wire::envelope::Body;

impl TryFrom<Body> for Frame {
    type Error = DecodeError;

    fn try_from(body: Body) -> Result<Self, DecodeError> {
        Ok(match body {
            Body::Hello(hello) => Self::Hello(hello.try_into()?),
            Body::Welcome(welcome) => Self::Welcome(welcome.try_into()?),
            Body::Heartbeat(wire::Heartbeat { sequence, echo }) => Self::Heartbeat(Heartbeat {
                sequence,
                echo: echo.map(|echo| Echo { sequence: echo.sequence, held_us: echo.held_us }),
            }),
            Body::Ack(wire::Ack { lanes, bulk_arrival_us }) => Self::Ack(Ack {
                received: received(lanes)?,
                bulk_arrival: (bulk_arrival_us != 0).then(|| Moment::from_micros(bulk_arrival_us)),
            }),
            Body::Open(open) => Self::Open(class(open.class)?),
            Body::Lane(lane) => Self::Lane {
                class: class(lane.class)?,
                sequence: count(lane.sequence)?,
                payload: lane.payload,
            },
            Body::Gap(gap) => Self::Gap { class: class(gap.class)?, through: count(gap.through)? },
            Body::Signals(frame) => {
                Self::Signals(frame.signals.into_iter().map(Signal::try_from).collect::<Result<_, _>>()?)
            }
            Body::Goodbye(goodbye) => Self::Goodbye(Goodbye {
                code: CloseCode::from_number(goodbye.code),
                reason: cut(goodbye.reason, 128),
                retry_after_ms: goodbye.retry_after_ms,
            }),
            Body::Control(control) => Self::Control(control.try_into()?),
        })
    }
}

impl From<&Frame> for Body {
    fn from(frame: &Frame) -> Self {
        match frame {
            Frame::Hello(hello) => Self::Hello(hello.into()),
            Frame::Welcome(welcome) => Self::Welcome(welcome.into()),
            Frame::Heartbeat(Heartbeat { sequence, echo }) => Self::Heartbeat(wire::Heartbeat {
                sequence: *sequence,
                echo: echo.map(|echo| wire::Echo { sequence: echo.sequence, held_us: echo.held_us }),
            }),
            Frame::Ack(ack) => Self::Ack(wire::Ack {
                lanes: lane_states(&ack.received),
                bulk_arrival_us: ack.bulk_arrival.map_or(0, Moment::as_micros),
            }),
            Frame::Open(class) => Self::Open(wire::LaneOpen { class: number(*class) }),
            Frame::Lane { class, sequence, payload } => Self::Lane(wire::LaneFrame {
                class: number(*class),
                sequence: *sequence,
                payload: payload.clone(),
            }),
            Frame::Gap { class, through } => {
                Self::Gap(wire::LaneGap { class: number(*class), through: *through })
            }
            Frame::Signals(signals) => {
                Self::Signals(wire::SignalFrame { signals: signals.iter().map(Into::into).collect() })
            }
            Frame::Goodbye(goodbye) => Self::Goodbye(wire::Goodbye {
                code: goodbye.code.number(),
                reason: cut(goodbye.reason.clone(), 128),
                retry_after_ms: goodbye.retry_after_ms,
            }),
            Frame::Control(control) => Self::Control(control.into()),
        }
    }
}

impl TryFrom<wire::Hello> for Hello {
    type Error = DecodeError;

    fn try_from(hello: wire::Hello) -> Result<Self, DecodeError> {
        let epoch = Epoch::new(hello.epoch);
        Ok(Self {
            version: hello.version,
            stamp: stamp(hello.clock)?,
            session: if hello.session_id.is_empty() { None } else { Some(session(&hello.session_id)?) },
            epoch: if epoch < Epoch::LIMIT { epoch } else { return Err(DecodeError::Field("epoch")) },
            received: received(hello.lanes)?,
            software: cut(hello.software, 64),
            reason: cut(hello.reason, 128),
        })
    }
}

impl From<&Hello> for wire::Hello {
    fn from(hello: &Hello) -> Self {
        Self {
            version: hello.version,
            clock: Some((&hello.stamp).into()),
            session_id: hello.session.map_or_else(Bytes::new, |id| Bytes::copy_from_slice(id.as_bytes())),
            epoch: hello.epoch.number(),
            lanes: lane_states(&hello.received),
            software: cut(hello.software.clone(), 64),
            reason: cut(hello.reason.clone(), 128),
        }
    }
}

impl TryFrom<wire::Welcome> for Welcome {
    type Error = DecodeError;

    fn try_from(welcome: wire::Welcome) -> Result<Self, DecodeError> {
        Ok(Self {
            version: welcome.version,
            session: session(&welcome.session_id)?,
            epoch: Epoch::new(welcome.epoch),
            resumed: welcome.resumed,
            received: received(welcome.lanes)?,
            stamp: stamp(welcome.clock)?,
        })
    }
}

impl From<&Welcome> for wire::Welcome {
    fn from(welcome: &Welcome) -> Self {
        Self {
            version: welcome.version,
            session_id: Bytes::copy_from_slice(welcome.session.as_bytes()),
            epoch: welcome.epoch.number(),
            resumed: welcome.resumed,
            lanes: lane_states(&welcome.received),
            clock: Some((&welcome.stamp).into()),
        }
    }
}

impl TryFrom<wire::Signal> for Signal {
    type Error = DecodeError;

    fn try_from(signal: wire::Signal) -> Result<Self, DecodeError> {
        Ok(Self {
            path: signal.path.parse().map_err(|_| DecodeError::Field("signal path"))?,
            sequence: count(signal.sequence)?,
            value: signal
                .value
                .and_then(|value| value.try_into().ok())
                .ok_or(DecodeError::Field("signal value"))?,
            waited_us: signal.waited_us,
        })
    }
}

impl From<&Signal> for wire::Signal {
    fn from(signal: &Signal) -> Self {
        Self {
            path: signal.path.as_str().into(),
            sequence: signal.sequence,
            value: Some((&signal.value).into()),
            waited_us: signal.waited_us,
        }
    }
}

impl From<&Stamp> for wire::Stamp {
    fn from(stamp: &Stamp) -> Self {
        Self { boot_id: Bytes::copy_from_slice(stamp.boot.as_bytes()), clock_us: stamp.clock.as_micros() }
    }
}

/// A stamp that must be there.
pub(crate) fn stamp(stamp: Option<wire::Stamp>) -> Result<Stamp, DecodeError> {
    let absent = DecodeError::Field("stamp");
    let stamp = stamp.ok_or(absent.clone())?;
    let boot = <[u8; 16]>::try_from(&stamp.boot_id[..]).map_err(|_| absent)?;
    Ok(Stamp { boot: BootId::from_bytes(boot), clock: Moment::from_micros(stamp.clock_us) })
}

fn session(bytes: &[u8]) -> Result<SessionId, DecodeError> {
    bytes.try_into().map(SessionId::from_bytes).map_err(|_| DecodeError::Field("session id"))
}

fn class(number: i32) -> Result<Class, DecodeError> {
    Class::try_from(number).map_err(|_| DecodeError::Field("class"))
}

/// The wire number of a class.
pub(crate) fn number(class: Class) -> i32 {
    wire::Class::from(class) as i32
}

/// A sequence that counts from 1.
fn count(sequence: u64) -> Result<u64, DecodeError> {
    if sequence > 0 { Ok(sequence) } else { Err(DecodeError::Field("sequence")) }
}

/// Lanes of classes this build does not know are passed over: it opened none of them.
fn received(lanes: Vec<wire::LaneState>) -> Result<Received, DecodeError> {
    let mut received = Received::with_capacity(lanes.len().min(Class::ALL.len()));
    for lane in lanes {
        let Ok(class) = Class::try_from(lane.class) else { continue };
        if received.iter().any(|(seen, _)| *seen == class) {
            return Err(DecodeError::Field("lane state, once per class"));
        }
        received.push((class, lane.received));
    }
    Ok(received)
}

fn lane_states(received: &Received) -> Vec<wire::LaneState> {
    received
        .iter()
        .map(|(class, received)| wire::LaneState { class: number(*class), received: *received })
        .collect()
}

/// The longest prefix of `text` that has at most `max` bytes.
pub(crate) fn cut(mut text: String, max: usize) -> String {
    let end = (0..=max.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text.truncate(end);
    text
}
