//! Ids: each a type of its own, checked where it enters.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use thiserror::Error;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdError {
    /// Empty, or longer than the kind allows.
    #[error("must be 1 to {max} characters long, not {got}")]
    Length {
        /// The most characters this kind of id may have.
        max: usize,
        /// How many it had.
        got: usize,
    },
    /// A character outside the kind's alphabet.
    #[error("holds {found:?}, which is not allowed here; use {allowed}")]
    Character {
        /// The first offending character.
        found: char,
        /// The alphabet, for people.
        allowed: &'static str,
    },
}

fn check(text: &str, max: usize, allowed: &'static str, fits: fn(u8) -> bool) -> Result<Box<str>, IdError> {
    if text.is_empty() || text.len() > max {
        return Err(IdError::Length { max, got: text.len() });
    }
    match text.chars().find(|c| !u8::try_from(*c).is_ok_and(fits)) {
        Some(found) => Err(IdError::Character { found, allowed }),
        None => Ok(text.into()),
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $max:literal, $allowed:literal, $fits:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// The text, as it was given.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                check(text, $max, $allowed, $fits).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), &self.0)
            }
        }
    };
}

text_id!(
    /// Names a vehicle: 1 to 64 of `A-Z a-z 0-9 _ -`, so that it is safe in a path, a subject and a
    /// certificate alike.
    VehicleId, 64, "A-Z, a-z, 0-9, '_' and '-'",
    |b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'
);

text_id!(
    /// An operator's idempotency key: 1 to 128 visible ASCII characters.
    CommandKey, 128, "visible ASCII characters without spaces",
    |b| b.is_ascii_graphic()
);

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// The id of these bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// Its bytes.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
    };
}

random_id!(
    /// Names a session: 16 random bytes drawn by the gateway.
    SessionId
);
random_id!(
    /// Names one boot of one host, drawn by its kernel.
    BootId
);

/// Orders the sessions of one vehicle: a later session has a higher epoch. Zero is before any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// Before any session.
    pub const NONE: Self = Self(0);

    /// Epochs claimed from outside must stay below this, so that there is always a next one.
    pub const LIMIT: Self = Self(1 << 62);

    /// The epoch of this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// The epoch that follows.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The fencing token of a lease: rises with every grant, so that a vehicle can tell the newest holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(NonZeroU64);

impl Token {
    /// The first one.
    pub const FIRST: Self = Self(NonZeroU64::MIN);

    /// Tokens claimed from outside must stay below this, so that there is always a next one.
    const LIMIT: u64 = 1 << 62;

    /// The token of this number; `None` for zero, which is no grant, and for what leaves no next one.
    pub fn granted(number: u64) -> Option<Self> {
        NonZeroU64::new(number).filter(|number| number.get() < Self::LIMIT).map(Self)
    }

    /// Its number, never zero.
    pub const fn number(self) -> u64 {
        self.0.get()
    }

    /// The token that follows.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vehicle_ids_keep_to_their_alphabet() {
        assert_eq!("truck-7_B".parse::<VehicleId>().unwrap().as_str(), "truck-7_B");
        assert_eq!("".parse::<VehicleId>(), Err(IdError::Length { max: 64, got: 0 }));
        assert_eq!("x".repeat(65).parse::<VehicleId>(), Err(IdError::Length { max: 64, got: 65 }));
        for bad in ["a/b", "a b", "a.b", "ü", "a\0"] {
            assert!(matches!(bad.parse::<VehicleId>(), Err(IdError::Character { .. })), "{bad:?}");
        }
    }

    #[test]
    fn keys_are_visible_ascii() {
        assert!("open-window:1!".parse::<CommandKey>().is_ok());
        assert!(matches!("a b".parse::<CommandKey>(), Err(IdError::Character { found: ' ', .. })));
    }

    #[test]
    fn random_ids_show_as_hex() {
        assert_eq!(SessionId::from_bytes([0xab; 16]).to_string(), "ab".repeat(16));
    }
}
