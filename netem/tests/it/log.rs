//! The packet log tells of every packet, also where none arrives.

use std::net::UdpSocket;

use carriageway_netem::core::{Loss, Probability};
use carriageway_netem::profile::Profile;
use carriageway_netem::testbed::{Config, SERVER};

use crate::testbed::testbed;

#[test]
fn what_a_link_without_a_limit_loses_is_logged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("packets.csv");
    let mut profile = Profile::perfect("void");
    profile.up.loss = Loss::Bernoulli(Probability::ONE);
    let Some(bed) = testbed(Config { log: Some(path.clone()), ..Config::new(profile) }) else { return };
    let client = bed.vehicle(0).within(|| UdpSocket::bind("0.0.0.0:0")).unwrap();
    (0..20_u8).for_each(|number| assert_eq!(client.send_to(&[number], (SERVER, 9)).unwrap(), 1));
    let offered = crate::wait::until(std::time::Duration::from_secs(10), || {
        let report = bed.report().unwrap();
        let offered = report.json()["wires"][0]["up"]["offered"].as_u64();
        offered.filter(|offered| *offered >= 20)
    });
    drop(bed);
    let text = std::fs::read_to_string(path).unwrap();
    let lost = text.lines().filter(|line| line.contains(",up,") && line.contains(",loss,")).count();
    assert!(lost as u64 >= offered, "{lost} of {offered}");
}
