//! Files, flags and what is said about them.

use std::fs;
use std::path::Path;
use std::process::Command;

use carriageway_agent::daemon::identity::{self, ProofError};
use rcgen::{CertificateParams, KeyPair, SanType};

fn urn(id: &str) -> SanType {
    SanType::URI(format!("urn:carriageway:vehicle:{id}").try_into().unwrap())
}

/// Writes `<name>.pem` and `<name>.key`, self-signed: who is to be trusted, TLS decides elsewhere.
fn certificate(directory: &Path, name: &str, names: Vec<SanType>) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = names;
    let certificate = params.self_signed(&key).unwrap();
    fs::write(directory.join(name).with_extension("pem"), certificate.pem()).unwrap();
    fs::write(directory.join(name).with_extension("key"), key.serialize_pem()).unwrap();
}

fn read(directory: &Path, name: &str) -> Result<identity::Proven, ProofError> {
    identity::read(&directory.join(name).with_extension("pem"), &directory.join(name).with_extension("key"))
}

#[test]
fn the_certificate_says_which_vehicle_this_is() {
    let directory = tempfile::tempdir().unwrap();
    certificate(directory.path(), "one", vec![urn("truck-7")]);
    assert_eq!(read(directory.path(), "one").unwrap().id.as_str(), "truck-7");
    certificate(directory.path(), "two", vec![urn("a"), urn("b")]);
    assert!(matches!(read(directory.path(), "two"), Err(ProofError::Nameless { .. })));
    certificate(directory.path(), "none", vec![]);
    assert!(matches!(read(directory.path(), "none"), Err(ProofError::Nameless { .. })));
    assert!(matches!(read(directory.path(), "missing"), Err(ProofError::Tls(_))));
}

#[test]
fn a_fleet_comes_from_a_directory_or_a_pattern() {
    let directory = tempfile::tempdir().unwrap();
    for number in 1..=3 {
        certificate(directory.path(), &format!("sim-{number}"), vec![urn(&format!("car-{number}"))]);
    }
    let ids = |fleet: Vec<identity::Proven>| fleet.iter().map(|one| one.id.to_string()).collect::<Vec<_>>();
    assert_eq!(ids(identity::from_directory(directory.path(), 2).unwrap()), ["car-1", "car-2"]);
    let pattern = directory.path().join("sim-{id}.pem").display().to_string();
    assert_eq!(ids(identity::from_pattern(&pattern, 3).unwrap()), ["car-1", "car-2", "car-3"]);

    let few = identity::from_directory(directory.path(), 4);
    assert!(matches!(few, Err(ProofError::TooFew { found: 3, wanted: 4, .. })));
    assert!(matches!(identity::from_pattern("sim.pem", 1), Err(ProofError::NoPlace(_))));
    certificate(directory.path(), "sim-4", vec![urn("car-1")]);
    assert!(matches!(identity::from_directory(directory.path(), 4), Err(ProofError::Twice(_))));
}

/// What the program says to these arguments in this directory, and whether it was content.
fn agent(directory: &Path, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_carriageway-agent"))
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[test]
fn a_configuration_is_checked_with_its_files() {
    let directory = tempfile::tempdir().unwrap();
    let certs = directory.path().join("certs");
    fs::create_dir(&certs).unwrap();
    certificate(&certs, "vehicle", vec![urn("truck-7")]);
    certificate(&certs, "ca", vec![]);
    fs::write(directory.path().join("agent.toml"), "signal_hz = 10\n[gateway]\nhost = 'gw.example'\n")
        .unwrap();
    let (good, said) = agent(directory.path(), &["config", "check", "--config", "agent.toml"]);
    assert!(good && said.contains("truck-7"), "{said}");
    let (good, said) =
        agent(directory.path(), &["config", "show", "--config", "agent.toml", "--gateway", "b:1"]);
    assert!(good && said.contains("signal_hz = 10.0") && said.contains("host = \"b\""), "{said}");
}

#[test]
fn what_is_wrong_is_said_in_one_line_with_its_place() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("bad.toml"), "journal = 'x'\n[gateway]\nhots = 'a'\n").unwrap();
    fs::write(directory.path().join("slow.toml"), "[drive]\nsend_period_ms = 50\nwatchdog_ms = 140\n")
        .unwrap();
    for (arguments, expected) in [
        (&["run", "--config", "bad.toml"][..], "bad.toml:3"),
        (
            &["run", "--config", "slow.toml"],
            "slow.toml:3: drive.watchdog_ms: control every 50 ms cannot feed",
        ),
        (&["run", "--set", "drive.watchdog_ms=0"], "drive.watchdog_ms: 0 would switch the watchdog off"),
        (&["run", "--config", "none.toml"], "none.toml"),
        (&["run", "--set", "vehicle.id=a"], "vehicle"),
        (&["run", "--set", "signal_hz=0"], "signal_hz: it must be 0.1 to 100"),
        (&["run", "--gateway", "nowhere"], "HOST:PORT"),
        (&["run"], "certs/vehicle.pem"),
        (&["simulate", "--vehicles", "3"], "certs/vehicles"),
    ] {
        let (good, said) = agent(directory.path(), arguments);
        assert!(!good && said.contains(expected) && said.lines().count() == 1, "{arguments:?}: {said}");
    }
}
