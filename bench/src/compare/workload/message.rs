//! What is sent.

use bytes::{BufMut as _, Bytes, BytesMut};
use carriageway_netem::core::Direction;
use carriageway_proto::Class;
use serde::{Deserialize, Serialize};

/// Bytes of a message before its filler: kind, class, number.
pub const HEADER: usize = 6;

/// What kind of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Steering-style state for the vehicle: the latest wins.
    Control,
    /// The vehicle's signals: the latest wins.
    Telemetry,
    /// All of the vehicle's signals, now and then: the latest wins.
    Snapshot,
    /// For the vehicle: each must arrive, and is answered.
    Command,
    /// The vehicle's answer to a command.
    Ack,
    /// A piece of a log that the vehicle uploads as fast as it can.
    Log,
    /// A piece of a map that the vehicle downloads as fast as it can.
    Map,
    /// A piece of a camera's stream from the vehicle.
    Camera,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::Control,
        Self::Telemetry,
        Self::Snapshot,
        Self::Command,
        Self::Ack,
        Self::Log,
        Self::Map,
        Self::Camera,
    ];

    /// The name, as in plans, samples and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Telemetry => "telemetry",
            Self::Snapshot => "snapshot",
            Self::Command => "command",
            Self::Ack => "ack",
            Self::Log => "log",
            Self::Map => "map",
            Self::Camera => "camera",
        }
    }

    /// The kind of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Bytes of a message as the application has it. Of a file's pieces: the most.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Control | Self::Ack => 64,
            Self::Telemetry => 300,
            Self::Snapshot => 2_000,
            Self::Command => 128,
            Self::Log | Self::Map => 16 * 1_024,
            Self::Camera => 1_000,
        }
    }

    /// Which way it goes.
    pub const fn direction(self) -> Direction {
        match self {
            Self::Control | Self::Command | Self::Map => Direction::Down,
            Self::Telemetry | Self::Snapshot | Self::Ack | Self::Log | Self::Camera => Direction::Up,
        }
    }

    /// A newer one says all that an older one would.
    pub const fn is_state(self) -> bool {
        matches!(self, Self::Control | Self::Telemetry | Self::Snapshot)
    }

    /// Sent as fast as the subject takes it, not at moments of its own.
    pub const fn is_file(self) -> bool {
        matches!(self, Self::Log | Self::Map)
    }
}

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its kind.
    pub kind: Kind,
    /// Of a command and its answer, the class; else that of the kind.
    pub class: Class,
    /// Counted from zero per kind.
    pub number: u32,
}

/// Bytes that are no message of the workload: the subject has broken them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes arrived that are no message of the workload")]
pub struct BadMessage {
    /// How many.
    pub bytes: usize,
}

impl Message {
    /// A message of a kind that has one class.
    pub const fn new(kind: Kind, number: u32) -> Self {
        Self { kind, class: class_of(kind), number }
    }

    /// As bytes: as many as its kind has.
    pub fn encode(self) -> Bytes {
        self.encode_in(self.kind.bytes())
    }

    /// As so many bytes, at least [`HEADER`].
    pub fn encode_in(self, size: usize) -> Bytes {
        let mut bytes = BytesMut::with_capacity(size.max(HEADER));
        bytes.put_u8(position(&Kind::ALL, &self.kind));
        bytes.put_u8(position(&Class::ALL, &self.class));
        bytes.put_u32(self.number);
        // Not all the same: nothing on the way may make it smaller.
        let mut filler = self.number ^ 0x9e37_79b9;
        while bytes.len() < size {
            filler ^= filler << 13;
            filler ^= filler >> 17;
            filler ^= filler << 5;
            bytes.put_u8(filler.to_le_bytes()[0]);
        }
        bytes.freeze()
    }

    /// What these bytes are.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadMessage> {
        let bad = BadMessage { bytes: bytes.len() };
        let [kind, class, number @ ..] = bytes.first_chunk::<HEADER>().ok_or(bad)?;
        let kind = *Kind::ALL.get(usize::from(*kind)).ok_or(bad)?;
        let class = *Class::ALL.get(usize::from(*class)).ok_or(bad)?;
        Ok(Self { kind, class, number: u32::from_be_bytes(*number) })
    }
}

const fn class_of(kind: Kind) -> Class {
    match kind {
        Kind::Control | Kind::Command | Kind::Ack => Class::Drive,
        Kind::Telemetry | Kind::Snapshot => Class::Config,
        Kind::Log | Kind::Map | Kind::Camera => Class::Bulk,
    }
}

fn position<T: PartialEq>(all: &[T], one: &T) -> u8 {
    let position = all.iter().position(|other| other == one);
    u8::try_from(position.expect("the list has all")).expect("there are few")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_from_their_bytes() {
        for kind in Kind::ALL {
            let message = Message { kind, class: Class::Safety, number: 70_000 };
            let bytes = message.encode();
            assert_eq!(bytes.len(), kind.bytes());
            assert_eq!(Message::decode(&bytes), Ok(message));
            assert_eq!(Kind::named(kind.name()), Some(kind));
        }
    }

    #[test]
    fn what_is_no_message_is_said() {
        assert_eq!(Message::decode(b"12345"), Err(BadMessage { bytes: 5 }));
        assert_eq!(Message::decode(&[99; 64]), Err(BadMessage { bytes: 64 }));
    }
}
