//! What there is: plans and subjects.

use std::io::Write;

use anyhow::{Context as _, Result};
use clap::Args;

use super::progress::about;
use crate::compare::plan::{BUILT_IN, Found, Known, Plan};
use crate::compare::subjects::{self, Facts};

/// Shows the plans that come with the program and the subjects of this build, or one plan's text
///
///   carriageway-bench list                     what plans ask and how long they take; what subjects are
///   carriageway-bench list drive > mine.toml   a plan of your own begins here
#[derive(Clone, Debug, Args)]
#[command(verbatim_doc_comment)]
pub struct Options {
    /// The plan whose text is wanted: a name, or the path of a .toml file
    #[arg(value_name = "PLAN")]
    plan: Option<String>,
}

/// Writes the list, or the plan.
pub fn run(options: &Options, out: &mut dyn Write) -> Result<()> {
    if let Some(name) = &options.plan {
        return write!(out, "{}", Found::find(name)?.text).context("cannot write the plan");
    }
    plans(out)?;
    subjects(out)
}

fn plans(out: &mut dyn Write) -> Result<()> {
    writeln!(out, "Plans, for `carriageway-bench run NAME`; `carriageway-bench list NAME` shows one:")?;
    for built_in in &BUILT_IN {
        // What another build can run is listed, too.
        let (title, size) = match Found::find(built_in.name)?.plan(&Known::here()) {
            Ok(plan) => (plan.title.clone(), size(&plan)),
            Err(why) => (String::new(), format!("cannot be run by this build: {why}")),
        };
        writeln!(out, "\n  {:<12} {title}\n  {:<12} {size}", built_in.name, "")?;
        for line in built_in.comment() {
            writeln!(out, "  {:<12} {line}", "")?;
        }
    }
    Ok(())
}

fn size(plan: &Plan) -> String {
    let (subjects, links) = (plan.subjects.len(), plan.link.len());
    let (blocks, cells, time) = (plan.blocks, plan.cells(), about(plan.time()));
    let fleet = match plan.workload.vehicles {
        1 => String::new(),
        vehicles => format!(", vehicles in each: {vehicles}"),
    };
    format!("subjects: {subjects}, links: {links}{fleet}, blocks: {blocks}; {cells} cells, about {time}")
}

fn subjects(out: &mut dyn Write) -> Result<()> {
    writeln!(out, "\nSubjects of this build:")?;
    for name in subjects::names() {
        let Facts { title, version, setup, manner: _ } = subjects::named(name)?.facts();
        writeln!(out, "\n  {name:<16} {title}\n  {:<16} {version}: {setup}", "")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(plan: Option<&str>) -> String {
        let mut out = Vec::new();
        run(&Options { plan: plan.map(str::to_owned) }, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_list_has_every_plan_and_every_subject() {
        let text = listed(None);
        for name in BUILT_IN.iter().map(|plan| plan.name).chain(subjects::names()) {
            assert!(text.lines().any(|line| line.split_whitespace().next() == Some(name)), "{name}:\n{text}");
        }
        assert_eq!(listed(Some("quick")), Found::find("quick").unwrap().text);
    }
}
