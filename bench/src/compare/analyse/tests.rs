use std::fs::File;

use super::samples::{Sample, result};
use super::*;
use crate::compare::analysis::Row;
use crate::compare::cell::write_samples;

const CLAIMS: &str = "[[claim]]\nbetter = 'a'\nthan = 'b'\nmetric = 'control-age-p99'\n\
     [[claim]]\nbetter = 'b'\nthan = 'a'\nmetric = 'control-age-p99'\n\
     [[claim]]\nbetter = 'a'\nthan = 'b'\nmetric = 'control-on-time-50'\n\
     [[claim]]\nbetter = 'a'\nthan = 'b'\nmetric = 'beauty'\n";

/// `a` and its control take 20 to 26 ms, the floor 10, `b` 30 ms more and nothing at all in the last block.
fn samples() -> Vec<Sample> {
    let mut samples = Vec::new();
    for block in 1..=6 {
        let jitter = f64::from(block);
        samples.push(Sample { way: 20.0 + jitter, ..Sample::of("a", block) });
        samples.push(Sample { way: 20.0 + jitter, ..Sample::of("A/A", block) });
        samples.push(Sample { way: 50.0 + jitter, is_silent: block == 6, ..Sample::of("b", block) });
        samples.push(Sample { way: 10.0, ..Sample::of("floor", block) });
    }
    samples
}

fn analysed(samples: &[Sample]) -> Analysis {
    let place = tempfile::tempdir().unwrap();
    result(place.path(), CLAIMS, samples);
    analyse(place.path()).unwrap()
}

fn row<'a>(analysis: &'a Analysis, label: &str, metric: &str) -> &'a Row {
    let is_it = |row: &&Row| row.label == label && row.metric == metric;
    analysis.rows.iter().find(is_it).unwrap()
}

fn close(left: f64, right: f64) -> bool {
    (left - right).abs() < 1e-3
}

#[test]
fn labels_stand_in_the_plans_order_and_bounds_are_last() {
    let analysis = analysed(&samples());
    let labels: Vec<_> = analysis.labels.iter().map(|(label, _)| label.as_str()).collect();
    assert_eq!(labels, ["b", "a", "A/A", "floor", "oracle"]);
    assert_eq!(analysis.valid, 24);
    assert_eq!(analysis.links[0].1.len(), 6);
    assert_eq!(analysis.links[0].1[2], "clean under 3");
    assert!(analysis.remarks.contains(&("b".into(), "clean".into(), "a note".into())));
    let json = serde_json::to_string(&analysis).unwrap();
    let again: Analysis = serde_json::from_str(&json).unwrap();
    assert_eq!((again.rows.len(), again.curves.len()), (analysis.rows.len(), analysis.curves.len()));
}

#[test]
fn rows_have_medians_intervals_and_differences_within_blocks() {
    let analysis = analysed(&samples());
    // Every 20 ms a state: the mean age is 10 ms over the way.
    let a = row(&analysis, "a", "control-age-mean-under-load");
    let estimate = a.estimate.unwrap();
    assert!(close(estimate.value, 33.5) && close(a.blocks[5].1.unwrap(), 36.0), "{a:?}");
    assert!(estimate.low < estimate.value && a.difference.is_none());
    let same = row(&analysis, "A/A", "control-age-mean-under-load").difference.unwrap();
    assert!(close(same.low, 0.0) && close(same.high, 0.0));
    let b = row(&analysis, "b", "control-age-mean-under-load").difference.unwrap();
    assert!(close(b.value, 30.0) && close(b.low, 30.0) && b.high > 700.0, "{b:?}");
    let never = row(&analysis, "b", "command-time-p50");
    assert_eq!((never.blocks.len(), never.blocks[5].1, never.estimate), (6, None, None));
    let oracle = row(&analysis, "oracle", "control-age-mean-under-load").estimate.unwrap();
    let floor = row(&analysis, "floor", "control-age-mean-under-load").estimate.unwrap();
    assert!(oracle.value > 10.0 && close(floor.value, 20.0));
    assert!(!analysis.rows.iter().any(|row| row.label == "oracle" && row.metric == "cpu"));
    assert!(!analysis.metrics.iter().any(|metric| metric.name == "map-goodput"), "nobody has it");
}

#[test]
fn claims_hold_where_they_point_and_are_sure() {
    let analysis = analysed(&samples());
    let [better, worse, on_time, beauty] = &analysis.verdicts[..] else { panic!("{:?}", analysis.verdicts) };
    // Two of 64 ways are as far; four claims: 0.125, and the next no less.
    assert!(close(better.holm_p.unwrap(), 0.125) && !better.holds, "{better:?}");
    assert!(better.difference.unwrap().value > 0.0);
    assert!(worse.difference.unwrap().value < 0.0 && !worse.holds);
    assert!(on_time.difference.unwrap().value > 0.9, "{on_time:?}");
    assert!(beauty.holm_p.is_none() && !beauty.holds);
    assert!(analysis.remarks.iter().any(|(.., words)| words.contains("beauty")));
    assert_eq!(row(&analysis, "b", "control-age-p99").holm_p, better.holm_p);
    assert_eq!(row(&analysis, "a", "control-age-p99").holm_p, None);
}

#[test]
fn a_claim_that_is_sure_holds_and_its_reverse_does_not() {
    let mut samples = samples();
    for block in 7..=10 {
        samples.push(Sample { way: 20.0, ..Sample::of("a", block) });
        samples.push(Sample { way: 55.0, ..Sample::of("b", block) });
    }
    let verdicts = analysed(&samples).verdicts;
    // Two of 1,024 ways, four claims.
    assert!(close(verdicts[0].holm_p.unwrap(), 8.0 / 1_024.0), "{:?}", verdicts[0]);
    assert!(verdicts[0].holds && !verdicts[1].holds && verdicts[2].holds);
}

#[test]
fn curves_are_pooled_over_blocks() {
    let analysis = analysed(&samples());
    let curve = |label: &str, of: &str| {
        let is_it = |curve: &&crate::compare::analysis::Curve| curve.label == label && curve.of == of;
        analysis.curves.iter().find(is_it).unwrap().points.clone()
    };
    let times = curve("a", "command-time");
    assert!(close(times[0].0, 42.0) && close(times.last().unwrap().0, 52.0));
    assert!(curve("b", "command-time").last().unwrap().1 < 0.9, "in one of six blocks none came");
    assert!(close(curve("a", "control-age").last().unwrap().1, 1.0));
    assert!(analysis.curves.iter().all(|curve| curve.points.len() <= 400));
}

#[test]
fn only_the_latest_that_counts_counts() {
    let faulty = || vec!["late".to_owned()];
    let analysis = analysed(&[
        Sample { way: 90.0, faults: faulty(), ..Sample::of("a", 1) },
        Sample { way: 30.0, attempt: 2, ..Sample::of("a", 1) },
        Sample { way: 40.0, attempt: 3, ..Sample::of("a", 1) },
        Sample { faults: faulty(), ..Sample::of("a", 2) },
    ]);
    let blocks = &row(&analysis, "a", "control-age-mean-under-load").blocks;
    assert_eq!(blocks.len(), 1);
    assert!(close(blocks[0].1.unwrap(), 50.0), "{blocks:?}");
    assert_eq!(analysis.void, [("clean-b1-a-1".to_owned(), faulty()), ("clean-b2-a-1".to_owned(), faulty())]);
    assert_eq!(analysis.valid, 1);
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_goes_on() {
    let place = tempfile::tempdir().unwrap();
    result(
        place.path(),
        "",
        &[Sample::of("a", 1), Sample::of("b", 1), Sample { seed: 9, ..Sample::of("floor", 1) }],
    );
    let cells = place.path().join("cells");
    fs::write(cells.join("broken-1.json"), "{").unwrap();
    File::create(cells.join("clean-b1-b-1.csv.gz")).unwrap();
    let analysis = analyse(place.path()).unwrap();
    let said = |words: &str| analysis.remarks.iter().any(|(.., remark)| remark.contains(words));
    assert!(said("broken-1.json") && said("clean-b1-b-1.csv.gz"), "{:?}", analysis.remarks);
    assert!(said("met another link in block 1"), "{:?}", analysis.remarks);
    assert_eq!(analysis.valid, 2);
    assert!(analysis.labels.iter().all(|(label, _)| label != "b"));
}

#[test]
fn cells_of_another_load_are_left_out() {
    let place = tempfile::tempdir().unwrap();
    result(place.path(), "", &[Sample::of("a", 1)]);
    let cells = place.path().join("cells");
    let name = cells.join("clean-b1-a-1.json");
    let text = fs::read_to_string(&name).unwrap().replace("\"control_hz\":50.0", "\"control_hz\":51.0");
    fs::write(cells.join("other-1.json"), text).unwrap();
    write_samples(&cells.join("other-1.csv.gz"), &[]).unwrap();
    let analysis = analyse(place.path()).unwrap();
    assert_eq!(analysis.valid, 1);
    assert!(analysis.remarks.iter().any(|(.., words)| words.contains("another load")));
}

#[test]
fn another_program_is_remarked_and_counts() {
    let place = tempfile::tempdir().unwrap();
    result(place.path(), "", &[Sample::of("a", 1), Sample::of("b", 1)]);
    let builds = || {
        let remarks = analyse(place.path()).unwrap().remarks;
        remarks
            .into_iter()
            .map(|(.., words)| words)
            .filter(|words| words.contains("build"))
            .collect::<Vec<_>>()
    };
    assert!(builds().is_empty(), "{:?}", builds());
    let name = place.path().join("cells/clean-b1-b-1.json");
    fs::write(&name, fs::read_to_string(&name).unwrap().replace("\"feed\"", "\"beef\"")).unwrap();
    assert_eq!(builds(), ["not all of one build: feed (commit abc) and beef (commit abc)"]);
    assert_eq!(analyse(place.path()).unwrap().valid, 2);
}

#[test]
fn without_plan_or_cells_it_says_what_is_missing() {
    let place = tempfile::tempdir().unwrap();
    let why = |place: &Path| format!("{:#}", analyse(place).unwrap_err());
    assert!(why(place.path()).contains("plan.toml"));
    result(place.path(), "", &[]);
    assert!(why(place.path()).contains("run the plan first"));
}
