//! The report: a page for reviewers, figures for programs, drawings for documents, all from one analysis.

mod csv;
mod escape;
mod markdown;
mod markup;
mod numbers;
mod page;
mod plots;
mod summary;
mod tables;
#[cfg(test)]
mod tests;
mod view;
mod words;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;

use super::analyse::analyse;
use super::analysis::Analysis;
use view::View;

/// Where the drawings go, beside the page.
const PLOTS: &str = "plots";

/// Write a report on the results of a plan: one page, CSV, JSON, drawings
///
/// FOLDER/report/index.html is one file that needs no network and no script: the answer first,
/// then claims (those that do not hold before those that do), the A/A control, each link, all
/// figures, and what speaks against them. Beside it are rows.csv (a line per figure, a column
/// per block), tables.md (the headlines, for a repository), analysis.json and plots/*.svg.
///
///   carriageway-bench report results/drive
///   carriageway-bench report results/drive --analysis older.json   figures computed before
#[derive(Clone, Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Options {
    /// The results: the folder that `run` wrote
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// Draw the figures of this file instead of computing them from the results' samples
    #[arg(long, value_name = "FILE")]
    analysis: Option<PathBuf>,
}

/// Writes the report and prints where it is.
pub fn run(options: &Options, out: &mut impl Write) -> Result<()> {
    let analysis = match &options.analysis {
        Some(file) => read(file)?,
        None => analyse(&options.folder)?,
    };
    let place = write(&analysis, &options.folder)?;
    writeln!(out, "report: {}", place.join("index.html").display()).context("cannot print")
}

fn read(file: &Path) -> Result<Analysis> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no analysis of this version", file.display()))
}

/// Writes all files below `folder`; gives the report's own folder.
pub fn write(analysis: &Analysis, folder: &Path) -> Result<PathBuf> {
    let view = View::new(analysis);
    let links = view.links().zip(view.slugs());
    let drawings: Vec<_> = links.map(|(link, slug)| plots::of_link(&view, link, &slug)).collect();
    let place = folder.join("report");
    clear(&place.join(PLOTS))?;
    for drawing in drawings.iter().flatten() {
        save(&place.join(PLOTS).join(format!("{}.svg", drawing.name)), &drawing.file())?;
    }
    save(&place.join("rows.csv"), &csv::rows(&view))?;
    save(&place.join("tables.md"), &markdown::whole(&view))?;
    let json = serde_json::to_string_pretty(analysis).context("an analysis is plain data")?;
    save(&place.join("analysis.json"), &json)?;
    save(&place.join("index.html"), &page::whole(&view, &drawings))?;
    Ok(place)
}

/// An empty folder for drawings: those of an earlier report may be of links that are no longer there.
fn clear(folder: &Path) -> Result<()> {
    let cannot = || format!("cannot use {}", folder.display());
    fs::create_dir_all(folder).with_context(cannot)?;
    for entry in fs::read_dir(folder).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        if path.extension().is_some_and(|extension| extension == "svg") {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

fn save(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}
