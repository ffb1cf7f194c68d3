//! The terminal client: as a process of its own, driving by a script; and its pilot on a connection that stalls.

use std::net::SocketAddr;
use std::process::Output;

use carriageway_gateway::auth::unix_now;
use carriageway_gateway::cli::drive::calls::Call;
use carriageway_gateway::cli::drive::pilot::{Pilot, Turn};
use carriageway_gateway::cli::drive::place::Place;
use carriageway_proto::{Class, Controls, DrivePhase, DriveState, Message, SafeCause, Token};
use carriageway_transport::clock::BootClock;
use serde_json::json;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::{Act, Gateway, PATIENCE, Vehicle, until};

/// Runs `carriageway-gateway drive truck` with these arguments.
fn drive(gateway: &Gateway, token: &str, script: &str) -> JoinSet<Output> {
    let file = gateway.folder.path(&format!("token-{}", unix_now()));
    std::fs::write(&file, format!("{token}\n")).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_carriageway-gateway"));
    command.args(["drive", "truck", "--url", &format!("https://{}", gateway.tcp), "--script", script]);
    command.arg("--token-file").arg(file).arg("--ca").arg(gateway.folder.path("ca.pem"));
    let mut running = JoinSet::new();
    running.spawn_blocking(move || command.output().unwrap());
    running
}

async fn says(vehicle: &Vehicle, phase: DrivePhase, cause: Option<SafeCause>) {
    let nonce = cause.and_then(|_| std::num::NonZeroU64::new(9));
    let state = DriveState { phase, cause, nonce, token: Token::granted(1) };
    vehicle.act(Act::Say(Message::DriveState(state))).await;
}

/// Whether control has come with about this throttle.
fn throttle(vehicle: &Vehicle, wanted: f32) -> bool {
    let seen = vehicle.seen.lock().unwrap();
    seen.controls.iter().any(|(frame, _)| (frame.states[0].throttle - wanted).abs() < 0.001)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_takes_the_lease_re_arms_drives_and_releases() {
    let gateway = Gateway::start().await;
    let vehicle = gateway.drivable("truck").await;
    // What `--help` says that it needs, and no more.
    let token = gateway.token_with(|grant| grant.scope = "drive command:safety".into());
    let mut running = drive(&gateway, &token, "throttle 0.3 for 300ms; steer -0.5 for 100ms; stop");
    until(async || !vehicle.seen.lock().unwrap().rearms.is_empty()).await;
    assert!(!throttle(&vehicle, 0.3), "nothing but neutral before the vehicle is armed");
    says(&vehicle, DrivePhase::Armed, None).await;
    until(async || throttle(&vehicle, 0.3)).await;
    let output = running.join_next().await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("the lease is yours") && text.contains("the script is done"), "{text}");
    until(async || vehicle.seen.lock().unwrap().leases.last().is_some_and(|lease| lease.ttl.is_zero())).await;
    let seen = vehicle.seen.lock().unwrap();
    let counters: Vec<_> = seen.controls.iter().map(|(frame, _)| frame.states[0].counter).collect();
    assert!(counters.is_sorted_by(|one, next| one < next), "{counters:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vehicle_that_stops_ends_the_script_with_its_cause() {
    let gateway = Gateway::start().await;
    let vehicle = gateway.drivable("truck").await;
    let mut running = drive(&gateway, &gateway.token(), "throttle 0.3 for 60s");
    until(async || !vehicle.seen.lock().unwrap().rearms.is_empty()).await;
    says(&vehicle, DrivePhase::Armed, None).await;
    until(async || throttle(&vehicle, 0.3)).await;
    says(&vehicle, DrivePhase::Safe, Some(SafeCause::ControlLost)).await;
    let output = running.join_next().await.unwrap().unwrap();
    let why = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && why.contains("CONTROL_LOST"), "{why}");
    // It gave the lease back all the same.
    let bob = gateway.token_with(|grant| grant.sub = "bob".into());
    let taken = gateway.post(&bob, "/v1/vehicles/truck/control-lease", &json!({ "action": "take" })).await;
    assert_eq!(taken.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_drive_is_told_so_and_ends() {
    let gateway = Gateway::start().await;
    let _vehicle = gateway.drivable("truck").await;
    let watcher = gateway.token_with(|grant| grant.scope = "observe".into());
    let output = drive(&gateway, &watcher, "stop").join_next().await.unwrap().unwrap();
    let why = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && why.contains("403") && why.contains("`drive`"), "{why}");
}

/// Passes connections on to a gateway. The first of them is the control socket's, and can stall.
struct Relay {
    address: SocketAddr,
    stalls: watch::Sender<bool>,
    _connections: JoinSet<()>,
}

impl Relay {
    fn before(gateway: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // Soon full.
        socket.set_recv_buffer_size(4_096).unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let listener = socket.listen(16).unwrap();
        let (address, stalls) = (listener.local_addr().unwrap(), watch::Sender::new(false));
        let (mut connections, mut stalled) = (JoinSet::new(), Some(stalls.subscribe()));
        connections.spawn(async move {
            let mut passing = JoinSet::new();
            while let Ok((operator, _)) = listener.accept().await {
                passing.spawn(pass(operator, gateway, stalled.take()));
            }
        });
        Self { address, stalls, _connections: connections }
    }
}

async fn pass(mut operator: TcpStream, gateway: SocketAddr, stalled: Option<watch::Receiver<bool>>) {
    let mut gateway = TcpStream::connect(gateway).await.unwrap();
    let stall = async {
        match stalled {
            Some(mut stalled) => drop(stalled.wait_for(|stalled| *stalled).await),
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = copy_bidirectional(&mut operator, &mut gateway) => return,
        () = stall => {}
    }
    // As a NAT that forgot it: open at both ends, and dead between them.
    std::future::pending::<()>().await;
}

async fn pilot(gateway: &Gateway, relay: &Relay) -> Pilot {
    let url = format!("https://{}", relay.address);
    let vehicle = "truck".parse().unwrap();
    let place = Place::new(&url, vehicle, &gateway.token(), &gateway.folder.path("ca.pem")).unwrap();
    Pilot::sit(&place, BootClock::system().unwrap()).await.unwrap()
}

/// Drives until the pilot says that it is over, and why.
async fn over(pilot: &mut Pilot) -> String {
    let driving = async {
        loop {
            match pilot.turn().await.unwrap() {
                Turn::Frame => pilot.steer(Controls::NEUTRAL).unwrap(),
                Turn::News => {}
                Turn::Over(why) => return why,
            }
        }
    };
    timeout(PATIENCE, driving).await.expect("it ends in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emergency_stop_gets_through_while_the_control_socket_takes_nothing() {
    let gateway = Gateway::start_with(|config| config.lease.ttl_ms = 10_000).await;
    let vehicle = gateway.drivable("truck").await;
    let relay = Relay::before(gateway.tcp);
    let mut pilot = pilot(&gateway, &relay).await;
    pilot.ask(Call::Take { force: false });
    let taking = async {
        while pilot.dash.lease.is_none() {
            pilot.turn().await.unwrap();
            pilot.steer(Controls::NEUTRAL).unwrap();
        }
    };
    timeout(PATIENCE, taking).await.unwrap();
    relay.stalls.send_replace(true);
    // More than all buffers on the way take; none of it may wait.
    while pilot.dash.held_back == 0 {
        pilot.steer(Controls::NEUTRAL).unwrap();
    }
    pilot.ask(Call::EmergencyStop);
    let why = over(&mut pilot).await;
    assert!(why.contains("taken or said nothing for 3s"), "{why}");
    let stops = |vehicle: &Vehicle| {
        let seen = vehicle.seen.lock().unwrap();
        seen.commands.iter().filter(|command| command.class == Class::Safety).count()
    };
    assert_eq!(stops(&vehicle), 1, "{}", pilot.dash.note);
    // And one in the last moment is not cut off by the end of the drive, even where no lease is to be released.
    pilot.dash.lease = None;
    pilot.ask(Call::EmergencyStop);
    pilot.leave().await;
    until(async || stops(&vehicle) == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_says_nothing_any_more_ends_the_drive() {
    let gateway = Gateway::start().await;
    let _vehicle = gateway.drivable("truck").await;
    let relay = Relay::before(gateway.tcp);
    let mut pilot = pilot(&gateway, &relay).await;
    // Without a lease nothing but heartbeats goes out, which the socket takes.
    relay.stalls.send_replace(true);
    let why = over(&mut pilot).await;
    assert!(why.contains("taken or said nothing for 3s"), "{why}");
    assert_eq!((pilot.dash.sent, pilot.dash.held_back), (0, 0));
}
