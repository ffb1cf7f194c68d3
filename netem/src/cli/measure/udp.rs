//! Datagrams: accuracy, throughput, many vehicles.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use carriageway_netem::core::Moment;
use carriageway_netem::profile::{Profile, Tweak};
use carriageway_netem::relay::{self, Relay};
use carriageway_netem::testbed::{Config, SERVER, Testbed};

use super::{Args, conclude, say, spread, ten_megabit};
use crate::cli::clock;

const PORT: u16 = 4433;
/// How long the last answers are waited for: longer than any queue here.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a silent socket's reader looks whether it is over.
const LOOK_UP: Duration = Duration::from_millis(100);
/// Beside the beat of a 20 ms delay, so that asking, answering and hearing never fall on one moment: they
/// would wait for each other on a small machine.
const PING_PERIOD: Duration = Duration::from_millis(11);
const FLEET: usize = 50;
const FLEET_PERIOD: Duration = Duration::from_millis(20);
const BULK_BITS_PER_SECOND: u64 = 10_000_000;
const LARGE: usize = 1_372;
/// Large datagrams on their way at once: fewer than fit into a socket's receive buffer of 208 KiB.
const MOST_UNDER_WAY: u64 = 64;

/// How long a sender waits for room: a fraction of what so many datagrams take at 100,000 per second.
const PAUSE: Duration = Duration::from_micros(100);

/// A socket on the network's side.
pub(super) fn server(bed: &Testbed, port: u16) -> anyhow::Result<UdpSocket> {
    let socket = bed.net().within(move || UdpSocket::bind((SERVER, port)))?;
    socket.set_read_timeout(Some(LOOK_UP))?;
    Ok(socket)
}

/// A socket in a vehicle, connected to the network's side.
pub(super) fn client(bed: &Testbed, vehicle: usize, port: u16) -> anyhow::Result<UdpSocket> {
    let socket = bed.vehicle(vehicle).within(|| UdpSocket::bind("0.0.0.0:0"))?;
    socket.connect((SERVER, port))?;
    socket.set_read_timeout(Some(LOOK_UP))?;
    Ok(socket)
}

/// Answers every datagram with itself until told to stop.
pub(super) fn echo(socket: &UdpSocket, stop: &AtomicBool) {
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            // The asker notices what is missing.
            let _ = socket.send_to(&buffer[..length], from);
        }
    }
}

/// Round trips in milliseconds of pings that are sent `every` until `end`, answered or not; lost ones are left out.
pub(super) fn pings(args: &Args, socket: &UdpSocket, every: Duration, end: Moment) -> io::Result<Vec<f64>> {
    thread::scope(|scope| {
        let listening = scope.spawn(|| args.prepare().map(|()| answers(socket, end + PATIENCE)));
        args.prepare()?;
        let mut due = clock::now();
        while due < end {
            clock::sleep_until(due);
            due = due + every;
            let mut question = [0; 72];
            question[..8].copy_from_slice(&clock::now().as_nanos().to_ne_bytes());
            // One that is not sent is not answered.
            let _ = socket.send(&question);
        }
        listening.join().expect("listening does not panic")
    })
}

/// Every answer carries when its question was asked.
fn answers(socket: &UdpSocket, end: Moment) -> Vec<f64> {
    let (mut trips, mut buffer) = (Vec::new(), [0; 72]);
    while clock::now() < end {
        if let Ok(72) = socket.recv(&mut buffer) {
            let sent = u64::from_ne_bytes(*buffer.first_chunk().expect("a ping has more than 8 bytes"));
            trips.push(clock::now().since(Moment::from_nanos(sent)).as_secs_f64() * 1e3);
        }
    }
    trips
}

pub(super) fn round_trip(args: &Args) -> anyhow::Result<()> {
    let bed = args.bed(&forty_milliseconds())?;
    ping_pong(args, &server(&bed, PORT)?, &client(&bed, 0, PORT)?)?;
    conclude(&bed.report()?)
}

/// The same through the relay, over loopback.
pub(super) fn relay(args: &Args) -> anyhow::Result<()> {
    let here = (Ipv4Addr::LOCALHOST, 0).into();
    let (server, client) = (UdpSocket::bind::<SocketAddr>(here)?, UdpSocket::bind::<SocketAddr>(here)?);
    let profile = Profile::perfect("measured").tweaked(&forty_milliseconds());
    let relay = Relay::start(relay::Config::new(profile).seed(args.seed).udp(here, server.local_addr()?))?;
    client.connect(relay.udp_addresses()[0])?;
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(LOOK_UP))?;
    }
    ping_pong(args, &server, &client)?;
    let lateness = relay.stats()?.lateness;
    let late = |q| lateness.quantile(q).as_micros();
    say(&format!("relay: lateness p50 {} us, p99 {} us", late(0.5), late(0.99)))?;
    Ok(())
}

fn forty_milliseconds() -> Tweak {
    Tweak { delay: Some(Duration::from_millis(20)), ..Tweak::default() }
}

fn ping_pong(args: &Args, server: &UdpSocket, client: &UdpSocket) -> anyhow::Result<()> {
    let (end, stop) = (clock::now() + args.time, AtomicBool::new(false));
    let mut trips = thread::scope(|scope| {
        scope.spawn(|| args.prepare().map(|()| echo(server, &stop)));
        let pinging = scope.spawn(|| pings(args, client, PING_PERIOD, end));
        let trips = pinging.join().expect("pinging does not panic");
        stop.store(true, Ordering::Relaxed);
        trips
    })?;
    let (median, tail, worst) = spread(&mut trips);
    say(&format!(
        "{} round trips of 40 ms: error p50 {:.3} ms, p99 {:.3} ms, worst {:.3} ms",
        trips.len(),
        median - 40.0,
        tail - 40.0,
        worst - 40.0
    ))?;
    Ok(())
}

pub(super) fn packets(args: &Args) -> anyhow::Result<()> {
    let bed = args.bed(&Tweak::default())?;
    let (server, client, stop) = (server(&bed, PORT)?, client(&bed, 0, PORT)?, AtomicBool::new(false));
    let end = clock::now() + args.time;
    let received = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| drain(&server, &stop, &received));
        let mut sent = 0;
        while clock::now() < end {
            if sent - received.load(Ordering::Relaxed) < MOST_UNDER_WAY {
                sent += u64::from(client.send(&[0; LARGE]).is_ok());
            } else {
                // The other end and the emulator need the core more than this thread's impatience.
                clock::sleep_until(clock::now() + PAUSE);
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    let report = bed.report()?;
    let delivered = report.json()["wires"][0]["up"]["delivered"].as_u64().unwrap_or(0);
    let rate = delivered as f64 / args.time.as_secs_f64();
    say(&format!("{rate:.0} packets/s of 1,400 bytes, {:.2} Gbit/s", rate * 1_400.0 * 8.0 / 1e9))?;
    conclude(&report)
}

fn drain(socket: &UdpSocket, stop: &AtomicBool, received: &AtomicU64) {
    while !stop.load(Ordering::Relaxed) {
        received.fetch_add(u64::from(socket.recv(&mut [0; 2048]).is_ok()), Ordering::Relaxed);
    }
}

pub(super) fn fleet(args: &Args) -> anyhow::Result<()> {
    let tweak = Tweak { jitter: Some(Duration::from_millis(10)), ..ten_megabit("75 kB") };
    let profile = Profile::perfect("measured").tweaked(&tweak);
    let bed = args.start(Config::new(profile).vehicles(FLEET))?;
    let (server, stop) = (server(&bed, PORT)?, AtomicBool::new(false));
    let received = AtomicU64::new(0);
    let clients =
        (0..FLEET).map(|vehicle| client(&bed, vehicle, PORT)).collect::<anyhow::Result<Vec<_>>>()?;
    let end = clock::now() + args.time;
    thread::scope(|scope| {
        scope.spawn(|| drain(&server, &stop, &received));
        scope.spawn(|| bulk(&clients[0], end));
        let mut due = clock::now();
        let gap = FLEET_PERIOD / FLEET as u32;
        for client in clients.iter().cycle() {
            clock::sleep_until(due);
            if due >= end {
                break;
            }
            due = due + gap;
            let _ = client.send(&[0; 72]);
        }
        stop.store(true, Ordering::Relaxed);
    });
    let report = bed.report()?;
    say(&format!("{FLEET} vehicles at 50 Hz and one bulk of 10 Mbit/s, offered evenly"))?;
    conclude(&report)
}

/// Large datagrams at the bulk's rate.
fn bulk(socket: &UdpSocket, end: Moment) -> io::Result<()> {
    let step = Duration::from_nanos((LARGE as u64 + 28) * 8 * 1_000_000_000 / BULK_BITS_PER_SECOND);
    let mut due = clock::now();
    while due < end {
        clock::sleep_until(due);
        due = due + step;
        socket.send(&[0; LARGE])?;
    }
    Ok(())
}
