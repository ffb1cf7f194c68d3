//! What is absent or unknown is refused by name: it never means a default.

use bytes::Bytes;
use carriageway_proto::message::BadMessage;
use carriageway_proto::{DecodeError, Frame, Message, Reason, wire};
use prost::Message as _;

use crate::samples::{frames, messages};

fn stamp() -> wire::Stamp {
    wire::Stamp { boot_id: Bytes::from_static(&[1; 16]), clock_us: 5 }
}

fn frame(body: wire::envelope::Body) -> Result<(), DecodeError> {
    let envelope = wire::Envelope { clock_us: 1, body: Some(body) };
    Frame::decode(envelope.encode_to_vec().into()).map(drop)
}

fn field(name: &'static str) -> Result<(), DecodeError> {
    Err(DecodeError::Field(name))
}

#[test]
fn a_frame_names_what_it_lacks() {
    use wire::envelope::Body;
    assert_eq!(Frame::decode(Bytes::new()).map(drop), Err(DecodeError::NoBody));
    // Field 100, which no version knows: still no body.
    assert_eq!(Frame::decode(Bytes::from_static(&[0xa2, 0x06, 0x00])).map(drop), Err(DecodeError::NoBody));
    for class in [0, 9, -1, i32::MAX] {
        assert_eq!(frame(Body::Open(wire::LaneOpen { class })), field("class"));
        assert_eq!(frame(Body::Gap(wire::LaneGap { class, through: 1 })), field("class"));
        let payload = Bytes::from_static(b"x");
        assert_eq!(frame(Body::Lane(wire::LaneFrame { class, sequence: 1, payload })), field("class"));
    }
    let lane = wire::LaneFrame { class: 4, sequence: 0, payload: Bytes::new() };
    assert_eq!(frame(Body::Lane(lane)), field("sequence"));
    assert_eq!(frame(Body::Gap(wire::LaneGap { class: 4, through: 0 })), field("sequence"));
    let hello = wire::Hello { version: 1, clock: Some(stamp()), ..wire::Hello::default() };
    assert_eq!(frame(Body::Hello(hello.clone())), Ok(()));
    let bad = |change: fn(&mut wire::Hello)| {
        let mut hello = hello.clone();
        change(&mut hello);
        frame(Body::Hello(hello))
    };
    assert_eq!(bad(|hello| hello.clock = None), field("stamp"));
    assert_eq!(bad(|hello| hello.clock.as_mut().unwrap().boot_id.truncate(15)), field("stamp"));
    assert_eq!(bad(|hello| hello.session_id = Bytes::from_static(b"short")), field("session id"));
    assert_eq!(bad(|hello| hello.epoch = 1 << 62), field("epoch"));
    let twice = |hello: &mut wire::Hello| hello.lanes = vec![wire::LaneState { class: 4, received: 1 }; 2];
    assert_eq!(bad(twice), field("lane state, once per class"));
    let welcome = wire::Welcome { version: 1, clock: Some(stamp()), ..wire::Welcome::default() };
    assert_eq!(frame(Body::Welcome(welcome)), field("session id"));
}

#[test]
fn a_signal_names_what_it_lacks() {
    use wire::value::Kind;
    let value = |kind| Some(wire::Value { kind });
    let whole = wire::Signal {
        path: "A.B".into(),
        sequence: 1,
        value: value(Some(Kind::Boolean(true))),
        waited_us: 0,
    };
    let refusal = |change: &dyn Fn(&mut wire::Signal)| {
        let mut signal = whole.clone();
        change(&mut signal);
        frame(wire::envelope::Body::Signals(wire::SignalFrame { signals: vec![whole.clone(), signal] }))
    };
    assert_eq!(refusal(&|_| ()), Ok(()));
    assert_eq!(refusal(&|signal| signal.path.clear()), field("signal path"));
    assert_eq!(refusal(&|signal| signal.sequence = 0), field("sequence"));
    for kind in [None, Some(Kind::Number(f64::NAN)), Some(Kind::Text("x".repeat(513)))] {
        assert_eq!(refusal(&|signal| signal.value = value(kind.clone())), field("signal value"));
    }
    assert_eq!(refusal(&|signal| signal.value = None), field("signal value"));
}

/// The reason and the words with which a changed command is refused.
fn refused(change: impl FnOnce(&mut wire::Command)) -> (Reason, String) {
    let mut command = wire::Command {
        key: "k".into(),
        class: 4,
        path: "A.B".into(),
        value: Some(wire::Value { kind: Some(wire::value::Kind::Integer(1)) }),
        stamp: Some(stamp()),
        ttl_us: 5,
        operator: String::new(),
    };
    change(&mut command);
    let message = wire::Message { body: Some(wire::message::Body::Command(command)) };
    match Message::decode(message.encode_to_vec().into()) {
        Err(BadMessage::Command { reason, detail, .. }) => (reason, detail),
        other => panic!("it is answered with {other:?}"),
    }
}

#[test]
fn a_command_is_refused_by_name_with_its_key() {
    for (got, reason, word) in [
        (refused(|c| c.class = 0), Reason::Unsupported, "class 0"),
        (refused(|c| c.class = 99), Reason::Unsupported, "class 99"),
        (refused(|c| c.path.clear()), Reason::Malformed, "VSS path"),
        (refused(|c| c.value = None), Reason::Malformed, "value"),
        (refused(|c| c.value = Some(wire::Value { kind: None })), Reason::Unsupported, "value"),
        (refused(|c| c.stamp = None), Reason::Malformed, "stamp"),
        (refused(|c| c.ttl_us = 0), Reason::Malformed, "ttl"),
    ] {
        assert_eq!(got.0, reason, "{}", got.1);
        assert!(got.1.contains(word), "{word:?} is not in {:?}", got.1);
    }
}

#[test]
fn a_message_without_a_key_or_a_body_cannot_be_answered() {
    use wire::message::Body;
    let unreadable = |body| match Message::decode(wire::Message { body }.encode_to_vec().into()) {
        Err(BadMessage::Unreadable(why)) => why,
        other => panic!("it is answered with {other:?}"),
    };
    assert!(unreadable(None).contains("body"));
    assert!(unreadable(Some(Body::Command(wire::Command::default()))).contains("key"));
    assert!(unreadable(Some(Body::Outcome(wire::Outcome::default()))).contains("key"));
    for phase in [0, 13, -1] {
        let outcome = wire::Outcome { key: "k".into(), phase, ..wire::Outcome::default() };
        assert!(unreadable(Some(Body::Outcome(outcome))).contains("phase"));
    }
    let chunk = wire::Chunk { name: "x".repeat(129), ..wire::Chunk::default() };
    assert!(unreadable(Some(Body::Chunk(chunk))).contains("name"));
}

/// Whatever is cut off, the rest is refused or means something else: never a silent panic.
#[test]
fn every_prefix_of_every_sample_ends_in_an_answer() {
    for (name, frame) in frames() {
        let bytes = frame.encode(crate::samples::CLOCK);
        for end in 0..bytes.len() {
            assert_ne!(
                Frame::decode(bytes.slice(..end)).map(|(_, frame)| frame),
                Ok(frame.clone()),
                "{name}"
            );
        }
    }
    for (name, message) in messages() {
        let bytes = message.encode();
        for end in 0..bytes.len() {
            assert_ne!(Message::decode(bytes.slice(..end)), Ok(message.clone()), "{name}");
        }
    }
}
