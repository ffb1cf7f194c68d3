//! Random kills of real processes, judged by the invariants' checker: a slice of `carriageway-bench torture`.

use std::process::Command;

use crate::process::program;

#[test]
fn random_kills_lose_double_and_misreport_nothing() {
    let run = Command::new(program("carriageway-bench"))
        .args(["torture", "--kills", "6", "--vehicles", "2", "--seed", "7"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{said}\n{}", String::from_utf8_lossy(&run.stderr));
    assert!(said.contains("violations: 0"), "{said}");
}
