//! `carriageway-bench compare`: two results side by side, such as those of two commits.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde::Serialize;

use super::analyse::analyse;
use super::analysis::{Analysis, Estimate, Metric, Row};
use super::figures::{HEADLINES, metrics};
use super::statistics::{FEWEST_BLOCKS, estimate, unpaired};

/// Compares two folders of results: what has changed from A to B?
///
/// For each label and link that both have: the median of A, that of B, and the difference B - A
/// with its 95 % interval over blocks.
///
/// `*` marks a difference whose interval leaves out zero, from five blocks or more. It is no proof:
/// of twenty figures that have not changed, one is marked by chance.
///
/// Where blocks met the same link under the same seed and load in both (`paired`), differences are
/// taken block by block, which sees far smaller changes; otherwise between the medians of all blocks.
///
/// Without --metric the headlines are shown.
///
///   carriageway-bench compare results/before results/after
///   carriageway-bench compare results/before results/after --metric control-age-p99 --metric cpu
///   carriageway-bench compare results/before results/after --metric all --json changes.json
#[derive(Clone, Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Options {
    /// The results from before, a folder that a plan was run into
    a: PathBuf,
    /// The results from after
    b: PathBuf,
    /// Only these, by name, or `all`; may be given several times
    #[arg(long, value_name = "NAME")]
    metric: Vec<String>,
    /// Write everything that is shown as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Reads both and writes the table.
pub fn run(options: &Options, out: &mut dyn Write) -> Result<()> {
    let wanted = wanted(&options.metric)?;
    let read = |folder: &PathBuf| analyse(folder).with_context(|| format!("{}", folder.display()));
    let (a, b) = (read(&options.a)?, read(&options.b)?);
    let contrasts = contrasts(&a, &b, &wanted);
    ensure!(
        !contrasts.is_empty(),
        "nothing to compare: no label has a figure on the same link in both; A has {}, B has {}",
        inventory(&a),
        inventory(&b)
    );
    writeln!(out, "A: {}\n   {}", options.a.display(), a.stage.lines().replace('\n', "\n   "))?;
    writeln!(out, "B: {}\n   {}\n", options.b.display(), b.stage.lines().replace('\n', "\n   "))?;
    write(&contrasts, out)?;
    if let Some(path) = &options.json {
        let json = serde_json::to_string_pretty(&contrasts).context("contrasts are plain data")?;
        fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// One figure in both.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Contrast {
    /// The link's name.
    pub link: String,
    /// The label.
    pub label: String,
    /// The metric.
    pub metric: Metric,
    /// In A; `None` where it is infinite, or its interval is.
    pub a: Option<Estimate>,
    /// In B.
    pub b: Option<Estimate>,
    /// B minus A; `None` where one of them is infinite.
    pub difference: Option<Estimate>,
    /// Whether it was taken block by block.
    pub is_paired: bool,
    /// Blocks in A and in B; where it is paired, those that count are in both.
    pub blocks: [usize; 2],
    /// Whether its interval leaves out zero and there are blocks enough to say so.
    pub is_sure: bool,
}

/// Everything that both have, for these metrics.
pub fn contrasts(a: &Analysis, b: &Analysis, wanted: &[Metric]) -> Vec<Contrast> {
    let others: BTreeMap<_, _> = b.rows.iter().map(|row| (key(row), row)).collect();
    let mut contrasts = Vec::new();
    for row in &a.rows {
        let Some(metric) = wanted.iter().find(|metric| metric.name == row.metric) else { continue };
        let Some(other) = others.get(&key(row)) else { continue };
        // Under another load the same seed is another schedule.
        let is_paired = a.workload == b.workload && is_same_weather(a, b, row, other);
        contrasts.push(contrast(metric, row, other, is_paired));
    }
    contrasts
}

fn contrast(metric: &Metric, a: &Row, b: &Row, is_paired: bool) -> Contrast {
    let (before, after) = (figures(a), figures(b));
    let pairs: Vec<_> = after.iter().filter_map(|(block, after)| Some(after - before.get(block)?)).collect();
    let values = |figures: &BTreeMap<u32, f64>| figures.values().copied().collect::<Vec<_>>();
    let difference = if is_paired { estimate(&pairs) } else { unpaired(&values(&after), &values(&before)) };
    let blocks = if is_paired { [pairs.len(); 2] } else { [before.len(), after.len()] };
    let is_sure = blocks.iter().all(|count| *count >= FEWEST_BLOCKS)
        && difference.is_some_and(|difference| difference.low > 0.0 || difference.high < 0.0);
    Contrast {
        link: a.link.clone(),
        label: a.label.clone(),
        metric: metric.clone(),
        a: a.estimate,
        b: b.estimate,
        difference,
        is_paired,
        blocks,
        is_sure,
    }
}

fn key(row: &Row) -> (&str, &str, &str) {
    (&row.link, &row.label, &row.metric)
}

fn figures(row: &Row) -> BTreeMap<u32, f64> {
    row.blocks.iter().map(|(block, figure)| (*block, figure.unwrap_or(f64::INFINITY))).collect()
}

/// Whether the blocks that both have met the same link under the same seed, each of them.
fn is_same_weather(a: &Analysis, b: &Analysis, row: &Row, other: &Row) -> bool {
    let digest = |analysis: &Analysis, block: u32| {
        let (_, digests) = analysis.links.iter().find(|(link, _)| *link == row.link)?;
        digests.get(usize::try_from(block).ok()?.checked_sub(1)?).filter(|digest| !digest.is_empty()).cloned()
    };
    let theirs = figures(other);
    let common: Vec<_> = row.blocks.iter().filter(|(block, _)| theirs.contains_key(block)).collect();
    let is_same = |block| digest(a, block).is_some_and(|digest_a| digest(b, block) == Some(digest_a));
    !common.is_empty() && common.iter().all(|(block, _)| is_same(*block))
}

fn wanted(names: &[String]) -> Result<Vec<Metric>> {
    let all = metrics();
    if names.iter().any(|name| name == "all") {
        return Ok(all);
    }
    let known = || all.iter().map(|metric| metric.name.as_str()).collect::<Vec<_>>().join(", ");
    for name in names {
        ensure!(
            all.iter().any(|metric| metric.name == *name),
            "--metric {name}: there is no such metric; there are all, {}",
            known()
        );
    }
    let is_wanted = |name: &str| match names {
        [] => HEADLINES.contains(&name),
        names => names.iter().any(|other| other == name),
    };
    Ok(all.iter().filter(|metric| is_wanted(&metric.name)).cloned().collect())
}

fn inventory(analysis: &Analysis) -> String {
    let list = |names: Vec<&str>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let labels = list(analysis.labels.iter().map(|(name, _)| name.as_str()).collect());
    let links = list(analysis.links.iter().map(|(name, _)| name.as_str()).collect());
    format!(
        "the labels {labels} on the links {links} ({} cells that count, {} void)",
        analysis.valid,
        analysis.void.len()
    )
}

fn write(contrasts: &[Contrast], out: &mut dyn Write) -> Result<()> {
    writeln!(out, "| link | label | metric | A | B | B - A (95 %) | | blocks |")?;
    writeln!(out, "|---|---|---|---|---|---|---|---|")?;
    for contrast in contrasts {
        let Contrast { link, label, metric, a, b, difference, is_paired, blocks, is_sure } = contrast;
        let median =
            |estimate: &Option<Estimate>| estimate.map_or("-".into(), |estimate| rounded(estimate.value));
        let difference = difference.map_or("-".into(), |Estimate { value, low, high }| {
            format!("{} ({} to {})", signed(value), signed(low), signed(high))
        });
        let blocks = if *is_paired {
            format!("{}, paired", blocks[0])
        } else {
            format!("{} and {}, not paired", blocks[0], blocks[1])
        };
        let mark = if *is_sure { "*" } else { "" };
        let name = format!("{}, {}", metric.name, metric.unit);
        writeln!(
            out,
            "| {link} | {label} | {name} | {} | {} | {difference} | {mark} | {blocks} |",
            median(a),
            median(b)
        )?;
    }
    let sure = contrasts.iter().filter(|contrast| contrast.is_sure).count();
    writeln!(
        out,
        "\n{sure} of {} differ (*): the interval leaves out zero, from at least {FEWEST_BLOCKS} blocks. `-`: infinite for half of the \
         blocks, or somewhere in the interval.",
        contrasts.len()
    )?;
    Ok(())
}

/// As many digits as say something.
fn rounded(figure: f64) -> String {
    match figure.abs() {
        size if size >= 100.0 => format!("{figure:.0}"),
        size if size >= 10.0 => format!("{figure:.1}"),
        _ => format!("{figure:.3}"),
    }
}

fn signed(figure: f64) -> String {
    let plus = if figure > 0.0 { "+" } else { "" };
    format!("{plus}{}", rounded(figure))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::analyse::samples::{Sample, result};

    /// Control takes `way` milliseconds and a little more in each block.
    fn analysis(way: f64, seed: u64, blocks: u32) -> Analysis {
        let place = tempfile::tempdir().unwrap();
        let sample = |block| Sample {
            way: way + f64::from(block),
            seed: seed + u64::from(block),
            ..Sample::of("a", block)
        };
        result(place.path(), "", &(1..=blocks).map(sample).collect::<Vec<_>>());
        analyse(place.path()).unwrap()
    }

    fn age(a: &Analysis, b: &Analysis) -> Contrast {
        let metric = wanted(&["control-age-mean-under-load".to_owned()]).unwrap();
        let mut contrasts = contrasts(a, b, &metric);
        contrasts.retain(|contrast| contrast.label == "a");
        assert_eq!(contrasts.len(), 1);
        contrasts.remove(0)
    }

    #[test]
    fn under_the_same_weather_blocks_are_compared_one_by_one() {
        let contrast = age(&analysis(20.0, 0, 6), &analysis(23.0, 0, 6));
        let difference = contrast.difference.unwrap();
        assert!(contrast.is_paired && contrast.is_sure, "{contrast:?}");
        // Blocks differ by more than the two do, but not from themselves.
        for end in [difference.value, difference.low, difference.high] {
            assert!((end - 3.0).abs() < 1e-3, "{difference:?}");
        }
    }

    #[test]
    fn under_other_weather_only_medians_are_compared() {
        let contrast = age(&analysis(20.0, 0, 6), &analysis(23.0, 100, 6));
        let difference = contrast.difference.unwrap();
        assert!(!contrast.is_paired && (difference.value - 3.0).abs() < 1e-3, "{contrast:?}");
        assert!(difference.high - difference.low > 2.0, "blocks spread over five: {difference:?}");
    }

    #[test]
    fn a_few_blocks_are_never_sure_and_no_change_is_none() {
        assert!(!age(&analysis(20.0, 0, 4), &analysis(90.0, 0, 4)).is_sure);
        let same = age(&analysis(20.0, 0, 6), &analysis(20.0, 0, 6));
        assert!(!same.is_sure && same.difference.unwrap().value.abs() < 1e-9);
    }

    #[test]
    fn what_never_came_has_no_difference() {
        let place = tempfile::tempdir().unwrap();
        let silent = |block| Sample { is_silent: true, ..Sample::of("a", block) };
        result(place.path(), "", &(1..=6).map(silent).collect::<Vec<_>>());
        let metric = wanted(&["command-time-p50".to_owned()]).unwrap();
        let silent = analyse(place.path()).unwrap();
        let mut found = contrasts(&silent, &silent, &metric);
        found.retain(|contrast| contrast.label == "a");
        assert!(found[0].a.is_none() && found[0].difference.is_none() && !found[0].is_sure, "{found:?}");
        let mut text = Vec::new();
        write(&found, &mut text).unwrap();
        assert!(String::from_utf8(text).unwrap().contains("| - | - | - |"));
    }

    #[test]
    fn a_metric_that_is_not_there_is_said_with_those_that_are() {
        let why = wanted(&["age".to_owned()]).unwrap_err().to_string();
        assert!(why.contains("--metric age") && why.contains("control-age-p99"), "{why}");
        assert_eq!(wanted(&[]).unwrap().len(), HEADLINES.len());
        assert_eq!(wanted(&["all".to_owned()]).unwrap(), metrics());
    }
}
