//! The bytes of every frame and message, as they stand on the wire for good.

use bytes::Bytes;
use carriageway_proto::message::fingerprint;
use carriageway_proto::{Class, Frame, Message, Phase, Reason, Value};

use crate::samples::{CLOCK, frames, messages, outcome};

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

fn bytes(hex: &str) -> Bytes {
    let digits: Vec<_> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect::<Vec<_>>().into()
}

/// Without the blanks that keep the lines short.
fn tight(golden: &[&str]) -> Vec<String> {
    golden.iter().map(|hex| hex.replace(' ', "")).collect()
}

/// In the order of [`frames`].
const FRAMES: &[&str] = &[
    "08c0843d122c080112150a10b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b010ac023203612f313a0c66697273742063686f69 \
     6365",
    "08c0843d124d080112150a10b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b010ac021a105e5e5e5e5e5e5e5e5e5e5e5e5e5e5e \
     5e20072a04080210012a05080810ac023203612f313a0c66697273742063686f696365",
    "08c0843d1a33080112105e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e18082a040804100232150a10b0b0b0b0b0b0b0b0b0b0 \
     b0b0b0b0b0b010ac02",
    "08c0843d1a35080112105e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e180820012a040804100232150a10b0b0b0b0b0b0b0b0 \
     b0b0b0b0b0b0b0b010ac02",
    "08c0843d22020801",
    "08c0843d220908091205080810fa01",
    "08c0843d2a0c0a04080110010a0408071005",
    "08c0843d2a0e0a04080110010a0408071005104d",
    "08c0843d32020805",
    "08c0843d3a09080310061a03616263",
    "08c0843d42040806100b",
    "08c0843d4a440a0d0a03412e4210011a020801202a0a0d0a03412e4310021a021005202a0a140a03412e4410031a0919 \
     000000000000e03f202a0a0e0a03412e4510041a03220150202a",
    "08c0843d521c08f4071214746865206761746577617920726573746172747318dc0b",
    "08c0843d5a49080512150a10b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b010ac021a160d0100574310091d000000bf250000 \
     803e35cd8137281a160d0100574310081d000000bf250000803e35510b7578",
    "08c0843d5a31080512150a10b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b010ac021a160d0100574310011d000000bf250000 \
     803e35cc6be118",
];

/// In the order of [`messages`].
const MESSAGES: &[&str] = &[
    "0a470a036b2d3110041a1a56656869636c652e426f64792e486f726e2e4973416374697665220208002a150a10b0b0b0 \
     b0b0b0b0b0b0b0b0b0b0b0b0b010ac0230e0c65b3a03616461",
    "0a480a036b2d3110031a1a56656869636c652e426f64792e486f726e2e4973416374697665220310fe012a150a10b0b0 \
     b0b0b0b0b0b0b0b0b0b0b0b0b0b010ac0230e0c65b3a03616461",
    "0a4e0a036b2d3110051a1a56656869636c652e426f64792e486f726e2e49734163746976652209190000000000803540 \
     2a150a10b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b010ac0230e0c65b3a03616461",
    "0a500a036b2d3110031a1a56656869636c652e426f64792e486f726e2e497341637469766522032201442a150a10b0b0 \
     b0b0b0b0b0b0b0b0b0b0b0b0b0b010ac0230e0c65b3a036164614005488380808010",
    "0a4a0a036b2d3110061a1a56656869636c652e426f64792e486f726e2e49734163746976652205220365636f2a150a10 \
     b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b010ac0230e0c65b3a03616461",
    "120b0a036b2d3110062202736f",
    "120d0a036b2d31100818032202736f",
    "12160a036b2d31100718092202736f290807060504030201",
    "1a0d0a036c6f671080201a03010203",
    "1a0f0a036c6f671080201a030102032001",
    "22070a036b2d311004",
    "22100a036b2d311004190700000000000000",
    "2a22080512036164611a150a10b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b010ac022080897a",
    "2a1e080512036164611a150a10b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b010ac02",
    "3226080511cdab0000000000001a150a10b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b010ac022080897a",
    "3a0f0801100219cdab0000000000002005",
    "3a020803",
    "4226080412220a03412e421202102a180422150a10b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b010ac02",
    "422b080412270a03412e421202102a180422150a10b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b010ac0228808ece1c",
    "4a15080412110a03412e42100318042202102a3202736f",
    "4a130804120f0a03412e421005180428093202736f",
];

#[test]
fn every_frame_has_the_bytes_it_always_had() {
    let frames = frames();
    let encoded: Vec<_> = frames.iter().map(|(_, frame)| hex(&frame.encode(CLOCK))).collect();
    assert_eq!(encoded, tight(FRAMES), "the wire of version 1 never changes");
    for ((name, frame), golden) in frames.into_iter().zip(FRAMES) {
        assert_eq!(Frame::decode(bytes(golden)), Ok((CLOCK, frame)), "{name}");
    }
}

#[test]
fn every_message_has_the_bytes_it_always_had() {
    let messages = messages();
    let encoded: Vec<_> = messages.iter().map(|(_, message)| hex(&message.encode())).collect();
    assert_eq!(encoded, tight(MESSAGES), "the wire of version 1 never changes");
    for ((name, message), golden) in messages.into_iter().zip(MESSAGES) {
        assert_eq!(Message::decode(bytes(golden)), Ok(message), "{name}");
    }
}

/// No `_` in here: a new variant does not compile until it has a sample above.
#[test]
fn every_variant_has_a_sample() {
    let kind = |frame: &Frame| match frame {
        Frame::Hello(_) => 2,
        Frame::Welcome(_) => 3,
        Frame::Heartbeat(_) => 4,
        Frame::Ack(_) => 5,
        Frame::Open(_) => 6,
        Frame::Lane { .. } => 7,
        Frame::Gap { .. } => 8,
        Frame::Signals(_) => 9,
        Frame::Goodbye(_) => 10,
        Frame::Control(_) => 11,
    };
    let mut kinds: Vec<u8> = frames().iter().map(|(_, frame)| kind(frame)).collect();
    kinds.dedup();
    assert_eq!(kinds, (2..=11).collect::<Vec<_>>());
    for (_, frame) in frames() {
        // The clock takes field 1 and three bytes; then comes the tag of the body.
        assert_eq!(frame.encode(CLOCK)[4], kind(&frame) << 3 | 2, "{frame:?}");
    }
    let kind = |message: &Message| match message {
        Message::Command(_) => 1,
        Message::Outcome(_) => 2,
        Message::Chunk(_) => 3,
        Message::Cancel(_) => 4,
        Message::Lease(_) => 5,
        Message::Rearm(_) => 6,
        Message::DriveState(_) => 7,
        Message::Desired(_) => 8,
        Message::StateReport(_) => 9,
    };
    let mut kinds: Vec<u8> = messages().iter().map(|(_, message)| kind(message)).collect();
    kinds.dedup();
    assert_eq!(kinds, (1..=9).collect::<Vec<_>>());
    for (_, message) in messages() {
        assert_eq!(message.encode()[0], kind(&message) << 3 | 2, "{message:?}");
    }
}

/// The number of an enum is its place in the schema, for good.
#[test]
fn every_enum_has_the_numbers_it_always_had() {
    // clock, then body 6 (open) of two bytes, its field 1: the class.
    for (class, number) in Class::ALL.into_iter().zip(1..) {
        assert_eq!(hex(&Frame::Open(class).encode(CLOCK)), format!("08c0843d320208{number:02x}"), "{class}");
    }
    assert_eq!(Phase::ALL.len(), 12);
    for (phase, number) in Phase::ALL.iter().zip(1..) {
        let golden = format!("120b0a036b2d3110{number:02x}2202736f");
        assert_eq!(hex(&outcome(*phase, None).encode()), golden, "{phase}");
        assert_eq!(Message::decode(bytes(&golden)), Ok(outcome(*phase, None)));
    }
    assert_eq!(Reason::ALL.len(), 11);
    for (reason, number) in Reason::ALL.iter().zip(1..) {
        let golden = format!("120d0a036b2d31100818{number:02x}2202736f");
        let outcome = outcome(Phase::Rejected, Some(*reason));
        assert_eq!(hex(&outcome.encode()), golden, "{reason}");
        assert_eq!(Message::decode(bytes(&golden)), Ok(outcome));
    }
}

/// Both ends compute it: it is part of the wire as much as any field.
#[test]
fn a_wish_has_the_fingerprint_it_always_had() {
    let print =
        |value| fingerprint(Class::Body, &"Vehicle.Body.Horn.IsActive".parse().unwrap(), &value).get();
    assert_eq!(print(Value::Bool(true)), 2_982_194_415_756_396_199);
    assert_eq!(print(Value::Int(1)), 2_974_542_914_337_189_650);
}
