//! All figures, by link, label and block. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::compare::analysis::{Metric, Row};
use crate::compare::cell::Spec;
use crate::compare::figures::Figures;
use crate::compare::statistics::estimate;

/// All figures.
#[derive(Default)]
pub(super) struct Table {
    cells: BTreeMap<(String, String), BTreeMap<u32, Figures>>,
    names: BTreeSet<String>,
}

impl Table {
    /// Adds those of a cell.
    pub(super) fn add(&mut self, spec: &Spec, label: &str, figures: Figures) {
        self.names.extend(figures.keys().cloned());
        let cell = self.cells.entry((spec.link.name.clone(), label.to_owned())).or_default();
        cell.insert(spec.block, figures);
    }

    /// Whether any cell has it.
    pub(super) fn has(&self, metric: &str) -> bool {
        self.names.contains(metric)
    }

    /// Whether any link has it.
    pub(super) fn has_label(&self, label: &str) -> bool {
        self.cells.keys().any(|(_, other)| other == label)
    }

    /// Block by block.
    pub(super) fn blocks(&self, link: &str, label: &str, metric: &str) -> Vec<(u32, f64)> {
        let cell = self.cells.get(&(link.to_owned(), label.to_owned()));
        let blocks = cell.into_iter().flatten();
        blocks.filter_map(|(block, figures)| Some((*block, *figures.get(metric)?))).collect()
    }

    /// Of the blocks that both have: the one's figure minus the other's. No number where both are infinite.
    pub(super) fn differences(&self, link: &str, metric: &str, one: &str, other: &str) -> Vec<f64> {
        let others: BTreeMap<_, _> = self.blocks(link, other, metric).into_iter().collect();
        let ones = self.blocks(link, one, metric).into_iter();
        ones.filter_map(|(block, figure)| Some(figure - others.get(&block)?)).collect()
    }

    /// Of every link, metric and label that have figures, in this order.
    pub(super) fn rows(
        &self,
        links: &[String],
        metrics: &[Metric],
        labels: &[String],
        reference: &str,
    ) -> Vec<Row> {
        let mut rows = Vec::new();
        for link in links {
            for metric in metrics {
                let row = |label: &String| self.row(link, label, &metric.name, reference);
                rows.extend(labels.iter().filter_map(row));
            }
        }
        rows
    }

    fn row(&self, link: &str, label: &str, metric: &str, reference: &str) -> Option<Row> {
        let blocks = self.blocks(link, label, metric);
        let figures: Vec<_> = blocks.iter().map(|(_, figure)| *figure).collect();
        let difference = (label != reference)
            .then(|| estimate(&self.differences(link, metric, label, reference)))
            .flatten();
        let written = |(block, figure): (u32, f64)| (block, figure.is_finite().then_some(figure));
        (!blocks.is_empty()).then(|| Row {
            link: link.to_owned(),
            label: label.to_owned(),
            metric: metric.to_owned(),
            estimate: estimate(&figures),
            blocks: blocks.into_iter().map(written).collect(),
            difference,
            holm_p: None,
        })
    }
}
