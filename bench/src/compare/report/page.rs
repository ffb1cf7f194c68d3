//! The page: one file, complete without script or network.

use super::markup::Markup;
use super::plots::{self, Drawing};
use super::view::View;
use super::words::{self, Comparison, plural};
use super::{summary, tables};
use crate::compare::statistics::FEWEST_BLOCKS;

const STYLE: &str = include_str!("page.css");
/// Sorting and filtering of the large table; the page says everything without.
const COMFORT: &str = include_str!("comfort.js");

/// A part of the page: its anchor, its heading, and what is in it.
type Part = (&'static str, &'static str, fn(&mut Markup, &View<'_>));

const BEFORE_LINKS: [Part; 4] = [
    ("setup", "What was compared, and how", setup),
    ("answer", "The answer", answer),
    ("claims", "Claims and verdicts", tables::claims),
    ("control", "A/A control", tables::control),
];

const AFTER_LINKS: [Part; 6] = [
    ("all", "All figures", all),
    ("wins-and-losses", "Where each wins and loses", wins_and_losses),
    ("void", "Void runs", tables::void),
    ("remarks", "Remarks of the subjects", tables::remarks),
    ("configuration", "Configuration of each subject", tables::configuration),
    ("threats", "Threats to validity", threats),
];

/// All of it. `drawings` are those of each link, in the links' order.
pub(super) fn whole(view: &View<'_>, drawings: &[Vec<Drawing>]) -> String {
    let title = if view.analysis.title.is_empty() { "Comparison" } else { &view.analysis.title };
    let mut page = Markup::default();
    page.verbatim("<!DOCTYPE html>\n");
    page.element("html", &[("lang", &"en")], |html| {
        html.element("head", &[], |head| {
            head.empty("meta", &[("charset", &"utf-8")]);
            head.empty("meta", &[("name", &"viewport"), ("content", &"width=device-width, initial-scale=1")]);
            head.empty("meta", &[("name", &"color-scheme"), ("content", &"light dark")]);
            head.leaf("title", &[], title);
            head.element("style", &[], |style| {
                style.verbatim(STYLE);
                style.verbatim(plots::STYLE);
            });
        });
        html.element("body", &[], |body| {
            body.leaf("a", &[("class", &"skip"), ("href", &"#answer")], "Skip to the answer");
            header(body, view, title);
            body.element("main", &[], |main| parts(main, view, drawings));
            body.element("script", &[], |script| script.verbatim(COMFORT));
        });
    });
    page.into_text() + "\n"
}

fn header(body: &mut Markup, view: &View<'_>, title: &str) {
    body.element("header", &[], |header| {
        header.leaf("h1", &[], title);
        header.leaf("p", &[("class", &"lead")], extent(view));
        if view.is_debug() {
            let build = view.analysis.stage.build.to_uppercase();
            header.leaf(
                "p",
                &[("class", &"alarm"), ("role", &"note")],
                format!("⚠ {build} BUILD: IT MEASURES THE COMPILER. NO FIGURE HERE MAY BE QUOTED."),
            );
        }
        if view.analysis.valid == 0 {
            let void = view.analysis.void.len();
            header.leaf(
                "p",
                &[("class", &"alarm"), ("role", &"note")],
                format!("⚠ Nothing counted: no run was valid, {void} were void. There is no answer here."),
            );
        }
        let blocks = view.blocks().len();
        if (1..FEWEST_BLOCKS).contains(&blocks) {
            header.leaf(
                "p",
                &[("class", &"alarm"), ("role", &"note")],
                format!("⚠ Only {blocks} block{}: from fewer than {FEWEST_BLOCKS} no interval is sure, so nothing is called better or worse.", plural(blocks)),
            );
        }
        header.element("nav", &[("aria-label", &"Contents")], |nav| contents(nav, view));
    });
}

/// How much there is.
fn extent(view: &View<'_>) -> String {
    let (subjects, links) = (view.subjects().count(), view.links().count());
    let (blocks, valid, void) = (view.blocks().len(), view.analysis.valid, view.analysis.void.len());
    format!(
        "{subjects} subject{}, {links} link{}, {blocks} block{}; {valid} run{} count, {void} were void.",
        plural(subjects),
        plural(links),
        plural(blocks),
        plural(valid)
    )
}

fn contents(nav: &mut Markup, view: &View<'_>) {
    let links = view.links().zip(view.slugs()).map(|(link, slug)| (format!("link-{slug}"), link));
    let part = |(anchor, heading, _): &Part| ((*anchor).to_owned(), *heading);
    let all = BEFORE_LINKS.iter().map(part).chain(links).chain(AFTER_LINKS.iter().map(part));
    nav.element("ul", &[], |list| {
        for (anchor, heading) in all {
            list.element("li", &[], |item| {
                item.leaf("a", &[("href", &format!("#{anchor}"))], heading);
            });
        }
    });
}

fn parts(main: &mut Markup, view: &View<'_>, drawings: &[Vec<Drawing>]) {
    for (anchor, heading, write) in BEFORE_LINKS {
        section(main, anchor, heading, |inside| write(inside, view));
    }
    for ((link, slug), drawings) in view.links().zip(view.slugs()).zip(drawings) {
        section(main, &format!("link-{slug}"), link, |inside| {
            let (main, others): (Vec<_>, Vec<_>) = drawings.iter().partition(|drawing| drawing.is_main);
            if drawings.is_empty() {
                inside.leaf("p", &[], "Nothing counted on this link.");
            }
            grid(inside, &main);
            if !others.is_empty() {
                folded(inside, &format!("{} more figures on {link}", others.len()), |rest| {
                    grid(rest, &others);
                });
            }
        });
    }
    for (anchor, heading, write) in AFTER_LINKS {
        section(main, anchor, heading, |inside| write(inside, view));
    }
}

fn grid(page: &mut Markup, drawings: &[&Drawing]) {
    page.element("div", &[("class", &"plots")], |grid| {
        for drawing in drawings {
            grid.element("figure", &[], |figure| drawing.within(figure));
        }
    });
}

/// With a heading that can be pointed to.
fn section(main: &mut Markup, anchor: &str, heading: &str, inside: impl FnOnce(&mut Markup)) {
    let name = format!("h-{anchor}");
    main.element("section", &[("id", &anchor), ("aria-labelledby", &name)], |section| {
        section.element("h2", &[("id", &name)], |head| {
            head.text(heading);
            let (href, label) = (format!("#{anchor}"), format!("Link to: {heading}"));
            head.leaf("a", &[("class", &"anchor"), ("href", &href), ("aria-label", &label)], "#");
        });
        inside(section);
    });
}

fn setup(page: &mut Markup, view: &View<'_>) {
    let analysis = view.analysis;
    let stage = &analysis.stage;
    let blocks: Vec<_> = view.blocks().iter().map(u32::to_string).collect();
    page.leaf("p", &[], method(view));
    let facts = [
        ("load", words::workload(&analysis.workload)),
        (
            "blocks",
            format!(
                "{} ({})",
                blocks.len(),
                if blocks.is_empty() { "none".to_owned() } else { blocks.join(", ") }
            ),
        ),
        ("seeds", seeds(view)),
        ("machine", stage.processor.clone()),
        ("kernel", stage.kernel.clone()),
        ("load at the start", stage.load.clone()),
        ("commit", format!("{} ({} build)", stage.origin.commit, stage.build)),
        ("program, SHA-256", stage.origin.binary_sha256.clone()),
        ("command", stage.origin.command_line.clone()),
    ];
    page.element("dl", &[], |list| {
        for (name, text) in &facts {
            list.element("div", &[], |pair| {
                pair.leaf("dt", &[], name);
                pair.leaf("dd", &[], text);
            });
        }
    });
    folded(page, "The plan as it was run", |inside| {
        inside.leaf("pre", &[("tabindex", &"0")], &analysis.plan);
    });
    folded(page, "What each link was: digests by block", |inside| tables::digests(inside, view));
}

fn method(view: &View<'_>) -> String {
    format!(
        "Within a block every subject met the same link with the same weather and the same load, in random order; blocks differ in their seed. \
         Latency counts from the moment at which a message was due, whether or not earlier ones had arrived; what never arrived counts as infinite and reads “never”. \
         A figure is the median over blocks with a bootstrap 95 % interval; a difference is taken within blocks, against {}. \
         The oracle is the best that any sender could have done on that link, the floor is what the link did to a sender without files.",
        view.analysis.reference
    )
}

/// Where seeds come from.
fn seeds(view: &View<'_>) -> String {
    view.plan.as_ref().map_or_else(
        || "as in the plan below".to_owned(),
        |plan| {
            format!(
                "from {} on: every block has its own, and all subjects of a block the same",
                plan.first_seed
            )
        },
    )
}

/// Opens without script.
fn folded(page: &mut Markup, name: &str, inside: impl FnOnce(&mut Markup)) {
    page.element("details", &[], |details| {
        details.leaf("summary", &[], name);
        inside(details);
    });
}

fn answer(page: &mut Markup, view: &View<'_>) {
    if view.analysis.rows.is_empty() {
        page.leaf("p", &[("class", &"lead")], "Nothing counted, so there is nothing to say.");
        return;
    }
    let reference = &view.analysis.reference;
    page.leaf(
        "p",
        &[],
        format!(
            "Median and 95 % interval. ◆ {reference}, the reference; ▲ better than it, ▼ worse: the interval of the difference within blocks excludes 0; ○ not told apart."
        ),
    );
    summary::matrices(page, view);
}

fn all(page: &mut Markup, view: &View<'_>) {
    if view.analysis.rows.is_empty() {
        page.leaf("p", &[], "There are none.");
        return;
    }
    page.leaf(
        "p",
        &[],
        format!(
            "{} rows; the same as rows.csv, where each block has its column. “pp” is percentage points.",
            view.analysis.rows.len()
        ),
    );
    tables::everything(page, view);
}

fn wins_and_losses(page: &mut Markup, view: &View<'_>) {
    let reference = view.analysis.reference.as_str();
    if view.subjects().all(|subject| subject == reference) {
        page.leaf("p", &[], format!("There is nothing to compare with {reference}."));
        return;
    }
    page.leaf(
        "p",
        &[],
        format!("Each against {reference}, only where the interval of the difference excludes 0. A difference is the subject's figure minus {reference}'s."),
    );
    for subject in view.subjects().filter(|subject| *subject != reference) {
        page.leaf("h3", &[], subject);
        page.element("ul", &[("class", &"links")], |list| {
            for link in view.links() {
                list.element("li", &[], |item| compared(item, link, &Comparison::of(view, link, subject)));
            }
        });
    }
}

/// One subject on one link.
fn compared(item: &mut Markup, link: &str, comparison: &Comparison) {
    item.leaf("strong", &[], link);
    if comparison.is_empty() {
        item.text(": no difference could be taken.");
        return;
    }
    let Comparison { wins, losses, never, open } = comparison;
    item.element("ul", &[], |list| {
        for (class, word, all) in
            [("bad", "▼ loses", losses), ("good", "▲ wins", wins), ("bad", "✗ never", never)]
        {
            if !all.is_empty() {
                list.element("li", &[], |line| {
                    line.leaf("b", &[("class", &class)], format!("{word} in {}", all.len()));
                    line.text(format!(": {}.", all.join("; ")));
                });
            }
        }
        if *open > 0 {
            list.leaf("li", &[("class", &"open")], format!("○ not told apart in {open}."));
        }
    });
}

fn threats(page: &mut Markup, view: &View<'_>) {
    page.element("ul", &[("class", &"links")], |list| {
        for threat in words::threats(view) {
            list.leaf("li", &[], threat);
        }
    });
}
