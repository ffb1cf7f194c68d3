//! VSS paths and the values they name.

use std::fmt;
use std::str::FromStr;

use crate::wire;

/// A COVESA VSS path: `Vehicle.Cabin.Door.Row1.DriverSide.Window.Position`. Up to 160 characters,
/// parts of `A-Z a-z 0-9 _` joined by single dots.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SignalPath(Box<str>);

impl SignalPath {
    /// Longest path, in bytes. The longest in VSS 5 has 104.
    pub const MAX: usize = 160;

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text that is no VSS path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a VSS path: up to 160 characters, parts of A-Z a-z 0-9 _ joined by single dots")]
pub struct BadPath(pub String);

impl FromStr for SignalPath {
    type Err = BadPath;

    fn from_str(text: &str) -> Result<Self, BadPath> {
        let part_fits =
            |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if text.len() <= Self::MAX && text.split('.').all(part_fits) {
            Ok(Self(text.into()))
        } else {
            Err(BadPath(text.chars().take(Self::MAX).collect()))
        }
    }
}

impl fmt::Display for SignalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SignalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignalPath({})", &self.0)
    }
}

/// A value of a signal or the target of a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A finite number.
    Float(f64),
    /// Text of at most [`Value::MAX_TEXT`] bytes.
    Text(String),
}

impl Value {
    /// Longest text, in bytes: a signal must fit a datagram.
    pub const MAX_TEXT: usize = 512;

    /// The value as a number, where it is one.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Int(integer) => Some(*integer as f64),
            Self::Float(number) => Some(*number),
            Self::Bool(_) | Self::Text(_) => None,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(boolean) => boolean.fmt(f),
            Self::Int(integer) => integer.fmt(f),
            Self::Float(number) => number.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

impl From<&Value> for wire::Value {
    fn from(value: &Value) -> Self {
        use wire::value::Kind;
        let kind = match value {
            Value::Bool(boolean) => Kind::Boolean(*boolean),
            Value::Int(integer) => Kind::Integer(*integer),
            Value::Float(number) => Kind::Number(*number),
            Value::Text(text) => Kind::Text(text.clone()),
        };
        Self { kind: Some(kind) }
    }
}

impl TryFrom<wire::Value> for Value {
    type Error = BadValue;

    fn try_from(value: wire::Value) -> Result<Self, BadValue> {
        use wire::value::Kind;
        match value.kind.ok_or(BadValue::Absent)? {
            Kind::Boolean(boolean) => Ok(Self::Bool(boolean)),
            Kind::Integer(integer) => Ok(Self::Int(integer)),
            Kind::Number(number) if number.is_finite() => Ok(Self::Float(number)),
            Kind::Number(_) => Err(BadValue::NotFinite),
            Kind::Text(text) if text.len() <= Self::MAX_TEXT => Ok(Self::Text(text)),
            Kind::Text(_) => Err(BadValue::TooLong),
        }
    }
}

/// Why a wire value is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadValue {
    /// It says nothing, or a kind this build does not know.
    #[error("no value, or one of a kind unknown here")]
    Absent,
    /// NaN or infinite.
    #[error("a number must be finite")]
    NotFinite,
    /// Text beyond [`Value::MAX_TEXT`].
    #[error("text must be at most 512 bytes")]
    TooLong,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_dotted_names() {
        assert!("Vehicle.Speed".parse::<SignalPath>().is_ok());
        for bad in ["", ".", "Vehicle.", ".Speed", "Vehicle..Speed", "Vehicle/Speed", "Vehicle.Spëed"] {
            assert!(bad.parse::<SignalPath>().is_err(), "{bad:?}");
        }
        assert!("a".repeat(161).parse::<SignalPath>().is_err());
    }

    #[test]
    fn an_absent_value_is_refused_not_zero() {
        assert_eq!(Value::try_from(wire::Value { kind: None }), Err(BadValue::Absent));
        let nan = wire::Value { kind: Some(wire::value::Kind::Number(f64::NAN)) };
        assert_eq!(Value::try_from(nan), Err(BadValue::NotFinite));
    }

    #[test]
    fn values_round_trip() {
        for value in [Value::Bool(false), Value::Int(-3), Value::Float(0.5), Value::Text("P".into())] {
            assert_eq!(Value::try_from(wire::Value::from(&value)).unwrap(), value);
        }
    }
}
