//! DECODE: any bytes end in a frame, a message or a refusal, for at most four times their own memory.

use bytes::Bytes;
use carriageway_proto::{Frame, MAX_FRAME, Message};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::measured::peak;
use crate::samples::{CLOCK, frames, messages};

/// What a decoder may hold for so many bytes.
fn allowed(input: usize) -> usize {
    4 * input + 64 * 1024
}

/// Decodes as both, and says which of the two took too much.
fn check(bytes: Vec<u8>) -> Result<(), TestCaseError> {
    let bytes = Bytes::from(bytes);
    let ((), frame) = peak(|| drop(Frame::decode(bytes.clone())));
    let ((), message) = peak(|| drop(Message::decode(bytes.clone())));
    let allowed = allowed(bytes.len());
    prop_assert!(frame <= allowed, "a frame of {} bytes took {frame}", bytes.len());
    prop_assert!(message <= allowed, "a message of {} bytes took {message}", bytes.len());
    Ok(())
}

fn varint(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).unwrap());
    bytes
}

/// `content` as the length-delimited field of this number.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    [vec![number << 3 | 2], varint(content.len()), content.to_vec()].concat()
}

/// `unit` as often as it fits into `room` bytes.
fn filled(unit: &[u8], room: usize) -> Vec<u8> {
    unit.iter().copied().cycle().take(room / unit.len() * unit.len()).collect()
}

/// Fields that cost little on the wire: empty, one byte long, or a small number.
fn cheap_field() -> impl Strategy<Value = Vec<u8>> {
    (1_u8..12, 0_u8..4, any::<u8>()).prop_map(|(number, kind, byte)| match kind {
        0 => field(number, &[]),
        1 => field(number, &[byte]),
        2 => vec![number << 3, byte & 0x7f],
        _ => field(number, &field(1, &[])),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_bytes(bytes in vec(any::<u8>(), 0..=MAX_FRAME)) {
        check(bytes)?;
    }

    /// Cheap fields, many times over, in up to three layers around them: what a decoder of repeated and
    /// merged fields would multiply.
    #[test]
    fn repetitive_protobuf(
        units in vec(cheap_field(), 1..4),
        layers in vec(1_u8..12, 0..4),
        room in 64..MAX_FRAME - 64,
    ) {
        let mut bytes = filled(&units.concat(), room);
        for number in layers {
            bytes = field(number, &bytes);
        }
        check(bytes)?;
    }

    /// Small bodies, many times over in one envelope: a decoder merges them.
    #[test]
    fn repeated_bodies(units in vec(cheap_field(), 1..70), body in 1_u8..12, room in 200..MAX_FRAME) {
        let one = field(body, &units.concat());
        check(filled(&one, room.max(one.len())))?;
    }

    #[test]
    fn samples_with_changed_bytes(
        which in any::<prop::sample::Index>(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let encoded = frames().into_iter().map(|(_, frame)| frame.encode(CLOCK));
        let all: Vec<_> = encoded.chain(messages().iter().map(|(_, message)| message.encode())).collect();
        let mut bytes = which.get(&all).to_vec();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        check(bytes)?;
    }
}

/// The worst that could be thought of, one by one.
#[test]
fn known_multipliers() {
    let empty_signal = field(1, &[]);
    let lane_state = field(5, &[0x08, 0x01]);
    let text = field(4, &vec![b'x'; 60_000]);
    for bytes in [
        field(9, &filled(&empty_signal, 65_000)),
        filled(&field(9, &filled(&empty_signal, 128)), 65_000),
        filled(&[field(9, &filled(&empty_signal, 128)), field(7, &[])].concat(), 65_000),
        field(2, &filled(&lane_state, 65_000)),
        field(3, &filled(&lane_state, 65_000)),
        field(5, &filled(&field(1, &[]), 65_000)),
        field(7, &filled(&field(3, b"x"), 65_000)),
        field(9, &field(1, &field(3, &text))),
        field(9, &field(1, &filled(&field(1, b"A.B"), 60_000))),
        field(1, &field(4, &text)),
        field(1, &filled(&field(4, &field(4, b"x")), 60_000)),
        field(3, &filled(&field(3, b"x"), 60_000)),
        // Desired values and path states.
        field(8, &filled(&field(2, &[]), 65_000)),
        field(9, &filled(&field(2, &[]), 65_000)),
        filled(&field(8, &filled(&field(2, &[]), 128)), 65_000),
        field(8, &filled(&field(2, &field(4, &field(1, &[0; 16]))), 128 * 22)),
        field(11, &filled(&field(3, &[]), 65_000)),
        // Groups, nested as deep as they come, and lengths that lie.
        vec![0x0b; 65_000],
        vec![0x7b; 65_000],
        filled(&[0x4a, 0xff, 0xff, 0x03], 65_000),
        filled(&[0xff; 10], 65_000),
    ] {
        check(bytes).unwrap();
    }
}
