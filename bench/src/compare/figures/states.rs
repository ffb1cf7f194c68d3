//! States, of which only the newest matters: control at the vehicle, telemetry at the gateway.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use super::age::{Ages, News};
use super::{Figures, ON_TIME, Run, STALE, UNDER_LOAD, Vehicle, ms, share};
use crate::compare::workload::{Heard, Kind};

/// What a vehicle among others is judged by.
const WORST_BY: Duration = Duration::from_millis(100);

/// One kind's states in one run, of all vehicles.
pub(super) struct States {
    end: Duration,
    each: Vec<Track>,
}

/// The same of one vehicle.
struct Track {
    first_due: Duration,
    /// Arrivals that brought something newer, by time, until the end.
    news: Vec<News>,
    /// When each was due, and when it or a newer one had arrived.
    settled: Vec<(Duration, Option<Duration>)>,
}

impl States {
    /// `None` where none was due.
    pub(super) fn of(run: &Run<'_>, kind: Kind) -> Option<Self> {
        let end = run.workload.length();
        let each: Vec<_> = run.vehicles.iter().filter_map(|vehicle| Track::of(vehicle, kind, end)).collect();
        (!each.is_empty()).then_some(Self { end, each })
    }

    /// Over the time of all vehicles.
    pub(super) fn ages(&self) -> Ages {
        let mut ages = Ages::default();
        for track in &self.each {
            ages.extend(Ages::new(track.first_due, &track.news, self.end));
        }
        ages
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
        if kind == Kind::Control {
            figures.extend(self.worst().map(|share| ("control-on-time-100-worst-vehicle".to_owned(), share)));
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
            let due = self.settled().filter(|(due, _)| window.contains(due));
            let on_time = share(due.map(|(due, at)| is_on_time(*due, *at, within)));
            figures.extend(on_time.map(|share| (format!("{name}-{limit}{suffix}"), share)));
        }
    }

    /// How many were on time.
    pub(super) fn count_on_time(&self, within: Duration) -> usize {
        self.settled().filter(|(due, at)| is_on_time(*due, *at, within)).count()
    }

    fn settled(&self) -> impl Iterator<Item = &(Duration, Option<Duration>)> {
        self.each.iter().flat_map(|track| &track.settled)
    }

    /// The least share on time of any vehicle; `None` of one alone, which is among no others.
    fn worst(&self) -> Option<f64> {
        let on_time =
            |track: &Track| share(track.settled.iter().map(|(due, at)| is_on_time(*due, *at, WORST_BY)));
        let shares = self.each.iter().filter_map(on_time);
        (self.each.len() > 1).then(|| shares.min_by(f64::total_cmp)).flatten()
    }

    /// The longest time in which nothing newer arrived, from when the first was due until the end, for any vehicle.
    fn gap(&self) -> Duration {
        self.each.iter().map(|track| track.gap(self.end)).max().unwrap_or_default()
    }
}

impl Track {
    fn of(vehicle: &Vehicle<'_>, kind: Kind, end: Duration) -> Option<Self> {
        let due = vehicle.schedule.of(kind);
        let first_due = *due.values().next()?;
        let mut heard: Vec<_> = vehicle.heard(kind).filter(|heard| due.contains_key(&heard.number)).collect();
        heard.sort_by_key(|heard| heard.at);
        Some(Self { first_due, news: news(&due, &heard, end), settled: settled(&due, &heard) })
    }

    fn gap(&self, end: Duration) -> Duration {
        let arrivals = self.news.iter().map(|news| news.at);
        let mut before = self.first_due;
        let mut longest = Duration::ZERO;
        for at in arrivals.chain([end]) {
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
