//! From packets to curves over time.

use std::collections::BTreeMap;

use carriageway_netem::drawing::ceiling;

use super::samples::{End, Sample};

/// Most points along the time axis: about four pixels each, so that a bin of a minute still holds ten packets at 50 Hz.
const MOST_BINS: f64 = 250.0;

/// One direction over time, in bins of equal length.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Curves {
    /// Length of a bin in seconds.
    pub(super) bin: f64,
    /// Mbit/s.
    pub(super) offered: Vec<f64>,
    /// Mbit/s.
    pub(super) delivered: Vec<f64>,
    /// Largest number of bytes that waited or were in service.
    pub(super) queue: Vec<f64>,
    /// Longest one-way delay in ms of what was offered then; `None`: nothing of it arrived.
    pub(super) delay: Vec<Option<f64>>,
    /// Times of drops in seconds, by cause.
    pub(super) drops: BTreeMap<String, Vec<f64>>,
}

impl Curves {
    /// What happens within `span` seconds.
    pub(super) fn of(samples: &[&Sample], span: f64) -> Self {
        let bin = ceiling(span / MOST_BINS);
        let count = (span / bin).ceil() as usize;
        let mut curves = Self {
            bin,
            offered: vec![0.0; count],
            delivered: vec![0.0; count],
            queue: queue(samples, bin, count),
            delay: vec![None; count],
            drops: BTreeMap::new(),
        };
        for sample in samples {
            curves.add(sample, span);
        }
        curves
    }

    fn add(&mut self, sample: &Sample, span: f64) {
        let megabits = f64::from(sample.bytes) * 8e-6 / self.bin;
        spread(&mut self.offered, sample.offered / self.bin, megabits);
        match &sample.end {
            End::Dropped { at, cause } => {
                if *at <= span {
                    self.drops.entry(cause.clone()).or_default().push(*at);
                }
            }
            End::Delivered { due, .. } => {
                spread(&mut self.delivered, due / self.bin, megabits);
                let took = (due - sample.offered) * 1e3;
                if let Some(longest) = self.delay.get_mut((sample.offered / self.bin) as usize) {
                    *longest = Some(longest.map_or(took, |longest| longest.max(took)));
                }
            }
        }
    }
}

/// Adds `amount` to the two bins whose middles are next to `at` (in bins), more to the nearer: a steady stream whose period does
/// not divide a bin would otherwise look like a saw.
fn spread(bins: &mut [f64], at: f64, amount: f64) {
    let place = (at - 0.5).max(0.0);
    let (first, share) = (place as usize, place.fract());
    let last = bins.len().saturating_sub(1);
    for (bin, part) in [(first, 1.0 - share), (first + 1, share)] {
        // What lies beyond the end is not drawn, but the last bin has no neighbour to share with.
        if at < bins.len() as f64 {
            bins[bin.min(last)] += amount * part;
        }
    }
}

/// Most bytes that were inside at any time of each bin.
fn queue(samples: &[&Sample], bin: f64, count: usize) -> Vec<f64> {
    let mut changes: Vec<(f64, f64)> = samples
        .iter()
        .flat_map(|sample| {
            let left = match sample.end {
                End::Delivered { left, .. } => left,
                End::Dropped { at, .. } => at,
            };
            // What leaves at the moment at which it comes never waited.
            let bytes = if left > sample.offered { f64::from(sample.bytes) } else { 0.0 };
            [(sample.offered, bytes), (left, -bytes)]
        })
        .collect();
    // Of one moment, first what leaves.
    changes.sort_by(|one, other| one.0.total_cmp(&other.0).then(one.1.total_cmp(&other.1)));
    let (mut most, mut inside, mut changes) = (vec![0.0_f64; count], 0.0_f64, changes.into_iter().peekable());
    for (index, most) in most.iter_mut().enumerate() {
        *most = inside;
        let until = (index + 1) as f64 * bin;
        while let Some((_, bytes)) = changes.next_if(|(at, _)| *at < until) {
            inside += bytes;
            *most = most.max(inside);
        }
    }
    most
}

#[cfg(test)]
mod tests {
    use carriageway_netem::core::Direction;

    use super::*;

    fn sample(offered: f64, end: End) -> Sample {
        Sample { direction: Direction::Up, offered, bytes: 1_000, end }
    }

    #[test]
    fn nothing_that_arrives_is_no_short_delay() {
        let samples = [
            sample(0.1, End::Delivered { left: 0.3, due: 0.35 }),
            sample(0.2, End::Delivered { left: 0.4, due: 0.45 }),
            sample(2.0, End::Dropped { at: 2.0, cause: "outage".into() }),
        ];
        let curves = Curves::of(&samples.iter().collect::<Vec<_>>(), 2.5);
        assert!((curves.bin - 0.01).abs() < 1e-12);
        assert!((curves.delay[10].unwrap() - 250.0).abs() < 1e-6);
        assert_eq!((curves.delay[50], curves.delay[200]), (None, None));
        assert_eq!(curves.drops["outage"], [2.0]);
        let queue: Vec<_> = [5, 15, 25, 35, 45].map(|bin| curves.queue[bin]).into();
        assert_eq!(queue, [0.0, 1_000.0, 2_000.0, 1_000.0, 0.0]);
    }

    #[test]
    fn a_steady_stream_is_a_steady_line() {
        let steady = |number: u32| {
            let at = f64::from(number) * 0.015;
            sample(at, End::Delivered { left: at, due: at })
        };
        let samples: Vec<_> = (0..1_000).map(steady).collect();
        let curves = Curves::of(&samples.iter().collect::<Vec<_>>(), 15.0);
        let rate = 1_000.0 * 8e-6 / 0.015;
        for value in &curves.offered[1..curves.offered.len() - 1] {
            assert!((value / rate - 1.0).abs() < 0.1, "{value} of {rate}");
        }
        assert!(curves.queue.iter().all(|bytes| *bytes <= 0.0));
    }
}
