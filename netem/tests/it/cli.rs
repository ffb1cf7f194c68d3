//! The program as a user meets it.

use std::process::{Command, Output};

pub(crate) fn netem(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_carriageway-netem")).args(args).output().unwrap()
}

fn complaint(args: &[&str]) -> String {
    let output = netem(args);
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");
    text
}

#[test]
fn profiles_are_listed_and_shown() {
    let listed = String::from_utf8(netem(&["profiles"]).stdout).unwrap();
    assert!(listed.contains("lte-edge") && listed.contains("udp-blocked"));
    let shown = String::from_utf8(netem(&["profiles", "tunnel"]).stdout).unwrap();
    assert!(shown.contains("[up]") && shown.contains("outage"));
}

#[test]
fn a_profile_is_drawn_without_privileges() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tunnel.svg");
    let output = netem(&["plot", "--profile", "tunnel", "--time", "20s", "--output", path.to_str().unwrap()]);
    assert!(output.status.success());
    let drawing = std::fs::read_to_string(path).unwrap();
    assert!(drawing.starts_with("<svg ") && drawing.contains("outage"));
}

#[test]
fn the_oracle_speaks() {
    let output = netem(&["oracle", "--delay", "30ms", "--time", "2s"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.starts_with("100 messages of 100 bytes: at best 100.000 % within 100ms; p50 30.0 ms"),
        "{text}"
    );
    assert!(complaint(&["oracle", "--loss", "100 %", "--time", "1s"]).contains("no message finds a way"));
}

#[test]
fn mistakes_get_one_clear_line() {
    let forward = ["relay", "--udp", "127.0.0.1:0=127.0.0.1:9"];
    let with = |more: &[&str]| complaint(&[&forward, more].concat());
    assert!(with(&["--profile", "lte-egde"]).contains("no such profile"));
    assert!(with(&["--trace", "/nowhere/a:/nowhere/b"]).contains("/nowhere/a: cannot be read"));
    let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    std::fs::write(file.path(), "summary = 'mine'\n[up]\nlatency = '4ms'\n").unwrap();
    let path = file.path().to_str().unwrap();
    let broken = with(&["--profile", path]);
    assert!(
        broken.contains(&format!("{path}:3: latency: unknown field `latency`, expected one of `delay`")),
        "{broken}"
    );
    assert!(complaint(&["profiles", path]).contains("unknown field `latency`"));
    std::fs::write(file.path(), "summary = 'mine'\nlike = 'tunnel'\n[up]\ndelay = '4ms'\n").unwrap();
    let effective = String::from_utf8(netem(&["profiles", path]).stdout).unwrap();
    assert!(
        effective.contains("[up]\ndelay = \"4ms\"") && effective.contains("rate = \"8000000 bit/s\""),
        "{effective}"
    );
    assert!(complaint(&["relay"]).contains("--udp LISTEN=UPSTREAM"));
    assert!(
        complaint(&["relay", "ctl", "--control", "127.0.0.1:9", "status"])
            .contains("no relay takes orders there")
    );
}
