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
        token: 0,
        order: 0,
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
        (refused(|c| c.token = u64::MAX), Reason::Malformed, "token"),
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

/// DECODE: what an absent field would make of each is refused, not assumed.
#[test]
fn messages_that_lack_something_are_refused() {
    use wire::message::Body;
    let stamp = || Some(stamp());
    let value = || Some(wire::Value { kind: Some(wire::value::Kind::Integer(1)) });
    let desired = |change: fn(&mut wire::DesiredValue)| {
        let mut wish =
            wire::DesiredValue { path: "A.B".into(), value: value(), version: 1, stamp: stamp(), ttl_us: 0 };
        change(&mut wish);
        Body::Desired(wire::Desired { version: 1, values: vec![wish] })
    };
    let state =
        |path: &str, status| wire::PathState { path: path.into(), status, ..wire::PathState::default() };
    let report = |paths| Body::StateReport(wire::StateReport { version: 1, paths });
    let rearm = |token, nonce, ttl_us| Body::Rearm(wire::Rearm { token, nonce, stamp: stamp(), ttl_us });
    let lease = wire::Lease { token: 1, operator: String::new(), stamp: None, ttl_us: 1 };
    for (body, word) in [
        (Body::Cancel(wire::Cancel { key: String::new(), class: 4, fingerprint: 0 }), "key"),
        (Body::Cancel(wire::Cancel { key: "k".into(), class: 0, fingerprint: 0 }), "class"),
        (Body::Lease(wire::Lease { stamp: stamp(), token: 0, ..lease.clone() }), "token"),
        (Body::Lease(lease), "stamp"),
        (rearm(0, 1, 1), "token"),
        (rearm(1, 0, 1), "nonce"),
        (rearm(1, 1, 0), "ttl"),
        (Body::DriveState(wire::DriveState::default()), "phase"),
        (desired(|wish| wish.path.clear()), "VSS path"),
        (desired(|wish| wish.value = None), "value"),
        (desired(|wish| wish.stamp = None), "stamp"),
        (report(vec![state("A.B", 0)]), "status"),
        (report(vec![state("A.B", 1), state("A.B", 2)]), "twice"),
        (report((0..129).map(|n| state(&format!("A.B{n}"), 1)).collect()), "128"),
    ] {
        let bytes = wire::Message { body: Some(body) }.encode_to_vec();
        match Message::decode(bytes.into()) {
            Err(BadMessage::Unreadable(why)) => assert!(why.contains(word), "{why} does not name {word}"),
            other => panic!("without its {word} it is {other:?}"),
        }
    }
}

#[test]
fn control_without_a_lease_or_with_too_many_states_is_no_frame() {
    let control = |token, states| {
        let states = vec![wire::ControlState::default(); states];
        let body = wire::envelope::Body::Control(wire::ControlFrame { token, stamp: Some(stamp()), states });
        let envelope = wire::Envelope { clock_us: 1, body: Some(body) };
        Frame::decode(envelope.encode_to_vec().into())
    };
    assert!(control(1, 1).is_ok());
    for (token, states) in [(0, 1), (u64::MAX, 1), (1, 0), (1, 3)] {
        assert!(control(token, states).is_err(), "token {token}, {states} states");
    }
}
