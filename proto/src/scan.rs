//! A look at an encoded envelope before it is decoded, so that decoding stays bounded.
//!
//! A repeated message of no bytes takes two bytes on the wire and seventy in memory. Counting the
//! fields first keeps what the decoder allocates below four times its input plus 64 KiB.

use bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// Most signals in one frame, and most fields of any other body that is not a lane's.
pub const MAX_FIELDS: usize = 64;

/// Most values in one desired state or state report.
pub const MAX_VALUES: usize = 128;

/// Most fields of a message's body: its values and what stands beside them.
const MAX_MESSAGE_FIELDS: usize = MAX_VALUES + 16;

/// Field of `Envelope` that holds a lane frame: it repeats nothing, and its payload is not copied.
const LANE: u32 = 7;

/// More than [`MAX_FIELDS`] fields in an envelope's bodies, more than 144 in a message's, or bytes that
/// are no protobuf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many fields in one body, or not protobuf")]
pub struct Unbounded;

/// Refuses an encoded envelope that could make the decoder allocate out of proportion. Bodies that
/// stand there twice share one budget, as the decoder would merge them.
pub fn bounded(mut envelope: &[u8]) -> Result<(), Unbounded> {
    let mut budget = MAX_FIELDS;
    while envelope.has_remaining() {
        if let (tag, Some(body)) = next_field(&mut envelope)?
            && tag != LANE
        {
            spend(body, &mut budget)?;
        }
    }
    Ok(())
}

/// Refuses an encoded message that could make the decoder allocate out of proportion.
pub fn bounded_message(mut message: &[u8]) -> Result<(), Unbounded> {
    let mut budget = MAX_MESSAGE_FIELDS;
    while message.has_remaining() {
        if let (_, Some(body)) = next_field(&mut message)? {
            spend(body, &mut budget)?;
        }
    }
    Ok(())
}

/// Takes one from `budget` for every field of `body`.
fn spend(mut body: &[u8], budget: &mut usize) -> Result<(), Unbounded> {
    while body.has_remaining() {
        *budget = budget.checked_sub(1).ok_or(Unbounded)?;
        next_field(&mut body)?;
    }
    Ok(())
}

/// Steps over one field; its tag, and its content where that is length-delimited.
fn next_field<'a>(bytes: &mut &'a [u8]) -> Result<(u32, Option<&'a [u8]>), Unbounded> {
    let (tag, wire_type) = decode_key(bytes).map_err(|_| Unbounded)?;
    if wire_type != WireType::LengthDelimited {
        skip_field(wire_type, tag, bytes, DecodeContext::default()).map_err(|_| Unbounded)?;
        return Ok((tag, None));
    }
    let length = decode_varint(bytes).map_err(|_| Unbounded)?;
    let length = usize::try_from(length).map_err(|_| Unbounded)?;
    let content = bytes.get(..length).ok_or(Unbounded)?;
    bytes.advance(length);
    Ok((tag, Some(content)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A signal frame of `n` empty signals: field 9, length, then `n` times field 1 of no bytes.
    fn empty_signals(n: usize) -> Vec<u8> {
        let mut body = Vec::new();
        for _ in 0..n {
            body.extend([0x0a, 0]);
        }
        let mut envelope = vec![0x4a];
        prost::encoding::encode_varint(body.len() as u64, &mut envelope);
        envelope.extend(body);
        envelope
    }

    #[test]
    fn a_frame_of_countless_empty_signals_is_refused() {
        assert_eq!(bounded(&empty_signals(64)), Ok(()));
        assert_eq!(bounded(&empty_signals(65)), Err(Unbounded));
    }

    #[test]
    fn bodies_that_would_be_merged_share_the_budget() {
        let twice = [empty_signals(40), empty_signals(40)].concat();
        assert_eq!(bounded(&twice), Err(Unbounded));
    }

    #[test]
    fn a_length_past_the_end_is_refused() {
        assert_eq!(bounded(&[0x4a, 0x05, 0x0a]), Err(Unbounded));
    }
}
