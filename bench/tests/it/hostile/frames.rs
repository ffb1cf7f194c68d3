//! A vehicle that has proven who it is can still say anything.

use bytes::Bytes;
use carriageway_proto::frame::{Ack, Signal};
use carriageway_proto::{Class, CloseCode, Frame, Message, Outcome, Phase, Value};
use carriageway_transport::core::connection::Ended;

use super::{Siege, garbage};
use crate::raw::{Raw, Way};

/// The code with which the gateway ends the connection.
async fn code(raw: &mut Raw) -> CloseCode {
    match raw.listen_to_the_end().await {
        (Some(goodbye), _) => goodbye.code,
        (None, Ended::ByPeer { code, .. }) => code,
        (None, other) => panic!("it ends without a word: {other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_instead_of_a_hello_is_refused() {
    let siege = Siege::begin().await;
    for way in [Way::Quic, Way::WebSocket] {
        for number in 0..10 {
            let mut raw = Raw::vehicle(&siege.world, &format!("rude-{number}"), way).await;
            let bytes = garbage(number, 1 + number as usize * 300);
            raw.say(raw.lane(Class::Session), bytes.into()).await.unwrap();
            assert_eq!(code(&mut raw).await, CloseCode::ProtocolViolation, "{way:?}, {number}");
        }
    }
    // Over QUIC the connection itself refuses a lane that begins with garbage, so it counts as ended.
    siege.counted(r#"carriageway_hellos_total{result="ended"}"#, 10).await;
    siege.counted(r#"carriageway_hellos_total{result="protocol_violation"}"#, 10).await;
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_within_a_session_ends_it_and_no_other() {
    let siege = Siege::begin().await;
    for way in [Way::Quic, Way::WebSocket] {
        for (number, (class, frame)) in violations().into_iter().enumerate() {
            let mut raw = Raw::vehicle(&siege.world, &format!("rude-{number}"), way).await;
            raw.greet().await.unwrap();
            raw.say(raw.lane(class), frame).await.unwrap();
            assert_eq!(code(&mut raw).await, CloseCode::ProtocolViolation, "{way:?}, violation {number}");
        }
    }
    siege.end().await;
}

/// Frames that break the protocol, with the lane they come on.
fn violations() -> Vec<(Class, Bytes)> {
    let at = carriageway_proto::Moment::from_micros(1);
    let lane = |sequence| Frame::Lane { class: Class::Body, sequence, payload: Bytes::from_static(b"x") };
    let never_sent = Frame::Ack(Ack { received: vec![(Class::Body, 99)], bulk_arrival: None });
    vec![
        (Class::Session, garbage(7, 3_000).into()),
        (Class::Body, garbage(8, 60_000).into()),
        (Class::Body, Bytes::from_static(&[0xff; 40])),
        (Class::Body, lane(1_000_000).encode(at)),
        (Class::Session, never_sent.encode(at)),
    ]
}

/// What is well-formed and makes no sense is counted and passed over.
#[tokio::test(flavor = "multi_thread")]
async fn nonsense_within_a_session_is_counted_and_goes_no_further() {
    let siege = Siege::begin().await;
    for way in [Way::Quic, Way::WebSocket] {
        let mut raw = Raw::vehicle(&siege.world, "odd", way).await;
        raw.greet().await.unwrap();
        let stranger = Message::Outcome(Outcome {
            key: "steady-0".parse().unwrap(),
            phase: Phase::Failed,
            reason: None,
            detail: "IDENT: not this vehicle's command".into(),
            fingerprint: None,
        });
        let payloads = [Bytes::from(garbage(3, 500)), Bytes::from_static(b""), stranger.encode()];
        for (payload, sequence) in payloads.into_iter().zip(1..) {
            raw.say_frame(Class::Body, &Frame::Lane { class: Class::Body, sequence, payload }).await.unwrap();
        }
        flood_of_signals(&mut raw).await;
        raw.idle(std::time::Duration::from_millis(300)).await;
    }
    siege.counted(r#"carriageway_drops_total{stage="receive",reason="bad_message"}"#, 4).await;
    siege.counted(r#"carriageway_outcomes_total{heard="unknown_key"}"#, 2).await;
    siege.counted(r#"carriageway_drops_total{stage="receive",reason="signal_too_many_paths"}"#, 100).await;
    siege.end().await;
}

/// More paths than a session may have.
async fn flood_of_signals(raw: &mut Raw) {
    for frame in 0..60 {
        let signal = |number| Signal {
            path: format!("Flood.F{frame}.N{number}").parse().unwrap(),
            sequence: 1,
            value: Value::Int(number),
            waited_us: 0,
        };
        let signals = Frame::Signals((0..20).map(signal).collect());
        raw.say_signals(&signals).await.unwrap();
    }
}
