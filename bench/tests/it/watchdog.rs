//! Real link cuts under driven vehicles: a slice of `carriageway-bench watchdog`. How late a safe state is, a busy
//! machine decides and no test; that there is one after every cut, this does.

use std::process::Command;

use crate::process::program;

#[test]
fn every_cut_of_the_link_halts_the_vehicle_by_its_own_clock() {
    let run = Command::new(program("carriageway-bench"))
        .args(["watchdog", "--cuts", "4", "--vehicles", "2", "--seed", "7"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{said}\n{}", String::from_utf8_lossy(&run.stderr));
    assert!(said.contains("4 cuts") && said.contains("no safe state at all: 0"), "{said}");
}
