//! The page is whole, says everything, and breaks over nothing.

mod fixture;
mod markup;

use std::fs;

use super::plots::{self, Drawing};
use super::view::View;
use super::words::Comparison;
use super::{csv, markdown, page, write};
use crate::compare::analysis::{Analysis, Estimate, Row};
use crate::compare::plan::{CONTROL, FLOOR};
use fixture::{HOSTILE, LINK, REFERENCE, empty, rich};
use markup::text_of;

fn drawings(view: &View<'_>) -> Vec<Vec<Drawing>> {
    view.links().zip(view.slugs()).map(|(link, slug)| plots::of_link(view, link, &slug)).collect()
}

fn page_of(analysis: &Analysis) -> String {
    let view = View::new(analysis);
    page::whole(&view, &drawings(&view))
}

/// What is between the heading of this section and the next.
fn section<'a>(page: &'a str, anchor: &str) -> &'a str {
    let from = page.find(&format!("<section id=\"{anchor}\"")).expect("there is such a section");
    let length = page[from..].find("</section>").expect("it ends");
    &page[from..from + length]
}

#[test]
fn the_page_and_every_drawing_are_well_formed() {
    let analysis = rich();
    let view = View::new(&analysis);
    text_of(&page_of(&analysis)).unwrap();
    let drawings = drawings(&view);
    assert_eq!(drawings.iter().map(Vec::len).collect::<Vec<_>>(), [4 + 1 + 1, 4 + 1 + 1]);
    for drawing in drawings.iter().flatten() {
        let file = drawing.file();
        text_of(&file).unwrap();
        for part in ["<title id=", "<desc id=", "xmlns=", "prefers-color-scheme"] {
            assert!(file.contains(part), "{part} in {}", drawing.name);
        }
        assert!(!file.contains("NaN") && !file.contains("inf\""), "{}", drawing.name);
    }
}

#[test]
fn anchors_are_unlike_and_links_lead_to_them() {
    let page = page_of(&rich());
    let of = |key: &str| {
        let begin = format!(" {key}=\"");
        let places = page.split(begin.as_str()).skip(1);
        places.map(|rest| rest.split('"').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let mut ids = of("id");
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "two elements have one id");
    for href in of("href") {
        let anchor = href.strip_prefix('#').expect("nothing leads out of the page");
        assert!(ids.iter().any(|id| id == anchor), "{href}");
    }
    for named in of("aria-labelledby").iter().flat_map(|names| names.split(' ')) {
        assert!(ids.iter().any(|id| id == named), "{named}");
    }
}

#[test]
fn every_row_is_in_the_table_and_in_the_csv() {
    let analysis = rich();
    let page = page_of(&analysis);
    let table = section(&page, "all");
    let body = &table[table.find("<tbody>").unwrap()..];
    assert_eq!(body.matches("<tr>").count(), analysis.rows.len());
    let csv = csv::rows(&View::new(&analysis));
    assert_eq!(csv.lines().count(), analysis.rows.len() + 1);
    assert!(csv.lines().next().unwrap().ends_with("holm_p,block_1,block_2,block_3,block_4,block_5"));
    let plain = csv.lines().nth(1).unwrap();
    assert_eq!(
        plain,
        "lte-edge,ours,control-on-time-100,Control on time,share,higher,0.9,0.88,0.92,,,,,0.9,0.9,0.9,0.9,0.9"
    );
    assert!(csv.contains("\"peer <&\"\"'> 1,5\""), "{csv}");
    assert!(csv.contains(",command-p99,Command p99,ms,lower,inf,,,,,,,inf,inf,inf,inf,inf"), "{csv}");
}

#[test]
fn the_tables_have_every_label_and_mark_what_is_sure() {
    let text = markdown::whole(&View::new(&rich()));
    let rows: Vec<_> = text.lines().filter(|line| line.starts_with("| ours ")).collect();
    assert_eq!(rows.len(), 2, "a table per link: {text}");
    assert!(rows[0].starts_with("| ours | 90.0\u{a0}% (88.0 to 92.0) |"), "{}", rows[0]);
    let heads = text.lines().filter(|line| *line == "| | control-on-time-100 | log-goodput |").count();
    assert_eq!(heads, 2, "{text}");
    assert!(text.contains("| peer \\<&\"'> 1,5 |") && text.contains("## LTE \\<edge>"), "{text}");
    let place = |words: &str| text.find(words).unwrap_or_else(|| panic!("{words} in {text}"));
    assert!(place("failing claim \\<b>") < place("holding claim"));
    assert!(text.contains('▼') || text.contains('▲'), "{text}");
}

/// Of a vehicle that is parked there are costs alone.
#[test]
fn where_no_headline_was_measured_the_answer_is_given_in_what_was() {
    let (before, now) = ("command-p99", "wire-rate-up");
    let mut parked = rich();
    parked.verdicts.clear();
    parked.metrics.retain(|metric| metric.name == before);
    parked.metrics[0].name = now.into();
    parked.rows.retain(|row| row.metric == before);
    parked.rows.iter_mut().for_each(|row| row.metric = now.into());
    let text = markdown::whole(&View::new(&parked));
    assert_eq!(text.lines().filter(|line| *line == "| | wire-rate-up |").count(), 2, "{text}");
    let page = page_of(&parked);
    assert!(section(&page, "answer").contains(&parked.metrics[0].title), "{page}");
}

#[test]
fn a_claim_that_fails_comes_before_one_that_holds() {
    let page = page_of(&rich());
    let claims = section(&page, "claims");
    let place = |words: &str| claims.find(words).unwrap_or_else(|| panic!("{words} in {claims}"));
    assert!(place("failing claim") < place("holding claim"));
    assert!(place("✗ DOES NOT HOLD") < place("✓ HOLDS"));
    assert!(claims.contains("Of 2 claims, 1 does not hold, 1 does."));
    assert!(claims.contains("+1.0\u{a0}ms"), "in the unit of the metric that the claim names: {claims}");
}

#[test]
fn text_from_outside_is_escaped_everywhere() {
    let page = page_of(&rich());
    for loose in ["<&", "<of>", "<edge>", "<40", "<plan>", "failing claim <b>"] {
        assert!(!page.contains(loose), "{loose}");
    }
    assert!(page.contains("peer &lt;&amp;&quot;&#39;&gt; 1,5"));
}

#[test]
fn what_is_infinite_reads_never_and_not_as_a_number() {
    let page = page_of(&rich());
    let text = text_of(&page).unwrap();
    assert!(section(&page, "answer").contains("<b>never</b>"));
    assert!(section(&page, "all").contains("5, 5 never"));
    assert!(section(&page, "wins-and-losses").contains("✗ never in 1</b>: Command p99."));
    assert!(!text.contains("NaN") && !text.split_whitespace().any(|word| word == "inf"));
}

#[test]
fn the_page_needs_nothing_from_outside() {
    let page = page_of(&rich());
    for outside in ["http:", "https:", "//", "src=", "@import", "url("] {
        let place = page.find(outside).map(|at| &page[at..(at + 40).min(page.len())]);
        assert_eq!(place, None, "{outside}");
    }
}

#[test]
fn sections_stand_in_the_order_in_which_a_reviewer_asks() {
    let page = page_of(&rich());
    let order = ["setup", "answer", "claims", "control", "link-lte-edge", "link-lte-edge-no-2", "all"];
    let more = ["wins-and-losses", "void", "remarks", "configuration", "threats"];
    let places: Vec<_> = order
        .iter()
        .chain(&more)
        .map(|anchor| page.find(&format!("<section id=\"{anchor}\"")).unwrap_or_else(|| panic!("{anchor}")))
        .collect();
    assert!(places.is_sorted(), "{places:?}");
}

#[test]
fn words_follow_from_intervals() {
    let analysis = rich();
    let view = View::new(&analysis);
    let here = Comparison::of(&view, LINK, HOSTILE);
    assert_eq!((here.wins.len(), here.losses.len(), here.open), (0, 4, 0));
    assert_eq!(here.losses[0], "Control on time −2.0\u{a0}pp (−3.0 to −1.0)");
    let there = Comparison::of(&view, "LTE <edge>", HOSTILE);
    assert_eq!((there.wins.len(), there.losses.len(), there.open), (0, 0, 3));
    assert_eq!(there.never, ["Command p99"]);
    assert!(Comparison::of(&view, LINK, REFERENCE).is_empty());
}

#[test]
fn a_control_that_is_told_apart_is_said_plainly() {
    let mut analysis = rich();
    let alike = page_of(&analysis);
    assert!(
        section(&alike, "control")
            .contains("Of 8 differences between the two, 8 have an interval that covers 0; 0 do not.")
    );
    assert!(!section(&alike, "control").contains("✗"));
    let control = analysis.rows.iter_mut().filter(|row| row.label == CONTROL).take(2);
    control.for_each(|row| row.difference = Some(Estimate { value: 0.2, low: 0.1, high: 0.3 }));
    let apart = page_of(&analysis);
    assert!(section(&apart, "control").contains("6 have an interval that covers 0; 2 do not."));
    assert_eq!(section(&apart, "control").matches("✗ does not").count(), 2);
    assert!(section(&apart, "threats").contains("2 of 8 A/A intervals exclude 0"));
    analysis.rows.retain(|row| row.label != CONTROL);
    assert!(section(&page_of(&analysis), "control").contains("There is no A/A control"));
}

#[test]
fn bounds_and_figures_of_few_blocks_are_called_neither_better_nor_worse() {
    let mut analysis = rich();
    let bound = analysis.rows.iter_mut().find(|row| row.label == FLOOR && row.link == LINK).unwrap();
    bound.difference = Some(Estimate { value: 0.2, low: 0.1, high: 0.3 });
    assert!(!section(&page_of(&analysis), "answer").contains("▲</span>"));
    assert!(section(&page_of(&analysis), "answer").contains("▼</span>"));
    analysis.rows.iter_mut().for_each(|row| row.blocks.truncate(4));
    let page = page_of(&analysis);
    assert!(page.contains("Only 4 blocks: from fewer than 5 no interval is sure"));
    assert!(!section(&page, "answer").contains("▼</span>"));
    assert!(!section(&page, "wins-and-losses").contains("▼"));
}

#[test]
fn a_median_with_blocks_that_never_came_is_a_figure_without_an_interval() {
    let mut analysis = rich();
    let of_peer = |row: &&mut Row| row.label == HOSTILE && row.link != LINK && row.metric == "command-p99";
    let row = analysis.rows.iter_mut().find(of_peer).unwrap();
    row.blocks = vec![(1, Some(40.0)), (2, None), (3, Some(42.0)), (4, Some(41.0)), (5, None)];
    let page = page_of(&analysis);
    let answer = section(&page, "answer");
    assert!(answer.contains("<b>42.0\u{a0}ms</b>") && answer.contains("○</span><small>2 of 5 never</small>"));
    assert!(!section(&page, "answer").contains("<b>never</b>"));
    assert!(csv::rows(&View::new(&analysis)).contains(",ms,lower,42,,,,,,,40,inf,42,41,inf"));
}

#[test]
fn a_debug_build_shouts() {
    let mut analysis = rich();
    assert!(!page_of(&analysis).contains("MEASURES THE COMPILER"));
    analysis.stage.build = "debug".into();
    let page = page_of(&analysis);
    assert!(page[..page.find("<main>").unwrap()].contains("DEBUG BUILD"));
    assert!(section(&page, "threats").contains("THIS IS A DEBUG BUILD"));
}

#[test]
fn of_nothing_the_page_says_that_nothing_counted() {
    let mut analysis = empty();
    analysis.void.push(("a-b1-c".into(), vec!["late".into()]));
    let page = page_of(&analysis);
    text_of(&page).unwrap();
    assert!(page.contains("Nothing counted: no run was valid, 1 were void."));
    assert!(section(&page, "answer").contains("Nothing counted"));
    analysis.links.push(("l".into(), Vec::new()));
    assert!(section(&page_of(&analysis), "link-l").contains("Nothing counted on this link."));
}

#[test]
fn files_are_written_and_old_drawings_go() {
    let place = tempfile::tempdir().unwrap();
    let plots = place.path().join("report").join("plots");
    fs::create_dir_all(&plots).unwrap();
    fs::write(plots.join("gone.svg"), "").unwrap();
    let analysis = rich();
    let report = write(&analysis, place.path()).unwrap();
    assert_eq!(fs::read_to_string(report.join("index.html")).unwrap(), page_of(&analysis));
    let names = fs::read_dir(&plots).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names.len(), 12, "{names:?}");
    assert!(names.contains(&"lte-edge-command-p99.svg".to_owned()), "{names:?}");
    let again = super::read(&report.join("analysis.json")).unwrap();
    assert_eq!(page_of(&again), page_of(&analysis), "what is drawn from the file is the same");
}
