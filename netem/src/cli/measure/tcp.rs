//! Kernel TCP over the emulator, against theory.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use carriageway_netem::core::{Loss, Moment, Probability};
use carriageway_netem::profile::{Profile, Tweak, units};
use carriageway_netem::testbed::{Config, SERVER, Testbed};
use socket2::SockRef;

use super::{Args, conclude, say, spread, ten_megabit, udp};
use crate::cli::clock;

const PORT: u16 = 4434;
const ECHO_PORT: u16 = 4435;
const BASE_RTT_MS: f64 = 60.0;
/// Of the link, in bits per second.
const RATE: f64 = 10e6;
/// Bytes of payload per segment: 1,500 less IP, TCP and timestamps.
const SEGMENT: f64 = 1_448.0;

pub(super) fn goodput(args: &Args) -> anyhow::Result<()> {
    let loss = 0.01;
    // Mathis, Semke, Mahdavi and Ott, "The Macroscopic Behavior of the TCP Congestion Avoidance Algorithm", 1997.
    let mathis = SEGMENT * 8.0 / (BASE_RTT_MS / 1e3) * (1.5_f64 / loss).sqrt() / 1e6;
    say(&format!("10 Mbit/s, 60 ms, 1 % loss, 75 kB queue; Mathis predicts {mathis:.2} Mbit/s for Reno"))?;
    for congestion in ["reno", "cubic", "bbr"] {
        let bed = args.bed(&Tweak { loss: Probability::new(loss), ..ten_megabit("75 kB") })?;
        let end = clock::now() + args.time;
        match upload(&bed, congestion, end) {
            Ok(Upload { used, bytes }) => {
                let rate = bytes as f64 * 8.0 / args.time.as_secs_f64() / 1e6;
                say(&format!("{used}: {rate:.2} Mbit/s, {:.2} of Mathis", rate / mathis))?;
            }
            Err(error) => say(&format!("{congestion}: {error:#}"))?,
        }
        conclude(&bed.report()?)?;
    }
    Ok(())
}

pub(super) fn bufferbloat(args: &Args) -> anyhow::Result<()> {
    for queue in ["150 kB", "1500 kB"] {
        let log = std::env::temp_dir().join(format!("carriageway-netem-{}-queue.csv", std::process::id()));
        let profile = Profile::perfect("measured").tweaked(&ten_megabit(queue));
        let bed = args.start(Config { log: Some(log.clone()), ..Config::new(profile) })?;
        let end = clock::now() + args.time;
        let (server, client) = (udp::server(&bed, ECHO_PORT)?, udp::client(&bed, 0, ECHO_PORT)?);
        let stop = AtomicBool::new(false);
        let (trips, uploaded) = thread::scope(|scope| {
            scope.spawn(|| udp::echo(&server, &stop));
            let pinging = scope.spawn(|| udp::pings(args, &client, Duration::from_millis(50), end));
            let uploaded = upload(&bed, "cubic", end);
            let trips = pinging.join().expect("pinging does not panic");
            stop.store(true, Ordering::Relaxed);
            (trips, uploaded)
        });
        let (mut trips, Upload { used, bytes }) = (trips?, uploaded?);
        let mean = trips.iter().sum::<f64>() / trips.len().max(1) as f64;
        let report = bed.report()?;
        bed.stop()?;
        let queued = mean_queue(&log, args.time)?;
        fs::remove_file(log)?;
        let expected = BASE_RTT_MS + queued * 8.0 / RATE * 1e3;
        say(&format!(
            "{used}, queue {queue}: mean round trip {mean:.1} ms, base and {queued:.0} bytes of mean queue {expected:.1} ms, ratio {:.3}; median {:.1} ms; {:.2} Mbit/s",
            mean / expected,
            spread(&mut trips).0,
            bytes as f64 * 8.0 / args.time.as_secs_f64() / 1e6
        ))?;
        conclude(&report)?;
    }
    Ok(())
}

/// Bytes that stood in the queue on the way up, on average over the first `span`: by the log, from when each packet was offered
/// until it left.
fn mean_queue(log: &Path, span: Duration) -> anyhow::Result<f64> {
    let (text, span) = (fs::read_to_string(log)?, span.as_micros() as f64);
    let mut byte_microseconds = 0.0;
    for line in text.lines().skip(1) {
        let fields: Vec<_> = line.split(',').collect();
        let (Some(offered), Some(&"up"), Some(bytes), Some(left)) =
            (fields.first(), fields.get(3), fields.get(5), fields.get(7))
        else {
            continue;
        };
        let [offered, bytes, left] = [offered, bytes, left].map(|field| field.parse::<f64>());
        let (offered, bytes, left) = (offered?, bytes?, left?);
        byte_microseconds += bytes * (left.min(span) - offered.min(span));
    }
    Ok(byte_microseconds / span)
}

pub(super) fn channel(args: &Args) -> anyhow::Result<()> {
    let loss = Loss::GilbertElliott {
        mean_good: Duration::from_millis(400),
        mean_bad: Duration::from_millis(40),
        loss_good: units::share("1 %").map_err(anyhow::Error::msg)?,
        loss_bad: units::share("80 %").map_err(anyhow::Error::msg)?,
    };
    let folder = std::env::temp_dir();
    let mut fates = Vec::new();
    for transport in ["udp", "tcp"] {
        let mut profile = Profile::perfect("measured").tweaked(&ten_megabit("75 kB"));
        profile.up.loss = loss;
        let log = folder.join(format!("carriageway-netem-{}-{transport}.csv", std::process::id()));
        let bed = args.start(Config { log: Some(log.clone()), ..Config::new(profile) })?;
        let end = clock::now() + args.time;
        if transport == "udp" {
            let (_server, client) = (udp::server(&bed, PORT)?, udp::client(&bed, 0, PORT)?);
            let mut due = clock::now();
            while due < end {
                clock::sleep_until(due);
                due = due + Duration::from_millis(20);
                client.send(&[0; 72])?;
            }
        } else {
            upload(&bed, "cubic", end)?;
        }
        bed.stop()?;
        fates.push(slots(&log)?);
        fs::remove_file(log)?;
    }
    let common: Vec<_> =
        fates[0].iter().filter_map(|(slot, fate)| fates[1].get(slot).map(|other| fate == other)).collect();
    let equal = common.iter().filter(|equal| **equal).count();
    say(&format!(
        "{} slots used by UDP, {} by TCP, {} by both; the same fate in {equal}",
        fates[0].len(),
        fates[1].len(),
        common.len()
    ))?;
    anyhow::ensure!(equal == common.len(), "the channel was not the same");
    Ok(())
}

/// Per slot whether packets on the way up were lost on the air; queue drops say nothing about the channel.
fn slots(log: &Path) -> anyhow::Result<BTreeMap<u64, bool>> {
    let mut fates = BTreeMap::new();
    for line in fs::read_to_string(log)?.lines().skip(1) {
        let fields: Vec<_> = line.split(',').collect();
        let (Some(&"up"), Some(slot), Some(fate)) = (fields.get(3), fields.get(8), fields.get(9)) else {
            continue;
        };
        let lost = match *fate {
            "delivered" => false,
            "loss" | "burst" => true,
            _ => continue,
        };
        fates.insert(slot.parse().context("a slot is a number")?, lost);
    }
    Ok(fates)
}

/// What an upload achieved, and with which congestion control, read back from the socket.
struct Upload {
    used: String,
    bytes: u64,
}

/// Sends as fast as TCP lets until `end`; counts what the other side read by then.
fn upload(bed: &Testbed, congestion: &'static str, end: Moment) -> anyhow::Result<Upload> {
    let listener = bed.net().within(|| TcpListener::bind((SERVER, PORT)))?;
    let client = bed.vehicle(0).within(|| TcpStream::connect((SERVER, PORT)))?;
    let (server, _) = listener.accept()?;
    let socket = SockRef::from(&client);
    socket.set_tcp_congestion(congestion.as_bytes()).context("this kernel does not have it")?;
    let used = String::from_utf8(socket.tcp_congestion()?)?.trim_end_matches('\0').to_owned();
    client.set_write_timeout(Some(Duration::from_millis(100)))?;
    server.set_read_timeout(Some(Duration::from_millis(100)))?;
    let bytes = thread::scope(|scope| {
        let reading = scope.spawn(|| read_until(&server, end));
        while clock::now() < end {
            match (&client).write(&[0; 16_384]) {
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => break,
            }
        }
        reading.join().expect("reading does not panic")
    });
    // What is still queued is of no interest.
    let _ = client.shutdown(Shutdown::Both);
    Ok(Upload { used, bytes })
}

fn read_until(mut server: &TcpStream, end: Moment) -> u64 {
    let (mut bytes, mut buffer) = (0, vec![0; 65_536]);
    while clock::now() < end {
        match server.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => bytes += length as u64,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    bytes
}
