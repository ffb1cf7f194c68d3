//! The control socket: what of an operator's control reaches the vehicle, and when.

use std::time::Duration;

use carriageway_gateway::cli::drive::place::Place;
use carriageway_gateway::cli::drive::socket::{Socket, Word};
use carriageway_proto::control::ROAD_VEHICLE;
use carriageway_proto::frame::Heartbeat;
use carriageway_proto::{CloseCode, ControlFrame, ControlState, Controls, Frame, Moment, Stamp, Token};
use carriageway_transport::clock::BootClock;
use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::events::Events;
use crate::support::{Answer, Gateway, PATIENCE, Vehicle, until};

const LEASE: &str = "/v1/vehicles/truck/control-lease";

async fn patient() -> Gateway {
    Gateway::start_with(|config| config.lease.ttl_ms = 10_000).await
}

async fn socket(gateway: &Gateway, token: &str) -> anyhow::Result<Socket> {
    let (url, ca) = (format!("https://{}", gateway.tcp), gateway.folder.path("ca.pem"));
    let place = Place::new(&url, "truck".parse().unwrap(), token, &ca).unwrap();
    Socket::open(&place, BootClock::system().unwrap()).await
}

async fn lease(gateway: &Gateway, token: &str) -> Token {
    let answer = gateway.post(token, LEASE, &json!({ "action": "take", "force": true })).await;
    Token::granted(answer.body["token"].as_u64().unwrap()).unwrap()
}

fn state(token: Token, counter: u32) -> ControlState {
    ControlState::seal(ROAD_VEHICLE, token, counter, Controls::new(0.25, 0.5, 0.0).unwrap())
}

/// The next report that says what is waited for.
async fn report(socket: &mut Socket, wanted: impl Fn(&Json) -> bool) -> Json {
    let reading = async {
        loop {
            match socket.next().await.unwrap() {
                Word::Report(report) if wanted(&report) => return report,
                Word::Report(_) | Word::RoundTrip(_) => {}
                Word::Over(why) => panic!("the socket ended: {why}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("a report says it in time")
}

async fn dropped(socket: &mut Socket, reason: &str) {
    report(socket, |report| report["dropped"][reason].as_u64() > Some(0)).await;
}

fn controls(vehicle: &Vehicle) -> usize {
    vehicle.seen.lock().unwrap().controls.len()
}

async fn send(socket: &mut Socket, token: Token, state: ControlState) {
    let frame = ControlFrame { token, stamp: socket.stamp(), states: vec![state] };
    socket.send(&Frame::Control(frame)).await.unwrap();
}

/// Steers until something arrives: on a busy machine a frame may be too old before it is even read.
async fn steer(socket: &mut Socket, token: Token, vehicle: &Vehicle) {
    let mut counter = 0;
    until(async || {
        counter += 1;
        send(socket, token, state(token, counter)).await;
        controls(vehicle) > 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn control_reaches_the_vehicle_by_its_own_clock() {
    let gateway = patient().await;
    let vehicle = gateway.drivable("truck").await;
    let ada = gateway.token();
    let mut socket = socket(&gateway, &ada).await.unwrap();
    let token = lease(&gateway, &ada).await;
    assert!(socket.heartbeat().unwrap());
    loop {
        if let Word::RoundTrip(_) = socket.next().await.unwrap() {
            break;
        }
    }
    steer(&mut socket, token, &vehicle).await;
    let seen = vehicle.seen.lock().unwrap().controls.clone();
    let (frame, came) = &seen[0];
    assert!(frame.states.iter().all(|state| state.open(ROAD_VEHICLE, token).is_ok()), "untouched");
    // Here all clocks are one, so the true age is known: the vehicle never thinks it younger. A floor is
    // behind a clock by what clocks may drift, three in a thousand.
    let age = frame.stamp.age(BootClock::system().unwrap().boot(), *came).unwrap();
    assert!(age < PATIENCE && !age.is_zero(), "{age:?}");
    report(&mut socket, |report| {
        report["relayed"].as_u64() > Some(0) && report["lease"]["operator"] == "ada"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stale_broken_or_of_another_token_goes_no_further() {
    let gateway = patient().await;
    let vehicle = gateway.drivable("truck").await;
    let ada = gateway.token();
    let mut socket = socket(&gateway, &ada).await.unwrap();
    send(&mut socket, Token::FIRST, state(Token::FIRST, 1)).await;
    dropped(&mut socket, "no_lease").await;
    let token = lease(&gateway, &ada).await;
    let frame = |stamp, states| Frame::Control(ControlFrame { token, stamp, states });
    let now = socket.stamp();
    let old = Stamp { clock: now.clock - Duration::from_millis(300), ..now };
    let ahead = Stamp { clock: now.clock + PATIENCE, ..now };
    let torn = ControlState { throttle: 1.0, ..state(token, 1) };
    for (frame, reason) in [
        (frame(old, vec![state(token, 1)]), "stale"),
        (frame(Stamp { clock: Moment::ZERO, ..now }, vec![state(token, 1)]), "stale"),
        (frame(ahead, vec![state(token, 1)]), "age_unknowable"),
        (frame(now, vec![torn]), "crc"),
    ] {
        socket.send(&frame).await.unwrap();
        dropped(&mut socket, reason).await;
    }
    send(&mut socket, token.next(), state(token.next(), 1)).await;
    dropped(&mut socket, "other_token").await;
    assert_eq!(controls(&vehicle), 0);
    let (_, metrics) = gateway.internal("/metrics").await;
    assert!(metrics.contains(r#"carriageway_drops_total{stage="control",reason="stale"} 2"#), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_loses_the_lease_steers_no_more_and_is_told() {
    let gateway = patient().await;
    let vehicle = gateway.drivable("truck").await;
    let (ada, bob) = (gateway.token(), gateway.token_with(|grant| grant.sub = "bob".into()));
    let (mut hers, mut his) = (socket(&gateway, &ada).await.unwrap(), socket(&gateway, &bob).await.unwrap());
    let first = lease(&gateway, &ada).await;
    let second = lease(&gateway, &bob).await;
    report(&mut hers, |report| report["lease"]["operator"] == "bob").await;
    send(&mut hers, first, state(first, 1)).await;
    dropped(&mut hers, "no_lease").await;
    // Knowing his token does not help her.
    send(&mut hers, second, state(second, 1)).await;
    report(&mut hers, |report| report["dropped"]["no_lease"] == 2).await;
    assert_eq!(controls(&vehicle), 0);
    steer(&mut his, second, &vehicle).await;
    drop(his);
    assert_eq!(gateway.post(&bob, LEASE, &json!({ "action": "renew", "token": 2 })).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_is_dropped_and_counted() {
    let gateway = patient().await;
    let _vehicle = gateway.drivable("truck").await;
    let ada = gateway.token();
    let mut socket = socket(&gateway, &ada).await.unwrap();
    let token = lease(&gateway, &ada).await;
    for counter in 0..400 {
        send(&mut socket, token, state(token, counter)).await;
    }
    dropped(&mut socket, "rate_limited").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_drivers_get_a_socket_and_only_a_websocket_is_one() {
    let gateway = patient().await;
    let commander = gateway.token_with(|grant| grant.scope = "observe command:*".into());
    let unknown = socket(&gateway, &gateway.token()).await.err().unwrap().to_string();
    assert!(unknown.contains("404"), "{unknown}");
    let _vehicle = gateway.drivable("truck").await;
    let refused = socket(&gateway, &commander).await.err().unwrap().to_string();
    assert!(refused.contains("403") && refused.contains("`drive`"), "{refused}");
    let nobody = socket(&gateway, "nonsense").await.err().unwrap().to_string();
    assert!(nobody.contains("401"), "{nobody}");
    let path = "/v1/vehicles/truck/control";
    assert_eq!(gateway.get(path).await.problem(), (426, "not-a-websocket"));
    // A browser sends its token among the subprotocols.
    let offer = format!("carriageway.v1, carriageway.bearer.{}", gateway.token());
    let upgrade = gateway.bare(Method::GET, path).header("Sec-WebSocket-Protocol", offer);
    let upgrade = upgrade.header("Connection", "Upgrade").header("Upgrade", "websocket");
    let upgrade =
        upgrade.header("Sec-WebSocket-Version", "13").header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    let opened = upgrade.send().await.unwrap();
    assert_eq!(
        (opened.status().as_u16(), &opened.headers()["sec-websocket-protocol"]),
        (101, &"carriageway.v1".parse().unwrap())
    );
    let forged = gateway.bare(Method::GET, path).header("Sec-WebSocket-Protocol", "carriageway.bearer.x");
    assert_eq!(Answer::of(forged.send().await.unwrap()).await.problem(), (401, "unauthorized"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_says_something_else_is_closed_and_tells_why() {
    let gateway = patient().await;
    let _vehicle = gateway.drivable("truck").await;
    for bytes in [b"garbage".to_vec(), Frame::Signals(Vec::new()).encode(Moment::ZERO).to_vec()] {
        let mut socket = socket(&gateway, &gateway.token()).await.unwrap();
        socket.send_bytes(bytes.into()).await.unwrap();
        let over = async {
            loop {
                if let Word::Over(why) = socket.next().await.unwrap() {
                    return why;
                }
            }
        };
        let why = tokio::time::timeout(PATIENCE, over).await.unwrap();
        assert!(!why.is_empty());
    }
    until(async || gateway.internal("/metrics").await.1.contains("carriageway_control_sockets 0")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_waits_for_who_drives_and_tells_them() {
    let mut gateway = Gateway::start_with(|config| {
        config.lease.ttl_ms = 30_000;
        config.drain.deadline_ms = 40_000;
    })
    .await;
    let vehicle = gateway.drivable("truck").await;
    let ada = gateway.token();
    let mut events = Events::open(&gateway, "?events=drain", None).await;
    let mut socket = socket(&gateway, &ada).await.unwrap();
    let token = lease(&gateway, &ada).await;
    steer(&mut socket, token, &vehicle).await;
    let drained = gateway.running.take().unwrap().drain();
    let story = async {
        let told = report(&mut socket, |report| !report["drains_in_ms"].is_null()).await;
        assert_eq!(told["lease"]["operator"], "ada", "it is still hers: {told}");
        assert_eq!(events.next_of("drain").await.data["vehicle"], "truck");
        for action in ["take", "renew"] {
            let wish = json!({ "action": action, "token": token.number() });
            let refused = gateway.post(&ada, LEASE, &wish).await;
            assert_eq!(refused.problem(), (503, "draining"));
            assert!(refused.detail().contains("no lease"), "{}", refused.detail());
        }
        assert!(vehicle.seen.lock().unwrap().closed_by.is_none(), "nobody who drives is cut off");
        // She has brought it to a stop, and for longer than what is passed on counts as driving.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        let release = json!({ "action": "release", "token": token.number() });
        assert_eq!(gateway.post(&ada, LEASE, &release).await.status, 204);
        until(async || vehicle.seen.lock().unwrap().closed_by.is_some()).await;
    };
    let (drained, ()) = tokio::join!(drained, story);
    assert_eq!(drained.driven, 0);
    assert_eq!(vehicle.seen.lock().unwrap().closed_by, Some(CloseCode::Restarting));
    assert!(vehicle.seen.lock().unwrap().leases.last().unwrap().ttl.is_zero(), "told of the end before");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_by_its_deadline_whoever_drives() {
    let mut gateway = Gateway::start_with(|config| {
        config.lease.ttl_ms = 60_000;
        config.drain.deadline_ms = 2_000;
    })
    .await;
    let vehicle = gateway.drivable("truck").await;
    let ada = gateway.token();
    let mut socket = socket(&gateway, &ada).await.unwrap();
    let token = lease(&gateway, &ada).await;
    steer(&mut socket, token, &vehicle).await;
    let drained = gateway.running.take().unwrap().drain().await;
    assert_eq!(drained.driven, 1, "the lease would have gone on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_the_socket() {
    let mut gateway = patient().await;
    let _vehicle = gateway.drivable("truck").await;
    let mut socket = socket(&gateway, &gateway.token()).await.unwrap();
    socket.send(&Frame::Heartbeat(Heartbeat { sequence: 1, echo: None })).await.unwrap();
    let drained = gateway.running.take().unwrap().drain();
    let over = async {
        loop {
            if let Word::Over(why) = socket.next().await.unwrap() {
                return why;
            }
        }
    };
    let (_, why) = tokio::join!(drained, over);
    assert_eq!(why, "the gateway restarts");
}
