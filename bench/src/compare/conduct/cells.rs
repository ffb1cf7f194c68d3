//! From a plan to its cells, in the order in which they run. Pure.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::compare::cell::Spec;
use crate::compare::plan::{CONTROL, FLOOR, Plan, PlannedLink, file_name};
use crate::shuffle::shuffle;

/// All cells of a plan, their outcomes in `folder`: block by block, link by link; all labels of a block and a link back to back, in an
/// order drawn from their seed, which is one and the same for all of them.
pub fn expand(plan: &Plan, folder: &Path, realtime: bool) -> Vec<Spec> {
    let mut cells = Vec::with_capacity(plan.cells());
    for block in 1..=plan.blocks {
        for (index, link) in plan.link.iter().enumerate() {
            let seed = plan.seed(block, index);
            let mut labels: Vec<_> = plan.labels().collect();
            shuffle(&mut labels, seed);
            cells.extend(labels.into_iter().map(|label| Spec {
                name: format!("{}-b{block}-{}", file_name(link.name()), file_name(label)),
                subject: subject(plan, label).to_owned(),
                label: label.to_owned(),
                link: link.link(Path::new("")),
                workload: match label {
                    FLOOR => plan.workload.without_files(),
                    _ => plan.workload.clone(),
                },
                block,
                seed,
                late_once_ms: plan.late_once_ms,
                realtime: realtime && !plan.is_virtual,
                is_virtual: plan.is_virtual,
                attempt: 1,
                folder: folder.to_owned(),
            }));
        }
    }
    cells
}

/// What runs under a label.
fn subject<'a>(plan: &'a Plan, label: &'a str) -> &'a str {
    match label {
        CONTROL => &plan.reference,
        FLOOR => &plan.floor,
        subject => subject,
    }
}

/// Which cells of a plan are wanted now. The others can be run later, with the same seeds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// The first so many blocks; all where nothing is said.
    pub blocks: Option<u32>,
    /// Only these subjects; all where nothing is said. The reference, its second run and the floor are always wanted: without
    /// them no figure of the others means anything.
    pub subjects: Vec<String>,
    /// Only these links; all where nothing is said.
    pub links: Vec<String>,
}

impl Selection {
    /// Whether the plan has all that is named.
    pub fn check(&self, plan: &Plan) -> Result<()> {
        let links: Vec<_> = plan.link.iter().map(PlannedLink::name).collect();
        for link in &self.links {
            ensure!(
                links.contains(&link.as_str()),
                "--link {link}: the plan has no such link; it has {}",
                links.join(", ")
            );
        }
        for subject in &self.subjects {
            ensure!(
                plan.subjects.contains(subject),
                "--subject {subject}: the plan has no such subject; it has {}",
                plan.subjects.join(", ")
            );
        }
        if let Some(blocks) = self.blocks {
            ensure!(
                (1..=plan.blocks).contains(&blocks),
                "--blocks {blocks}: the plan has {} blocks, and their number is fixed before the first; write another plan for more",
                plan.blocks
            );
        }
        Ok(())
    }

    /// Whether this cell is wanted.
    pub fn wants(&self, plan: &Plan, cell: &Spec) -> bool {
        let of = |names: &[String], name: &String| names.is_empty() || names.contains(name);
        let is_common = [CONTROL, FLOOR, &plan.reference].contains(&cell.label.as_str());
        self.blocks.is_none_or(|blocks| cell.block <= blocks)
            && of(&self.links, &cell.link.name)
            && (is_common || of(&self.subjects, &cell.label))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn plan() -> Plan {
        toml::from_str(
            "title = 't'\nblocks = 4\nfirst-seed = 3\nreference = 'a'\nfloor = 'c'\nsubjects = ['a', 'b', 'c', 'd']\n\
             [[link]]\nprofile = 'clean'\n[[link]]\nprofile = 'tunnel'\nname = 'Long / dark'\n",
        )
        .unwrap()
    }

    fn cells() -> Vec<Spec> {
        expand(&plan(), Path::new("/out/cells"), true)
    }

    /// The labels of each block and link, in order.
    fn orders(cells: &[Spec]) -> BTreeMap<(u32, String), Vec<String>> {
        let mut orders = BTreeMap::<_, Vec<_>>::new();
        for cell in cells {
            orders.entry((cell.block, cell.link.name.clone())).or_default().push(cell.label.clone());
        }
        orders
    }

    #[test]
    fn every_block_has_every_label_once_per_link_back_to_back() {
        let cells = cells();
        assert_eq!(cells.len(), plan().cells());
        for (place, order) in orders(&cells) {
            let unique: BTreeSet<_> = order.iter().map(String::as_str).collect();
            assert_eq!(unique, BTreeSet::from(["a", "b", "c", "d", "A/A", "floor"]), "{place:?}");
            assert_eq!(order.len(), unique.len(), "{place:?}");
        }
        let places: Vec<_> = cells.iter().map(|cell| (cell.block, cell.link.name.clone())).collect();
        let changes = places.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert_eq!(changes, 4 * 2 - 1, "no block is torn apart");
        let names: BTreeSet<_> = cells.iter().map(|cell| cell.name.as_str()).collect();
        assert_eq!(names.len(), cells.len());
        assert!(names.contains("long---dark-b2-a-a") && names.contains("clean-b1-floor"), "{names:?}");
    }

    #[test]
    fn the_order_follows_from_the_seed_and_differs_between_blocks() {
        assert_eq!(cells(), cells());
        let orders: BTreeSet<_> = orders(&cells()).into_values().collect();
        assert!(orders.len() >= 7, "eight orders of six: {orders:?}");
        let other = expand(&Plan { first_seed: 4, ..plan() }, Path::new("/out/cells"), true);
        assert_ne!(
            other.iter().map(|cell| &cell.label).collect::<Vec<_>>(),
            cells().iter().map(|cell| &cell.label).collect::<Vec<_>>()
        );
    }

    #[test]
    fn all_of_a_block_and_link_meet_the_same_weather_and_no_others() {
        let mut seeds = BTreeMap::<_, BTreeSet<_>>::new();
        for cell in cells() {
            seeds.entry((cell.block, cell.link.name)).or_default().insert(cell.seed);
        }
        assert!(seeds.values().all(|seeds| seeds.len() == 1), "{seeds:?}");
        let all: BTreeSet<_> = seeds.into_values().flatten().collect();
        assert_eq!(all, BTreeSet::from([3_000, 3_001, 4_000, 4_001, 5_000, 5_001, 6_000, 6_001]));
    }

    #[test]
    fn labels_run_what_the_plan_says_and_only_the_floor_has_no_files() {
        for cell in cells() {
            let subject = match cell.label.as_str() {
                "A/A" => "a",
                "floor" => "c",
                label => label,
            };
            assert_eq!(cell.subject, subject);
            assert_eq!(cell.workload.log, cell.label != "floor");
            assert!(cell.realtime && !cell.is_virtual);
        }
        let timeless = expand(&Plan { is_virtual: true, ..plan() }, Path::new(""), true);
        assert!(timeless.iter().all(|cell| cell.is_virtual && !cell.realtime));
    }

    #[test]
    fn a_part_has_the_same_seeds_and_order_as_the_whole() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let part = Selection { blocks: Some(2), subjects: names(&["b"]), links: names(&["clean"]) };
        part.check(&plan()).unwrap();
        let wanted: Vec<_> = cells().into_iter().filter(|cell| part.wants(&plan(), cell)).collect();
        assert_eq!(wanted.len(), 2 * 4);
        for cell in &wanted {
            assert!(["a", "b", "A/A", "floor"].contains(&cell.label.as_str()), "{cell:?}");
        }
        assert!(cells().iter().all(|cell| Selection::default().wants(&plan(), cell)));
        let error = |part: Selection| part.check(&plan()).unwrap_err().to_string();
        let link = error(Selection { links: names(&["tunel"]), ..Selection::default() });
        assert!(link.contains("--link tunel") && link.contains("clean, Long / dark"), "{link}");
        let subject = error(Selection { subjects: names(&["x"]), ..Selection::default() });
        assert!(subject.contains("--subject x") && subject.contains("a, b, c, d"), "{subject}");
        assert!(error(Selection { blocks: Some(5), ..Selection::default() }).contains("has 4 blocks"));
    }
}
