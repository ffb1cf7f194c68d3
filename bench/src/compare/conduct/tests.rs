use clap::Parser;

use super::*;
use crate::compare::subjects::Facts;
use crate::compare::workload::Manner;

const PLAN: &str = "title = 't'\nblocks = 1\nreference = 'quic-cubic'\nfloor = 'quic-cubic'\nsubjects = ['quic-cubic']\n\
    [[link]]\nprofile = 'clean'\n[workload]\nseconds = 2\n";

/// What came of a run of some cell.
pub(super) fn outcome(
    attempt: u32,
    faults: &[&str],
    failures: &[&str],
    connected_ms: Option<f64>,
) -> Outcome {
    let plan: Plan = toml::from_str(PLAN).unwrap();
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    Outcome {
        spec: Spec { attempt, ..expand(&plan, Path::new("/out/cells"), true).remove(0) },
        facts: Facts {
            title: "a".into(),
            version: "1".into(),
            setup: String::new(),
            manner: Manner::AsTheyCome,
        },
        stage: Stage::default(),
        notes: Vec::new(),
        faults: words(faults),
        failures: words(failures),
        connected_ms,
        shed: [Shed::default(); 2],
        cost: Cost::default(),
        traffic: [Traffic::default(); 2],
        rival: Vec::new(),
        link_sha256: String::new(),
        netem: Value::Null,
    }
}

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    options: Options,
}

fn options(line: &str) -> Options {
    Line::try_parse_from(line.split_whitespace()).unwrap().options
}

#[test]
fn results_have_a_place_of_their_own() {
    let folder = |line: &str| {
        let options = options(line);
        default_folder("drive", options.trace.as_ref())
    };
    assert_eq!(folder("run drive"), Path::new("results/drive"));
    assert_eq!(folder("run drive --trace t/lte.up:t/lte.down"), Path::new("results/drive-lte"));
    for line in ["run", "run drive --trace lte.up", "run drive --trace :x", "run drive --blocks x"] {
        assert!(Line::try_parse_from(line.split_whitespace()).is_err(), "{line}");
    }
}

#[test]
fn a_trace_that_cannot_be_read_is_told_before_anything_is_made() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("results");
    let mut options = options("run quick --trace /nowhere/lte.up:/nowhere/lte.down.gz");
    options.out = Some(root.clone());
    let told = run(&options, &mut Vec::new()).unwrap_err().to_string();
    assert!(told.starts_with("--trace: /nowhere/lte.up: cannot be read"), "{told}");
    assert!(!root.exists());
}

#[test]
fn a_link_on_a_trace_is_still_called_as_in_the_plan() {
    let written: Plan = toml::from_str(
        &format!("{PLAN}[[link]]\nprofile = 'tunnel'\n").replace("[workload]\nseconds = 2\n", ""),
    )
    .unwrap();
    let run = written.clone().on_trace(&["/t/lte.up".into(), "/t/lte.down".into()]);
    assert_eq!(renamed("tunnel", &written, &run), "tunnel on lte");
    assert_eq!(renamed("tunnel on lte", &written, &run), "tunnel on lte");
    assert_eq!(renamed("none", &written, &run), "none", "which is told as it was written");
}

#[test]
fn a_run_that_came_to_nothing_is_void_and_kept() {
    let place = tempfile::tempdir().unwrap();
    let plan: Plan = toml::from_str(PLAN).unwrap();
    let folder = Folder::open(place.path(), &plan, PLAN).unwrap();
    let cell = expand(&plan, &folder.cells(), true).remove(0);
    let spec = Spec { attempt: 1, ..cell.clone() };
    let task = Task { spec: spec.clone(), origin: Origin { commit: "abc".into(), ..Origin::default() } };
    void(&task, "it hung".into()).unwrap();
    let [outcome] = &folder::outcomes(&cell).unwrap()[..] else { panic!("one attempt is there") };
    assert_eq!((outcome.is_valid(), &outcome.faults[..]), (false, &["it hung".to_owned()][..]));
    assert_eq!(outcome.stage.origin.commit, "abc");
    assert_eq!(standing(&cell, &folder::past(&cell).unwrap()), Ok(Standing::Next(2)));
    // Cut off while it was written: as if it had not been.
    fs::write(spec.outcome(), "{\"spec\": {").unwrap();
    assert_eq!(standing(&cell, &folder::past(&cell).unwrap()), Ok(Standing::Next(1)));
}
