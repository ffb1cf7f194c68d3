//! One of every frame and message.

use std::num::NonZeroU64;
use std::time::Duration;

use bytes::Bytes;
use carriageway_proto::control::ROAD_VEHICLE;
use carriageway_proto::frame::{Ack, Echo, Goodbye, Heartbeat, Hello, Signal, Welcome};
use carriageway_proto::{
    BootId, Cancel, Chunk, Class, CloseCode, Command, ControlFrame, ControlState, Controls, Desired,
    DesiredValue, DrivePhase, DriveState, Epoch, Frame, Lease, Message, Moment, Outcome, PathState, Phase,
    Rearm, Reason, SafeCause, SessionId, Stamp, StateReport, SyncStatus, Token, VERSION, Value,
};

/// When every sample frame is encoded.
pub(crate) const CLOCK: Moment = Moment::from_micros(1_000_000);

const STAMP: Stamp = Stamp { boot: BootId::from_bytes([0xb0; 16]), clock: Moment::from_micros(300) };
const SESSION: SessionId = SessionId::from_bytes([0x5e; 16]);

fn hello(session: Option<SessionId>) -> Frame {
    Frame::Hello(Hello {
        version: VERSION,
        stamp: STAMP,
        session,
        epoch: session.map_or(Epoch::NONE, |_| Epoch::new(7)),
        received: session.map_or_else(Vec::new, |_| vec![(Class::Safety, 1), (Class::Bulk, 300)]),
        software: "a/1".into(),
        reason: "first choice".into(),
    })
}

fn signal(path: &str, sequence: u64, value: Value) -> Signal {
    Signal { path: path.parse().unwrap(), sequence, value, waited_us: 42 }
}

/// Every variant of [`Frame`], with its optional parts there and not there.
pub(crate) fn frames() -> Vec<(&'static str, Frame)> {
    let welcome = |resumed| {
        Frame::Welcome(Welcome {
            version: VERSION,
            session: SESSION,
            epoch: Epoch::new(8),
            resumed,
            received: vec![(Class::Body, 2)],
            stamp: STAMP,
        })
    };
    let signals = vec![
        signal("A.B", 1, Value::Bool(true)),
        signal("A.C", 2, Value::Int(-3)),
        signal("A.D", 3, Value::Float(0.5)),
        signal("A.E", 4, Value::Text("P".into())),
    ];
    let echo = Some(Echo { sequence: 8, held_us: 250 });
    let received = vec![(Class::Session, 1), (Class::Diagnostics, 5)];
    let lane = Frame::Lane { class: Class::Drive, sequence: 6, payload: Bytes::from_static(b"abc") };
    let goodbye =
        Goodbye { code: CloseCode::Restarting, reason: "the gateway restarts".into(), retry_after_ms: 1_500 };
    vec![
        ("hello of a new session", hello(None)),
        ("hello that resumes", hello(Some(SESSION))),
        ("welcome", welcome(false)),
        ("welcome back", welcome(true)),
        ("heartbeat", Frame::Heartbeat(Heartbeat { sequence: 1, echo: None })),
        ("heartbeat with echo", Frame::Heartbeat(Heartbeat { sequence: 9, echo })),
        ("ack", Frame::Ack(Ack { received: received.clone(), bulk_arrival: None })),
        ("ack of bulk", Frame::Ack(Ack { received, bulk_arrival: Some(Moment::from_micros(77)) })),
        ("open", Frame::Open(Class::Comfort)),
        ("lane", lane),
        ("gap", Frame::Gap { class: Class::Config, through: 11 }),
        ("signals", Frame::Signals(signals)),
        ("goodbye", Frame::Goodbye(goodbye)),
        ("control", Frame::Control(control(&[9, 8]))),
        ("first control", Frame::Control(control(&[1]))),
    ]
}

fn token() -> Token {
    Token::granted(5).unwrap()
}

/// States of these counters.
fn control(counters: &[u32]) -> ControlFrame {
    let controls = Controls::new(-0.5, 0.25, 0.0).unwrap();
    let seal = |counter: &u32| ControlState::seal(ROAD_VEHICLE, token(), *counter, controls);
    ControlFrame { token: token(), stamp: STAMP, states: counters.iter().map(seal).collect() }
}

fn command(class: Class, value: Value) -> Message {
    Message::Command(Command {
        key: "k-1".parse().unwrap(),
        class,
        path: "Vehicle.Body.Horn.IsActive".parse().unwrap(),
        value,
        stamp: STAMP,
        ttl: Duration::from_millis(1_500),
        operator: "ada".into(),
        token: None,
        order: 0,
    })
}

/// A command under a lease, in its place.
fn drive_command() -> Message {
    let Message::Command(command) = command(Class::Drive, Value::Text("D".into())) else {
        unreachable!("it is one")
    };
    Message::Command(Command { token: Some(token()), order: 1 << 32 | 3, ..command })
}

/// Who may drive and whether.
fn driving() -> Vec<(&'static str, Message)> {
    let (nonce, ttl) = (NonZeroU64::new(0xabcd).unwrap(), Duration::from_secs(2));
    let lease = |ttl| Message::Lease(Lease { token: token(), operator: "ada".into(), stamp: STAMP, ttl });
    let (safe, armed) = (DrivePhase::Safe, DrivePhase::Armed);
    let cause = Some(SafeCause::ControlLost);
    let stopped = DriveState { phase: safe, cause, nonce: Some(nonce), token: Some(token()) };
    vec![
        ("lease", lease(ttl)),
        ("end of a lease", lease(Duration::ZERO)),
        ("re-arm", Message::Rearm(Rearm { token: token(), nonce, stamp: STAMP, ttl })),
        ("safe state", Message::DriveState(stopped)),
        ("armed", Message::DriveState(DriveState { phase: armed, cause: None, nonce: None, token: None })),
    ]
}

/// What is to hold, and what does.
fn states() -> Vec<(&'static str, Message)> {
    let path: carriageway_proto::SignalPath = "A.B".parse().unwrap();
    let wish =
        |ttl| DesiredValue { path: path.clone(), value: Value::Int(21), version: 4, stamp: STAMP, ttl };
    let desired = |ttl| Message::Desired(Desired { version: 4, values: vec![wish(ttl)] });
    let report = |status, reported, reason| {
        let detail = "so".into();
        let state = PathState { path: path.clone(), status, version: 4, reported, reason, detail };
        Message::StateReport(StateReport { version: 4, paths: vec![state] })
    };
    vec![
        ("desired for ever", desired(None)),
        ("desired for a while", desired(Some(Duration::from_mins(1)))),
        ("in sync", report(SyncStatus::InSync, Some(Value::Int(21)), None)),
        ("given up", report(SyncStatus::GivenUp, None, Some(Reason::ActuatorFault))),
    ]
}

pub(crate) fn outcome(phase: Phase, reason: Option<Reason>) -> Message {
    Message::Outcome(Outcome {
        key: "k-1".parse().unwrap(),
        phase,
        reason,
        detail: "so".into(),
        fingerprint: None,
    })
}

/// An outcome that says which wish it is about.
fn outcome_of_a_wish() -> Message {
    let fingerprint = NonZeroU64::new(0x0102_0304_0506_0708);
    let Message::Outcome(outcome) = outcome(Phase::Failed, Some(Reason::ActuatorFault)) else {
        unreachable!("it is one")
    };
    Message::Outcome(Outcome { fingerprint, ..outcome })
}

/// Every variant of [`Message`], a command with each kind of value.
pub(crate) fn messages() -> Vec<(&'static str, Message)> {
    let chunk = |last| {
        let data = Bytes::from_static(&[1, 2, 3]);
        Message::Chunk(Chunk { name: "log".into(), offset: 4_096, data, last })
    };
    let cancel = |fingerprint| {
        Message::Cancel(Cancel { key: "k-1".parse().unwrap(), class: Class::Body, fingerprint })
    };
    let commands = vec![
        ("command to a truth", command(Class::Body, Value::Bool(false))),
        ("command to a whole number", command(Class::Drive, Value::Int(127))),
        ("command to a number", command(Class::Comfort, Value::Float(21.5))),
        ("command under a lease", drive_command()),
        ("command to a text", command(Class::Config, Value::Text("eco".into()))),
        ("outcome", outcome(Phase::Succeeded, None)),
        ("outcome with a reason", outcome(Phase::Rejected, Some(Reason::KeyConflict))),
        ("outcome of a wish", outcome_of_a_wish()),
        ("chunk", chunk(false)),
        ("last chunk", chunk(true)),
        ("cancel", cancel(None)),
        ("cancel of a wish", cancel(NonZeroU64::new(7))),
    ];
    commands.into_iter().chain(driving()).chain(states()).collect()
}
