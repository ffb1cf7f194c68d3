//! `carriageway-netem run`, where this machine permits it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::cli::netem;
use crate::wait::{Stopwatch, until};

const PATIENCE: Duration = Duration::from_secs(10);

/// Whether testbeds can be made here. If not, the test says so and passes.
fn permitted() -> bool {
    let output = netem(&["run", "--", "true"]);
    if !output.status.success() {
        eprintln!("skipped: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    output.status.success()
}

fn said(args: &[&str]) -> String {
    String::from_utf8(netem(args).stdout).unwrap()
}

#[test]
fn the_exit_code_is_the_commands() {
    if !permitted() {
        return;
    }
    assert_eq!(netem(&["run", "--", "sh", "-c", "exit 3"]).status.code(), Some(3));
    assert_eq!(netem(&["run", "--", "/nowhere/at/all"]).status.code(), Some(127));
    assert_eq!(netem(&["run", "--log", "/nowhere/log", "--", "true"]).status.code(), Some(125));
}

/// A disk that is full shows only when the last of the log is written: the report must not have said otherwise by then.
#[test]
fn a_log_that_does_not_fit_makes_the_run_invalid() {
    if !permitted() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // More than the limit of one block, less than what the log's writer gathers before it writes.
    let sends = "for turn in {1..40}; do echo $turn >/dev/udp/$NETEM_SERVER/9; done";
    let script =
        "trap '' XFSZ; ulimit -f 1; exec \"$0\" run --log \"$1\" --report /dev/stdout -- bash -c \"$2\"";
    let program = env!("CARGO_BIN_EXE_carriageway-netem");
    let log = folder.path().join("packets.csv");
    let output = Command::new("bash").args(["-c", script, program]).arg(log).arg(sends).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert_eq!(report["valid"], false);
    assert!(report["faults"].to_string().contains("the packet log is not whole"), "{}", report["faults"]);
}

#[test]
fn vehicles_know_where_they_are() {
    if !permitted() {
        return;
    }
    let script = "echo $NETEM_VEHICLE_ID $NETEM_VEHICLE $NETEM_SERVER $NETEM_PATHS $NETEM_SEED";
    let text = said(&[
        "run",
        "--path",
        "lte0=lte-good",
        "--path",
        "wlan0=clean",
        "--vehicles",
        "2",
        "--seed",
        "7",
        "--",
        "sh",
        "-c",
        script,
    ]);
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        ["vehicle-1 10.200.1.2 10.199.0.1 lte0 wlan0 7", "vehicle-2 10.200.2.2 10.199.0.1 lte0 wlan0 7"]
    );
}

#[test]
fn the_report_accounts_for_the_run() {
    if !permitted() {
        return;
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    netem(&["run", "--delay", "5ms", "--seed", "9", "--report", path, "--", "true"]);
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(report["seed"], 9);
    assert!(report["valid"].is_boolean() && report["canary"]["count"].is_number());
}

/// A number of seconds that nothing else sleeps for: it finds a process from outside, whatever its number is inside.
fn nap() -> String {
    static NAPS: AtomicU32 = AtomicU32::new(0);
    format!("1000.{}{:03}", std::process::id(), NAPS.fetch_add(1, Ordering::Relaxed))
}

/// Whether some process sleeps for `nap`.
fn sleeps(nap: &str) -> bool {
    runs(&format!("sleep\0{nap}\0"))
}

fn start(args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_carriageway-netem"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs with `args` until `nap` is slept, sends `signal`, and waits for the end and for the nap's.
fn interrupt(args: &[&str], nap: &str, signal: Signal) -> ExitStatus {
    let mut run = start(args);
    until(PATIENCE, || sleeps(nap).then_some(()));
    kill_process(Pid::from_child(&run), signal).unwrap();
    let status = run.wait().unwrap();
    until(PATIENCE, || (!sleeps(nap)).then_some(()));
    status
}

#[test]
fn nothing_outlives_a_run_that_is_killed() {
    if !permitted() {
        return;
    }
    // Without environment, in another session, without parent: the hardest to find.
    let nap = nap();
    let script = format!("setsid env -i sleep {nap} & wait");
    interrupt(&["run", "--", "sh", "-c", &script], &nap, Signal::KILL);
    interrupt(&["run", "--net-side", &script, "--", "sleep", "1000"], &nap, Signal::KILL);
}

#[test]
fn nothing_outlives_a_run_whose_terminal_closes() {
    if !permitted() {
        return;
    }
    let nap = nap();
    let script = format!("trap '' HUP TERM; setsid env -i sleep {nap} & wait");
    let status = interrupt(&["run", "--", "sh", "-c", &script], &nap, Signal::HUP);
    assert_eq!(status.code(), Some(129));
}

#[test]
fn nothing_outlives_a_run_that_ends_before_it_begins() {
    if !permitted() {
        return;
    }
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)] {
        let nap = nap();
        let server = format!("sleep {nap}");
        let args = ["run", "--net-side", &server, "--wait-for", "tcp:9", "--", "true"];
        assert_eq!(interrupt(&args, &nap, signal).code(), Some(code));
    }
}

#[test]
fn what_a_command_leaves_behind_ends_with_the_run() {
    if !permitted() {
        return;
    }
    let nap = nap();
    let (script, server) = (format!("setsid env -i sleep {nap} & exit 7"), format!("exec sleep {nap}"));
    let output = netem(&["run", "--net-side", &server, "--", "sh", "-c", &script]);
    assert_eq!(output.status.code(), Some(7));
    assert!(!sleeps(&nap));
}

#[test]
fn the_time_limit_has_its_own_exit_code() {
    if !permitted() {
        return;
    }
    let nap = nap();
    let output = netem(&["run", "--time-limit", "100ms", "--", "sleep", &nap]);
    assert_eq!(output.status.code(), Some(124));
    assert!(!sleeps(&nap));
}

#[test]
fn a_server_that_dies_makes_the_run_invalid() {
    if !permitted() {
        return;
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    // The vehicle waits for the news, which the program prints.
    let mut run =
        start(&["run", "--report", path, "--strict", "--net-side", "exit 3", "--", "sh", "-c", "read _"]);
    let mut line = String::new();
    BufReader::new(run.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("--net-side exit 3 has ended with 3"), "{line}");
    drop(run.stdin.take());
    // `read` fails at the end of its input.
    assert_eq!(run.wait().unwrap().code(), Some(1));
    let report = report(path);
    assert_eq!((&report["valid"], &report["net_side"][0]["exit_code"]), (&false.into(), &3.into()));
}

fn report(path: &str) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_report_that_cannot_be_written_is_found_out_first() {
    let output = netem(&["run", "--report", "/nowhere/report", "--", "echo", "ran"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(125), 0));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nowhere/report"));
}

#[test]
fn a_late_server_costs_no_time_of_the_scenario() {
    if !permitted() {
        return;
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let text = said(&["run", "--vehicles", "3", "--report", path, "--", "sh", "-c", "echo $NETEM_START_NS"]);
    let report = report(path);
    let started = report["start_monotonic_ns"].to_string();
    assert_eq!(text.lines().collect::<Vec<_>>(), [started.as_str(); 3]);
    assert!(report["run"]["arguments"].as_array().unwrap().iter().any(|word| word == "--vehicles"));
}

/// The emulator stands still while a packet waits in its device: the model sees nothing of it, the report must.
#[test]
fn a_run_that_was_stopped_is_not_valid() {
    if !permitted() {
        return;
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let script = "read _; echo x > /dev/udp/$NETEM_SERVER/9; echo sent; read _";
    let mut run = start(&["run", "--report", path, "--", "bash", "-c", script]);
    let mut input = run.stdin.take().unwrap();
    let mut output = BufReader::new(run.stdout.take().unwrap());
    let pid = Pid::from_child(&run);
    // Behind the gate the shell waits for its input: the run has begun.
    let shell = format!("bash\0-c\0{script}\0");
    until(PATIENCE, || runs(&shell).then_some(()));
    kill_process(pid, Signal::STOP).unwrap();
    let stat = format!("/proc/{}/stat", pid.as_raw_pid());
    until(PATIENCE, || std::fs::read_to_string(&stat).unwrap().contains(") T ").then_some(()));
    let watch = Stopwatch::start();
    writeln!(input).unwrap();
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "sent\n");
    let stopped = Duration::from_millis(200);
    // The canary's next wake may be 10 ms away, and its lateness that much less.
    until(PATIENCE, || (watch.elapsed() > stopped + Duration::from_millis(50)).then_some(()));
    kill_process(pid, Signal::CONT).unwrap();
    // Every thread has its turn before the run ends.
    until(PATIENCE, || (watch.elapsed() > stopped * 2).then_some(()));
    writeln!(input).unwrap();
    assert!(run.wait().unwrap().success());
    let report = report(path);
    let worst = |what: &str| Duration::from_micros(report[what]["worst_us"].as_u64().unwrap());
    assert!(worst("wake") > stopped, "{:#}", report["wake"]);
    assert!(worst("ingest") > stopped, "{:#}", report["ingest"]);
    assert!(worst("canary") > stopped, "{:#}", report["canary"]);
    assert_eq!(report["valid"], false);
    let faults = report["faults"].to_string();
    for instrument in ["thread woke late", "waited unread", "ordinary thread"] {
        assert!(faults.contains(instrument), "{faults}");
    }
}

/// Whether some process has this command line.
fn runs(command: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap();
    processes
        .filter_map(Result::ok)
        .any(|entry| std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| line == command.as_bytes()))
}

/// As nobody, in a private mount namespace with a TUN driver that is open to everybody.
#[test]
fn it_works_without_privileges() {
    let script = r#"
        mount -t tmpfs none /mnt && cp "$1" /mnt/netem && mknod -m 0666 /mnt/tun c 10 200 &&
        mount --bind /mnt/tun /dev/net/tun && shift &&
        exec setpriv --reuid 65534 --regid 65534 --clear-groups /mnt/netem "$@""#;
    let nap = nap();
    let command = format!("setsid env -i sleep {nap} & echo ran as $(id -u); exit 7");
    let program = env!("CARGO_BIN_EXE_carriageway-netem");
    let arguments = ["-m", "sh", "-c", script, "sh", program, "run", "--", "sh", "-c", &command];
    let output = match Command::new("unshare").args(arguments).output() {
        Ok(output) => output,
        Err(error) => {
            return eprintln!("skipped: the unprivileged mode is NOT TESTED here: unshare: {error}");
        }
    };
    let complaint = String::from_utf8_lossy(&output.stderr);
    let started = output.status.code() == Some(7);
    if !started {
        // A machine that forbids mounts or user namespaces says so; anything else is a failure.
        let forbidden = ["denied", "not permitted", "not found", "a user namespace of our own is refused"];
        assert!(forbidden.iter().any(|word| complaint.contains(word)), "{complaint}");
        return eprintln!("skipped: the unprivileged mode is NOT TESTED here: {}", complaint.trim_end());
    }
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ran as 0\n");
    assert!(!sleeps(&nap));
}
