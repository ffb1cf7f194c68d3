//! States, of which only the newest matters: control at the vehicle, telemetry at the gateway.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use super::age::{Ages, News};
use super::{Figures, ON_TIME, Run, STALE, UNDER_LOAD, ms, share};
use crate::compare::workload::{Heard, Kind};

/// One kind's states in one run.
pub(super) struct States {
    first_due: Duration,
    end: Duration,
    /// Arrivals that brought something newer, by time, until the end.
    news: Vec<News>,
    /// When each was due, and when it or a newer one had arrived.
    settled: Vec<(Duration, Option<Duration>)>,
}

impl States {
    /// `None` where none was due.
    pub(super) fn of(run: &Run<'_>, kind: Kind) -> Option<Self> {
        let due = run.schedule.of(kind);
        let first_due = *due.values().next()?;
        let mut heard: Vec<_> = run.heard(kind).filter(|heard| due.contains_key(&heard.number)).collect();
        heard.sort_by_key(|heard| heard.at);
        let end = run.workload.length();
        Some(Self { first_due, end, news: news(&due, &heard, end), settled: settled(&due, &heard) })
    }

    pub(super) fn ages(&self) -> Ages {
        Ages::new(self.first_due, &self.news, self.end)
    }

    pub(super) fn figures(&self, kind: Kind, window: Option<&Range<Duration>>, figures: &mut Figures) {
        let name = kind.name();
        let ages = self.ages();
        aged(&format!("{name}-age"), "", &ages, figures);
        self.on_time(&format!("{name}-on-time"), "", &(Duration::ZERO..self.end), figures);
        for limit in STALE {
            let Some(spread) = ages.distribution() else { continue };
            figures.insert(format!("{name}-stale-{limit}"), spread.above(Duration::from_millis(limit)));
        }
        figures.insert(format!("{name}-gap"), ms(self.gap()));
        if let Some(window) = window {
            aged(&format!("{name}-age"), UNDER_LOAD, &ages.within(window), figures);
            self.on_time(&format!("{name}-on-time"), UNDER_LOAD, window, figures);
        }
    }

    /// Of the states due within `window`: arrivals count whenever they were. That a state was left out for a newer one is no fault.
    fn on_time(&self, name: &str, suffix: &str, window: &Range<Duration>, figures: &mut Figures) {
        for limit in ON_TIME {
            let within = Duration::from_millis(limit);
            let due = self.settled.iter().filter(|(due, _)| window.contains(due));
            let on_time = share(due.map(|(due, at)| is_on_time(*due, *at, within)));
            figures.extend(on_time.map(|share| (format!("{name}-{limit}{suffix}"), share)));
        }
    }

    /// How many were on time.
    pub(super) fn count_on_time(&self, within: Duration) -> usize {
        self.settled.iter().filter(|(due, at)| is_on_time(*due, *at, within)).count()
    }

    /// The longest time in which nothing newer arrived, from when the first was due until the end.
    fn gap(&self) -> Duration {
        let arrivals = self.news.iter().map(|news| news.at);
        let mut before = self.first_due;
        let mut longest = Duration::ZERO;
        for at in arrivals.chain([self.end]) {
            longest = longest.max(at.saturating_sub(before));
            before = at;
        }
        longest
    }
}

fn is_on_time(due: Duration, at: Option<Duration>, within: Duration) -> bool {
    at.is_some_and(|at| at <= due + within)
}

fn aged(name: &str, suffix: &str, ages: &Ages, figures: &mut Figures) {
    let Some(spread) = ages.distribution() else { return };
    figures.insert(format!("{name}-mean{suffix}"), spread.mean());
    figures.insert(format!("{name}-p99{suffix}"), spread.quantile(0.99));
    figures.insert(format!("{name}-p999{suffix}"), spread.quantile(0.999));
}

fn news(due: &BTreeMap<u32, Duration>, heard: &[&Heard], end: Duration) -> Vec<News> {
    let mut newest = None;
    let mut news = Vec::new();
    for heard in heard.iter().take_while(|heard| heard.at <= end) {
        if newest.is_none_or(|newest| newest < heard.number) {
            newest = Some(heard.number);
            news.push(News { at: heard.at, due: due[&heard.number] });
        }
    }
    news
}

fn settled(due: &BTreeMap<u32, Duration>, heard: &[&Heard]) -> Vec<(Duration, Option<Duration>)> {
    let mut first = BTreeMap::new();
    for heard in heard {
        first.entry(heard.number).or_insert(heard.at);
    }
    let mut soonest: Option<Duration> = None;
    let mut settled = Vec::with_capacity(due.len());
    for (number, due) in due.iter().rev() {
        let at = first.get(number).copied();
        soonest = soonest.into_iter().chain(at).min();
        settled.push((*due, soonest));
    }
    settled.reverse();
    settled
}
