//! Against the kernel's own netem, where there is one.

use std::net::UdpSocket;
use std::process::Command;
use std::time::Duration;

use carriageway_netem::profile::{Profile, Tweak, units};
use carriageway_netem::testbed::{Config, SERVER, Testbed};

use crate::testbed::testbed;
use crate::wait::Stopwatch;

const COUNT: usize = 500;
const LOSS: f64 = 0.05;
/// Fifteen packets of five hundred at 5 %: three standard deviations.
const TOLERANCE: f64 = 0.03;
const MOST_APART: Duration = Duration::from_millis(2);

/// Puts the kernel's emulator onto the loopback of the network's side: 20 ms and 5 % for every packet there.
fn kernel_netem(bed: &Testbed) -> Result<(), String> {
    let words = "qdisc replace dev lo root netem delay 20ms loss 5%";
    let output = bed
        .net()
        .within(move || Command::new("tc").args(words.split(' ')).output())
        .map_err(|error| format!("no tc: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().into()) }
}

/// Sends datagrams one way; gives the share that is lost and the median one-way time.
fn one_way(from: &UdpSocket, to: &UdpSocket) -> (f64, Duration) {
    to.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut times = Vec::new();
    for _ in 0..COUNT {
        let watch = Stopwatch::start();
        from.send(b"x").unwrap();
        if to.recv(&mut [0; 8]).is_ok() {
            times.push(watch.elapsed());
        }
    }
    times.sort_unstable();
    (1.0 - times.len() as f64 / COUNT as f64, times[times.len() / 2])
}

#[test]
fn the_kernels_netem_agrees() {
    let tweak =
        Tweak { delay: Some(Duration::from_millis(20)), loss: units::share("5 %").ok(), ..Tweak::default() };
    let Some(bed) = testbed(Config::new(Profile::perfect("test").tweaked(&tweak)).seed(7)) else { return };
    if let Err(why) = kernel_netem(&bed) {
        eprintln!("skipped: this kernel's netem cannot be used: {why}");
        return;
    }
    let on_net = |port: u16| bed.net().within(move || UdpSocket::bind((SERVER, port))).unwrap();
    let (server, neighbour) = (on_net(4433), on_net(4434));
    let vehicle = bed.vehicle(0).within(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
    vehicle.connect((SERVER, 4433)).unwrap();
    neighbour.connect((SERVER, 4433)).unwrap();
    let (our_loss, our_time) = one_way(&vehicle, &server);
    let (their_loss, their_time) = one_way(&neighbour, &server);
    assert!(
        (our_loss - LOSS).abs() < TOLERANCE && (their_loss - LOSS).abs() < TOLERANCE,
        "{our_loss} {their_loss}"
    );
    assert!(our_time.abs_diff(their_time) < MOST_APART, "{our_time:?} {their_time:?}");
}
