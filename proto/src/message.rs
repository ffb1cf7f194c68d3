//! Messages: what lanes carry, decoded and checked.

use std::num::NonZeroU64;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use crate::class::Class;
use crate::desired::{Desired, StateReport};
use crate::drive::{DriveState, Lease, Rearm};
use crate::frame::{cut, number, stamp};
use crate::id::{CommandKey, Token};
use crate::scan;
use crate::time::{Stamp, micros};
use crate::value::{SignalPath, Value};
use crate::wire;

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// A request to reach a target state.
    Command(Command),
    /// What became of a command.
    Outcome(Outcome),
    /// A piece of a file.
    Chunk(Chunk),
    /// A wish to withdraw a command.
    Cancel(Cancel),
    /// Who may drive.
    Lease(Lease),
    /// A wish to leave the safe state.
    Rearm(Rearm),
    /// Whether the vehicle can be driven.
    DriveState(DriveState),
    /// What is to hold.
    Desired(Desired),
    /// How far the vehicle has come with that.
    StateReport(StateReport),
}

/// A request to reach a target state.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// The operator's idempotency key.
    pub key: CommandKey,
    /// The class whose lane and policy it takes.
    pub class: Class,
    /// What is to change.
    pub path: SignalPath,
    /// The target state.
    pub value: Value,
    /// Where its life began, by a floor under the vehicle's clock.
    pub stamp: Stamp,
    /// How long it lives from there.
    pub ttl: Duration,
    /// Who asked; at most 128 bytes.
    pub operator: String,
    /// The lease it acts under; `None`: none.
    pub token: Option<Token>,
    /// Rises with every command of its class that is handed to this vehicle, in every session (ORDER);
    /// 0: unordered.
    pub order: u64,
}

/// A wish to withdraw a command that has not acted yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cancel {
    /// The command's key.
    pub key: CommandKey,
    /// The command's class, whose lane it takes.
    pub class: Class,
    /// [`fingerprint`] of the command meant; `None`: whatever has this key.
    pub fingerprint: Option<NonZeroU64>,
}

/// What became of a command so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The command.
    pub key: CommandKey,
    /// How far it came.
    pub phase: Phase,
    /// Why it was rejected or failed.
    pub reason: Option<Reason>,
    /// For people; at most 256 bytes.
    pub detail: String,
    /// [`fingerprint`] of the command meant; `None` where it could not be read.
    pub fingerprint: Option<NonZeroU64>,
}

/// Tells two wishes under one key apart: FNV-1a (Fowler, Noll, Vo; 64 bits) over class, path and
/// encoded value. Whoever makes two of their own wishes collide fools themselves alone.
pub fn fingerprint(class: Class, path: &SignalPath, value: &Value) -> NonZeroU64 {
    let value = wire::Value::from(value).encode_to_vec();
    let class = [number(class) as u8];
    let bytes = class.iter().chain(path.as_str().as_bytes()).chain(&[0]).chain(&value);
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    NonZeroU64::new(hash).unwrap_or(NonZeroU64::MIN)
}

impl Command {
    /// What tells this wish from another under the same key.
    pub fn fingerprint(&self) -> NonZeroU64 {
        fingerprint(self.class, &self.path, &self.value)
    }
}

/// A piece of a file on the bulk lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Names the file; at most 128 bytes.
    pub name: String,
    /// Where in the file, in bytes.
    pub offset: u64,
    /// The bytes.
    pub data: Bytes,
    /// True of the last piece.
    pub last: bool,
}

/// An enum of the schema whose zero, the absent one, is none of ours.
macro_rules! wire_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// Every one, in the order of the schema.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name, as in HTTP, the journal and metrics.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }

            /// The one of this name.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.name() == name)
            }

            pub(crate) fn from_wire(number: i32) -> Option<Self> {
                match crate::wire::$name::try_from(number).ok()? {
                    crate::wire::$name::Unspecified => None,
                    $(crate::wire::$name::$variant => Some(Self::$variant),)*
                }
            }

            pub(crate) fn to_wire(self) -> i32 {
                (match self {
                    $(Self::$variant => crate::wire::$name::$variant,)*
                }) as i32
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

pub(crate) use wire_enum;

wire_enum!(
    /// How far a command came. Phases only rise, and there is one terminal phase per key, except
    /// that UNKNOWN may once be resolved by the vehicle's journal.
    Phase {
        /// Accepted by the gateway.
        Created = "CREATED",
        /// Waits for the vehicle.
        Queued = "QUEUED",
        /// Sent to the vehicle.
        Dispatched = "DISPATCHED",
        /// In the vehicle's journal.
        Received = "RECEIVED",
        /// The actuator moves.
        Executing = "EXECUTING",
        /// The vehicle's journal holds the effect.
        Succeeded = "SUCCEEDED",
        /// It was tried and did not work.
        Failed = "FAILED",
        /// It was refused; certainly not executed.
        Rejected = "REJECTED",
        /// Its ttl passed; certainly not executed.
        Expired = "EXPIRED",
        /// A newer target for the same thing won.
        Superseded = "SUPERSEDED",
        /// Withdrawn before it took effect.
        Canceled = "CANCELED",
        /// The vehicle may have acted.
        Unknown = "UNKNOWN",
    }
);

wire_enum!(
    /// Why a command was rejected or failed.
    Reason {
        /// Class, target or kind of value unknown to the vehicle.
        Unsupported = "UNSUPPORTED",
        /// Right kind, wrong range.
        OutOfRange = "OUT_OF_RANGE",
        /// The key was used with another command.
        KeyConflict = "KEY_CONFLICT",
        /// No room in the journal or at the actuator.
        Busy = "BUSY",
        /// Too many of this class.
        RateLimited = "RATE_LIMITED",
        /// The vehicle cannot tell how old it is.
        AgeUnknowable = "AGE_UNKNOWABLE",
        /// The vehicle's state forbids it now.
        NotPermitted = "NOT_PERMITTED",
        /// Something it must say is absent.
        Malformed = "MALFORMED",
        /// The actuator reported a fault.
        ActuatorFault = "ACTUATOR_FAULT",
        /// Another command has just brought about the same target.
        Duplicate = "DUPLICATE",
        /// The lease is not held, has ended, or a newer one has been granted.
        NoLease = "NO_LEASE",
    }
);

impl Phase {
    /// True where nothing more is to come, UNKNOWN's one resolution apart.
    pub const fn is_terminal(self) -> bool {
        match self {
            Self::Created | Self::Queued | Self::Dispatched | Self::Received | Self::Executing => false,
            Self::Succeeded
            | Self::Failed
            | Self::Rejected
            | Self::Expired
            | Self::Superseded
            | Self::Canceled
            | Self::Unknown => true,
        }
    }
}

/// Why a payload is no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    /// A command whose key can be read, so that it can be answered: it is to be rejected.
    #[error("command {key} is refused: {detail}")]
    Command {
        /// Its key.
        key: CommandKey,
        /// Why.
        reason: Reason,
        /// For people.
        detail: String,
    },
    /// Nothing that could be answered.
    #[error("not a message: {0}")]
    Unreadable(String),
}

use wire::message::Body;

impl Message {
    /// Decodes a lane's payload. Bounded as [`crate::Frame::decode`]; never "executes the default":
    /// a command that lacks anything is refused by name.
    pub fn decode(payload: Bytes) -> Result<Self, BadMessage> {
        let unreadable = |why: &str| BadMessage::Unreadable(why.into());
        scan::bounded_message(&payload).map_err(|e| unreadable(&e.to_string()))?;
        let message = wire::Message::decode(payload).map_err(|e| unreadable(&e.to_string()))?;
        match message.body.ok_or_else(|| unreadable("no body known to this version"))? {
            Body::Command(command) => Command::try_from(command).map(Self::Command),
            Body::Outcome(outcome) => Outcome::try_from(outcome).map(Self::Outcome).map_err(unreadable),
            Body::Chunk(chunk) if chunk.name.len() > 128 => Err(unreadable("chunk name too long")),
            Body::Chunk(wire::Chunk { name, offset, data, last }) => {
                Ok(Self::Chunk(Chunk { name, offset, data, last }))
            }
            Body::Cancel(cancel) => Cancel::try_from(cancel).map(Self::Cancel).map_err(unreadable),
            Body::Lease(lease) => lease.try_into().map(Self::Lease).map_err(unreadable),
            Body::Rearm(rearm) => rearm.try_into().map(Self::Rearm).map_err(unreadable),
            Body::DriveState(state) => state.try_into().map(Self::DriveState).map_err(unreadable),
            Body::Desired(desired) => desired.try_into().map(Self::Desired).map_err(unreadable),
            Body::StateReport(report) => report.try_into().map(Self::StateReport).map_err(unreadable),
        }
    }

    /// Encodes it as a lane's payload.
    pub fn encode(&self) -> Bytes {
        let body = match self {
            Self::Command(command) => Body::Command(command.into()),
            Self::Outcome(outcome) => Body::Outcome(outcome.into()),
            Self::Chunk(Chunk { name, offset, data, last }) => Body::Chunk(wire::Chunk {
                name: name.clone(),
                offset: *offset,
                data: data.clone(),
                last: *last,
            }),
            Self::Cancel(cancel) => Body::Cancel(cancel.into()),
            Self::Lease(lease) => Body::Lease(lease.into()),
            Self::Rearm(rearm) => Body::Rearm(rearm.into()),
            Self::DriveState(state) => Body::DriveState(state.into()),
            Self::Desired(desired) => Body::Desired(desired.into()),
            Self::StateReport(report) => Body::StateReport(report.into()),
        };
        wire::Message { body: Some(body) }.encode_to_vec().into()
    }
}

impl TryFrom<wire::Command> for Command {
    type Error = BadMessage;

    fn try_from(command: wire::Command) -> Result<Self, BadMessage> {
        let key: CommandKey =
            command.key.parse().map_err(|e| BadMessage::Unreadable(format!("command key {e}")))?;
        let refuse = |reason, detail: String| BadMessage::Command { key: key.clone(), reason, detail };
        let malformed = |detail: &str| refuse(Reason::Malformed, detail.into());
        let class = Class::try_from(command.class)
            .map_err(|number| refuse(Reason::Unsupported, format!("class {number} is unknown here")))?;
        let path = command.path.parse().map_err(|_| malformed("the target is not a VSS path"))?;
        let value = command.value.ok_or_else(|| malformed("no target value"))?;
        let value = value.try_into().map_err(|e| refuse(Reason::Unsupported, format!("{e}")))?;
        let stamp = stamp(command.stamp).map_err(|_| malformed("no stamp to tell its age by"))?;
        if command.ttl_us == 0 {
            return Err(malformed("no ttl"));
        }
        let token = match command.token {
            0 => None,
            number => Some(Token::granted(number).ok_or_else(|| malformed("no lease has such a token"))?),
        };
        let (ttl, operator) = (Duration::from_micros(command.ttl_us), cut(command.operator, 128));
        Ok(Self { class, path, value, stamp, ttl, operator, token, order: command.order, key })
    }
}

impl From<&Command> for wire::Command {
    fn from(command: &Command) -> Self {
        Self {
            key: command.key.as_str().into(),
            class: number(command.class),
            path: command.path.as_str().into(),
            value: Some((&command.value).into()),
            stamp: Some((&command.stamp).into()),
            ttl_us: micros(command.ttl),
            operator: cut(command.operator.clone(), 128),
            token: command.token.map_or(0, Token::number),
            order: command.order,
        }
    }
}

impl TryFrom<wire::Cancel> for Cancel {
    type Error = &'static str;

    fn try_from(cancel: wire::Cancel) -> Result<Self, &'static str> {
        Ok(Self {
            key: cancel.key.parse().map_err(|_| "cancel without a key")?,
            class: Class::try_from(cancel.class).map_err(|_| "cancel without a class known here")?,
            fingerprint: NonZeroU64::new(cancel.fingerprint),
        })
    }
}

impl From<&Cancel> for wire::Cancel {
    fn from(cancel: &Cancel) -> Self {
        Self {
            key: cancel.key.as_str().into(),
            class: number(cancel.class),
            fingerprint: cancel.fingerprint.map_or(0, NonZeroU64::get),
        }
    }
}

impl TryFrom<wire::Outcome> for Outcome {
    type Error = &'static str;

    fn try_from(outcome: wire::Outcome) -> Result<Self, &'static str> {
        Ok(Self {
            key: outcome.key.parse().map_err(|_| "outcome without a key")?,
            phase: Phase::from_wire(outcome.phase).ok_or("outcome without a phase known here")?,
            reason: Reason::from_wire(outcome.reason),
            detail: cut(outcome.detail, 256),
            fingerprint: NonZeroU64::new(outcome.fingerprint),
        })
    }
}

impl From<&Outcome> for wire::Outcome {
    fn from(outcome: &Outcome) -> Self {
        Self {
            key: outcome.key.as_str().into(),
            phase: outcome.phase.to_wire(),
            reason: outcome.reason.map_or(0, Reason::to_wire),
            detail: cut(outcome.detail.clone(), 256),
            fingerprint: outcome.fingerprint.map_or(0, NonZeroU64::get),
        }
    }
}
