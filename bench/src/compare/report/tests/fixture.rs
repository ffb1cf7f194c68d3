//! An analysis with everything that a page has to cope with.

use crate::compare::analysis::{Analysis, Better, Curve, Estimate, Metric, Row, Verdict};
use crate::compare::bounds::ORACLE;
use crate::compare::plan::{CONTROL, FLOOR};
use crate::compare::subjects::Facts;
use crate::compare::workload::{Manner, Workload};
use crate::stage::{Origin, Stage};

/// The reference of the analysis.
pub(super) const REFERENCE: &str = "ours";
/// A subject that a careless page would break over.
pub(super) const HOSTILE: &str = "peer <&\"'> 1,5";
/// The first link.
pub(super) const LINK: &str = "lte-edge";

const LINKS: [&str; 2] = [LINK, "LTE <edge>"];

/// Two links, two subjects with both bounds and the control, four headlines.
pub(super) fn rich() -> Analysis {
    let metrics: Vec<_> = [
        ("control-on-time-100", "Control on time", "share", Better::Higher),
        ("command-p99", "Command p99", "ms", Better::Lower),
        ("control-stale-200", "Stale control", "share", Better::Lower),
        ("log-goodput", "Goodput", "Mbit/s", Better::Higher),
    ]
    .map(|(name, title, unit, better)| Metric {
        name: name.into(),
        title: title.into(),
        unit: unit.into(),
        better,
    })
    .into();
    let labels = [REFERENCE, HOSTILE, CONTROL, FLOOR, ORACLE];
    let places = LINKS.iter().flat_map(|link| labels.iter().map(move |label| (*link, *label)));
    let rows = places.clone().flat_map(|(link, label)| metrics.iter().map(move |m| row(link, label, m)));
    let rows = rows.collect();
    let curves = places.map(|(link, label)| Curve {
        link: link.into(),
        label: label.into(),
        of: "control-age".into(),
        points: vec![(20.0, 0.1), (41.0, 0.5), (80.0, 0.96)],
    });
    Analysis {
        title: "Test <of> & \"report\"".into(),
        curves: curves.collect(),
        rows,
        metrics,
        labels: labels.iter().map(|label| ((*label).into(), facts(label))).collect(),
        links: LINKS.iter().map(|link| ((*link).into(), vec!["ab12".into(); 5])).collect(),
        verdicts: vec![verdict("holding claim by command-p99", true), verdict("failing claim <b>", false)],
        valid: 24,
        void: vec![("lte-edge-b1-ours".into(), vec!["steal <40 %>".into()])],
        remarks: vec![(HOSTILE.into(), LINK.into(), "a & b".into())],
        ..empty()
    }
}

/// Of nothing that counted.
pub(super) fn empty() -> Analysis {
    Analysis {
        title: "Empty".into(),
        plan: "title = \"<plan>\"\nfirst-seed = 7\n".into(),
        stage: Stage {
            origin: Origin {
                command_line: "carriageway-bench run".into(),
                commit: "abc1234".into(),
                binary_sha256: "feed".into(),
            },
            build: "release".into(),
            kernel: "6.18".into(),
            processor: "2 x processor".into(),
            load: "0.10 0.10 0.10 1/100 5".into(),
        },
        workload: Workload::default(),
        reference: REFERENCE.into(),
        labels: Vec::new(),
        links: Vec::new(),
        metrics: Vec::new(),
        rows: Vec::new(),
        curves: Vec::new(),
        verdicts: Vec::new(),
        valid: 0,
        void: Vec::new(),
        remarks: Vec::new(),
    }
}

fn facts(label: &str) -> Facts {
    Facts {
        title: format!("{label} it is"),
        version: "1.2.3".into(),
        setup: "a < b".into(),
        manner: Manner::NewestFirst,
    }
}

fn verdict(claim: &str, holds: bool) -> Verdict {
    let difference = Some(Estimate { value: 1.0, low: if holds { 0.5 } else { -0.5 }, high: 2.0 });
    Verdict { claim: claim.into(), link: LINK.into(), difference, holm_p: Some(0.04), holds }
}

/// The hostile peer is worse in everything on the first link, never answers on the second; all else is alike.
fn row(link: &str, label: &str, metric: &Metric) -> Row {
    let value = if metric.unit == "share" { 0.9 } else { 50.0 };
    let is_never = label == HOSTILE && link != LINK && metric.unit == "ms";
    let sign = if metric.better == Better::Higher { -1.0 } else { 1.0 };
    let difference = match label {
        HOSTILE if is_never => None,
        HOSTILE if link == LINK => Some((sign * 0.02, 0.01)),
        HOSTILE | CONTROL => Some((0.0, 0.01)),
        _ => None,
    };
    let around = |(value, half): (f64, f64)| Estimate { value, low: value - half, high: value + half };
    Row {
        link: link.into(),
        label: label.into(),
        metric: metric.name.clone(),
        blocks: (1..=5).map(|block| (block, (!is_never).then_some(value))).collect(),
        estimate: (!is_never).then(|| around((value, 0.02))),
        difference: difference.map(around),
        holm_p: None,
    }
}
