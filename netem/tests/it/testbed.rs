//! Real kernels over the model, where this machine permits it.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use carriageway_netem::core::{Loss, OutageMode, Probability};
use carriageway_netem::profile::{Profile, Rebinding, Scenario, Tweak, units};
use carriageway_netem::testbed::{Config, SERVER, StartError, Testbed, vehicle_address};
use serde_json::Value;

use crate::wait::{Stopwatch, until};

const PORT: u16 = 4433;
const PATIENCE: Duration = Duration::from_secs(10);
/// Long enough for a packet that is not lost, short enough to wait for one that is.
const GRACE: Duration = Duration::from_millis(300);

/// A testbed, or `None` where making one is not permitted: then the test says so and passes.
pub(crate) fn testbed(config: Config) -> Option<Testbed> {
    match Testbed::start(config) {
        Ok(bed) => Some(bed),
        Err(error @ (StartError::Permission { .. } | StartError::NoTun)) => {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn link(delay_ms: u64) -> Profile {
    let tweak = Tweak { delay: Some(Duration::from_millis(delay_ms)), ..Tweak::default() };
    Profile::perfect("test").tweaked(&tweak)
}

/// A UDP socket on the net side and one in the first vehicle that talks to it.
fn udp_pair(bed: &Testbed) -> (UdpSocket, UdpSocket) {
    let server = bed.net().within(|| UdpSocket::bind(("0.0.0.0", PORT))).unwrap();
    let client = bed.vehicle(0).within(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
    client.connect((SERVER, PORT)).unwrap();
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    (server, client)
}

/// Whether what was offered in one direction is accounted for.
fn adds_up(direction: &Value) -> bool {
    let count = |value: &Value| value.as_u64().unwrap();
    let dropped: u64 = direction["dropped"].as_object().unwrap().values().map(count).sum();
    count(&direction["offered"]) == count(&direction["delivered"]) + dropped + count(&direction["held"])
}

/// Fates in a packet log of the packets on the way up, without TCP's answers and the like.
fn fates_up(log: &std::path::Path) -> Vec<String> {
    let text = std::fs::read_to_string(log).unwrap();
    let fields = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    fields.filter(|fields| fields[3] == "up").map(|fields| fields[9].to_owned()).collect()
}

#[test]
fn a_round_trip_takes_twice_the_delay() {
    let Some(bed) = testbed(Config::new(link(20))) else { return };
    let (server, client) = udp_pair(&bed);
    let watch = Stopwatch::start();
    client.send(b"question").unwrap();
    let (_, from) = server.recv_from(&mut [0; 64]).unwrap();
    assert_eq!(from.ip(), vehicle_address(0, 0));
    server.send_to(b"answer", from).unwrap();
    assert_eq!(client.recv(&mut [0; 64]).unwrap(), 6);
    assert!(watch.elapsed() >= Duration::from_millis(40), "{:?}", watch.elapsed());
    let report = bed.report().unwrap();
    let wire = &report.json()["wires"][0];
    assert_eq!((&wire["up"]["delivered"], &wire["down"]["delivered"]), (&1.into(), &1.into()));
    assert_eq!(report.json()["tun_drops"], 0);
}

#[test]
fn tcp_keeps_to_the_rate() {
    let tweak =
        Tweak { rate: units::rate("8 Mbit/s").ok(), queue: units::limit("64 KiB").ok(), ..Tweak::default() };
    let Some(bed) = testbed(Config::new(link(5).tweaked(&tweak))) else { return };
    let listener = bed.net().within(|| TcpListener::bind((SERVER, PORT))).unwrap();
    let mut client = bed.vehicle(0).within(|| TcpStream::connect((SERVER, PORT))).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let watch = Stopwatch::start();
    let bytes = vec![7; 400_000];
    std::thread::scope(|scope| {
        scope.spawn(|| client.write_all(&bytes).unwrap());
        server.read_exact(&mut vec![0; bytes.len()]).unwrap();
    });
    assert!(watch.elapsed() >= Duration::from_millis(400), "{:?}", watch.elapsed());
}

#[test]
fn an_outage_and_a_blocked_udp_pass_nothing() {
    let Some(bed) = testbed(Config::new(link(1))) else { return };
    let (server, client) = udp_pair(&bed);
    server.set_read_timeout(Some(GRACE)).unwrap();
    let passes = || {
        client.send(b"x").unwrap();
        match server.recv(&mut [0; 8]) {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) => panic!("{error}"),
        }
    };
    assert!(passes());
    bed.outage(None, Duration::from_mins(1), OutageMode::Drop).unwrap();
    assert!(!passes());
    bed.outage(None, Duration::ZERO, OutageMode::Drop).unwrap();
    bed.block_udp(true).unwrap();
    assert!(!passes());
    bed.block_udp(false).unwrap();
    assert!(passes());
}

#[test]
fn a_vehicle_moves_to_its_other_path() {
    let Some(bed) = testbed(Config::new(link(1)).path("wlan0", link(1)).vehicles(2)) else { return };
    let (server, _) = udp_pair(&bed);
    server.set_read_timeout(Some(GRACE)).unwrap();
    // The kernel acts on a carrier in its own time: until then packets are lost or find no route.
    let leaves_by = |path| {
        until(PATIENCE, || {
            let client = bed.vehicle(0).within(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
            client.connect((SERVER, PORT)).and_then(|()| client.send(b"x")).ok()?;
            let (_, from) = server.recv_from(&mut [0; 8]).ok()?;
            (from.ip() == vehicle_address(0, path)).then_some(())
        });
    };
    leaves_by(0);
    bed.prefer(1).unwrap();
    leaves_by(1);
    bed.prefer(0).unwrap();
    leaves_by(0);
    bed.set_address(0, false).unwrap();
    leaves_by(1);
    bed.set_address(0, true).unwrap();
    leaves_by(0);
    bed.set_carrier(0, false).unwrap();
    leaves_by(1);
    bed.set_carrier(0, true).unwrap();
    bed.set_link(1, false).unwrap();
    leaves_by(0);
    // What an interface drops because it was told to be down is no fault of the run.
    let report = bed.report().unwrap();
    assert_eq!((&report.json()["tun_drops"], &report.json()["refused"]), (&0.into(), &0.into()));
}

#[test]
fn a_rebound_nat_shows_another_port_and_forgets_the_old() {
    let Some(bed) = testbed(Config::new(link(1))) else { return };
    let (server, client) = udp_pair(&bed);
    let seen = || {
        client.send(b"x").unwrap();
        server.recv_from(&mut [0; 8]).unwrap().1
    };
    let before = seen();
    bed.rebind_nat(None, Rebinding::Silent).unwrap();
    let after = seen();
    assert_ne!(before.port(), after.port());
    server.send_to(b"to the old port", before).unwrap();
    server.send_to(b"new", after).unwrap();
    assert_eq!(client.recv(&mut [0; 64]).unwrap(), 3);
    let report = bed.report().unwrap();
    let wire = &report.json()["wires"][0];
    assert_eq!((&wire["up"]["dropped"]["nat"], &wire["down"]["dropped"]["nat"]), (&0.into(), &1.into()));
    assert!(adds_up(&wire["up"]) && adds_up(&wire["down"]), "{wire:#}");
}

#[test]
fn a_nat_that_resets_ends_tcp() {
    let Some(bed) = testbed(Config::new(link(1))) else { return };
    let listener = bed.net().within(|| TcpListener::bind((SERVER, PORT))).unwrap();
    let mut client = bed.vehicle(0).within(|| TcpStream::connect((SERVER, PORT))).unwrap();
    let _server = listener.accept().unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    bed.rebind_nat(None, Rebinding::Reset).unwrap();
    client.write_all(b"x").unwrap();
    assert_eq!(client.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_scenario_happens_on_time() {
    let text = "summary = 'x'\n[[event]]\nat = '200ms'\ndo = 'udp-block'\n[[event]]\nat = '400ms'\ndo = 'udp-pass'\n";
    let scenario = Scenario::parse("test.toml", text, std::path::Path::new("")).unwrap();
    let watch = Stopwatch::start();
    let Some(bed) = testbed(Config::scenario(scenario)) else { return };
    let (server, client) = udp_pair(&bed);
    server.set_nonblocking(true).unwrap();
    let mut gap = Duration::ZERO;
    let mut last = watch.elapsed();
    while watch.elapsed() < Duration::from_millis(800) {
        client.send(b"x").unwrap();
        if server.recv(&mut [0; 8]).is_ok() {
            gap = gap.max(watch.elapsed().saturating_sub(last));
            last = watch.elapsed();
        }
        std::thread::yield_now();
    }
    assert!(gap > Duration::from_millis(150) && gap < GRACE, "{gap:?}");
    assert!(last > Duration::from_millis(700), "{last:?}");
}

#[test]
fn the_packet_log_tells_every_fate() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut config = Config::new(link(1));
    config.log = Some(file.path().to_owned());
    let Some(bed) = testbed(config) else { return };
    let (server, client) = udp_pair(&bed);
    client.send(b"x").unwrap();
    server.recv(&mut [0; 8]).unwrap();
    bed.stop().unwrap();
    let text = std::fs::read_to_string(file.path()).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("offered_us,vehicle,path,direction"));
    assert!(
        lines[1].contains(",1,lte0,up,0,29,udp,") && lines[1].contains(",delivered,1,0,"),
        "{}",
        lines[1]
    );
}

#[test]
fn what_the_nat_or_a_dead_interface_swallows_was_not_delivered() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut config = Config::new(link(1));
    config.log = Some(file.path().to_owned());
    let Some(bed) = testbed(config) else { return };
    let listener = bed.net().within(|| TcpListener::bind((SERVER, PORT))).unwrap();
    let mut client = bed.vehicle(0).within(|| TcpStream::connect((SERVER, PORT))).unwrap();
    let (server, _) = listener.accept().unwrap();
    bed.rebind_nat(None, Rebinding::Silent).unwrap();
    client.write_all(b"into the void").unwrap();
    let wire = || bed.report().unwrap().json()["wires"][0].clone();
    let wires = until(PATIENCE, || Some(wire()).filter(|wire| wire["up"]["dropped"]["nat"] != 0));
    assert!(adds_up(&wires["up"]), "{wires:#}");

    // The vehicle's interface is down when the answer comes.
    let (udp_server, udp_client) = udp_pair(&bed);
    udp_client.send(b"x").unwrap();
    let (_, from) = udp_server.recv_from(&mut [0; 8]).unwrap();
    bed.set_link(0, false).unwrap();
    udp_server.send_to(b"nobody there", from).unwrap();
    let wires = until(PATIENCE, || Some(wire()).filter(|wire| wire["down"]["dropped"]["no-interface"] != 0));
    assert!(adds_up(&wires["up"]) && adds_up(&wires["down"]), "{wires:#}");
    let (offered, delivered) = (wires["up"]["offered"].as_u64(), wires["up"]["delivered"].as_u64());
    drop((client, server));
    bed.stop().unwrap();
    let fates = fates_up(file.path());
    assert_eq!(fates.len() as u64, offered.unwrap());
    assert_eq!(fates.iter().filter(|fate| *fate == "delivered").count() as u64, delivered.unwrap());
    assert!(fates.iter().any(|fate| fate == "nat"), "{fates:?}");
}

#[test]
fn every_lost_packet_is_in_the_log() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut profile = link(0);
    profile.up.loss = Loss::Bernoulli(Probability::ONE);
    let mut config = Config::new(profile);
    config.log = Some(file.path().to_owned());
    let Some(bed) = testbed(config) else { return };
    let (_server, client) = udp_pair(&bed);
    for _ in 0..20 {
        client.send(b"x").unwrap();
    }
    until(PATIENCE, || {
        let report = bed.report().unwrap();
        let up = &report.json()["wires"][0]["up"];
        (up["dropped"]["loss"] == 20 && adds_up(up)).then_some(())
    });
    bed.stop().unwrap();
    assert_eq!(fates_up(file.path()), vec!["loss"; 20]);
}

#[test]
fn packets_under_way_are_held() {
    let Some(bed) = testbed(Config::new(link(60_000))) else { return };
    let (_server, client) = udp_pair(&bed);
    client.send(b"x").unwrap();
    until(PATIENCE, || {
        let report = bed.report().unwrap();
        let up = &report.json()["wires"][0]["up"];
        assert!(adds_up(up), "{up:#}");
        (up["held"] == 1).then_some(())
    });
}

#[test]
fn time_begins_when_it_is_told_to() {
    let text =
        "summary = 'x'\n[[event]]\nat = '0s'\ndo = 'udp-block'\n[[event]]\nat = '50ms'\ndo = 'udp-pass'\n";
    let scenario = Scenario::parse("test.toml", text, std::path::Path::new("")).unwrap();
    let prepared = match Testbed::prepare(Config::scenario(scenario)) {
        Ok(prepared) => prepared,
        Err(error @ (StartError::Permission { .. } | StartError::NoTun)) => {
            return eprintln!("skipped: {error}");
        }
        Err(error) => panic!("{error}"),
    };
    // Sent before the start: it goes nowhere.
    let early = prepared.vehicle(0).within(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
    early.send_to(b"early", (SERVER, PORT)).unwrap();
    let before = carriageway_netem::clock::now();
    let bed = prepared.begin().unwrap();
    assert!(bed.started() >= before);
    let report = until(PATIENCE, || {
        let report = bed.report().unwrap();
        (report.json()["events"]["list"].as_array().unwrap().len() == 2).then_some(report)
    });
    let json = report.json();
    assert_eq!(json["start_monotonic_ns"], bed.started().as_nanos());
    assert_eq!((&json["before_start"], &json["wires"][0]["up"]["offered"]), (&1.into(), &0.into()));
    let second = &json["events"]["list"][1];
    assert_eq!((&second["what"], &second["planned_us"]), (&"udp-pass".into(), &50_000.into()));
    assert!(second["at_us"].as_u64().unwrap() >= 50_000, "{second:#}");
}

#[test]
fn what_is_so_already_can_be_ordered_again() {
    let Some(bed) = testbed(Config::new(link(1)).path("wlan0", link(1))) else { return };
    let (server, _) = udp_pair(&bed);
    server.set_read_timeout(Some(GRACE)).unwrap();
    let leaves_by = |path| {
        until(PATIENCE, || {
            let client = bed.vehicle(0).within(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
            client.connect((SERVER, PORT)).and_then(|()| client.send(b"x")).ok()?;
            let (_, from) = server.recv_from(&mut [0; 8]).ok()?;
            (from.ip() == vehicle_address(0, path)).then_some(())
        });
    };
    for _ in 0..2 {
        bed.prefer(1).unwrap();
        bed.set_link(1, true).unwrap();
        bed.set_address(1, true).unwrap();
    }
    // A preference outlives what makes the kernel forget the route.
    bed.set_link(1, false).unwrap();
    bed.set_link(1, false).unwrap();
    leaves_by(0);
    bed.set_link(1, true).unwrap();
    leaves_by(1);
    bed.set_address(1, false).unwrap();
    bed.set_address(1, false).unwrap();
    leaves_by(0);
    bed.set_address(1, true).unwrap();
    leaves_by(1);
}

#[test]
fn the_report_says_what_was_run() {
    let profile = Profile::find("lte-edge").unwrap();
    let tweak = Tweak { rate: units::rate("2 Mbit/s").ok(), ..Tweak::default() };
    let Some(bed) = testbed(Config::new(profile.tweaked(&tweak)).seed(3)) else { return };
    let report = bed.report().unwrap();
    let experiment = &report.json()["experiment"];
    assert_eq!(experiment["paths"][0]["up"]["capacity"]["bits_per_second"], 2_000_000);
    assert!(experiment["machine"]["release"].is_string() && experiment["settings"].is_array());
}

#[test]
fn how_late_anything_may_be_once_is_the_callers_to_say() {
    let Some(bed) = testbed(Config { late_once: Duration::ZERO, ..Config::new(link(1)) }) else { return };
    std::thread::sleep(GRACE);
    let report = bed.report().unwrap();
    let fault = "the emulator's thread woke late once";
    assert!(report.faults().iter().any(|told| told.starts_with(fault)), "{:?}", report.faults());
    let limits = &report.json()["limits"];
    assert_eq!((&limits["wake_worst_us"], &limits["wake_p99_us"]), (&0.into(), &1_000.into()));
}

#[test]
fn processors_are_kept_from_sleeping_while_a_real_time_testbed_lives() {
    let wish = std::path::Path::new("/dev/cpu_dma_latency");
    let is_allowed = std::fs::File::options().write(true).open(wish).is_ok();
    let is_held = || {
        let files = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        files.into_iter().any(|file| std::fs::read_link(file.path()).is_ok_and(|path| path == wish))
    };
    let bed = match Testbed::start(Config { realtime: true, ..Config::new(link(1)) }) {
        Ok(bed) => bed,
        Err(error @ (StartError::Permission { .. } | StartError::NoTun | StartError::Refused { .. })) => {
            eprintln!("skipped: {error}");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    assert_eq!(bed.report().unwrap().json()["processors_kept_awake"], is_allowed);
    assert_eq!(is_held(), is_allowed);
    bed.stop().unwrap();
    assert!(!is_held());
}

#[test]
fn impossible_plans_say_what_is_possible() {
    let error = |config| Testbed::start(config).err().unwrap().to_string();
    assert!(error(Config::new(link(1)).vehicles(0)).contains("1 to 250"));
    assert!(error(Config::new(link(1)).path("lte0", link(1))).contains("its own name"));
    assert!(error(Config::new(link(1)).path("wlan 0", link(1))).contains("letters and digits"));
}
