//! Puts what is due into the feeds at its moment, on a thread of its own, or in virtual time.

use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use carriageway_netem::core::Direction;
use carriageway_netem::realtime;
use rustix::time::{ClockId, clock_gettime};

use super::feed::Feed;
use super::message::Kind;
use super::schedule::{Due, Schedule, Workload, seed_of};
use crate::compare::timeline::Timeline;
use crate::stats::quantile;

/// What happens in one feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Offer(Due),
    Transfer(Kind, bool),
}

/// One act, when, and in whose feed: by the vehicle's place among the feeds, and the direction.
type Planned = (Duration, (usize, Direction), Act);

/// How it went.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// How late each was, which is no subject's doing.
    pub late: Vec<Duration>,
    /// Processor time that the thread took.
    pub cpu: Duration,
}

/// The one who clicks, steers, looks and copies files, at both ends of every vehicle's link.
pub struct Hand {
    acts: Vec<Planned>,
    feeds: Vec<[Feed; 2]>,
    timeline: Timeline,
    /// Acts that [`Hand::act_until`] has done.
    done: usize,
}

impl Hand {
    /// For each vehicle's feeds of what goes up and of what goes down, in the order of their numbers, in a cell of this seed.
    pub fn new(workload: &Workload, seed: u64, timeline: Timeline, feeds: Vec<[Feed; 2]>) -> Self {
        let each = workload.numbers().zip(0..feeds.len());
        let mut acts: Vec<_> =
            each.flat_map(|(number, place)| acts(workload, seed_of(seed, number), place)).collect();
        acts.sort_by_key(|(at, ..)| *at);
        Self { acts, feeds, timeline, done: 0 }
    }

    /// Does it all on a thread; where `is_urgent`, ahead of all ordinary ones, as the emulator is.
    pub fn spawn(self, is_urgent: bool) -> Result<JoinHandle<Account>> {
        let work = move || {
            if is_urgent {
                // Where it is refused the emulator was refused it, too, and there is no run.
                let _ordinary = realtime::enter();
            }
            let mut account = Account::default();
            for (at, whose, act) in &self.acts {
                let left = self.timeline.until(*at);
                if !left.is_zero() {
                    std::thread::sleep(left);
                }
                account.late.push(self.timeline.since(*at));
                self.act(*whose, *act);
            }
            account.cpu = thread_cpu();
            account
        };
        Builder::new().name("bench-hand".into()).spawn(work).context("cannot start a thread")
    }

    /// When there is next something to do, from the start of the workload; for who has the time himself.
    pub fn next_due(&self) -> Option<Duration> {
        self.acts.get(self.done).map(|(at, ..)| *at)
    }

    /// Does what is due by `elapsed` and is not done.
    pub fn act_until(&mut self, elapsed: Duration) {
        while let Some((_, whose, act)) = self.acts.get(self.done).filter(|(at, ..)| *at <= elapsed).copied()
        {
            self.done += 1;
            self.act(whose, act);
        }
    }

    fn act(&self, (place, direction): (usize, Direction), act: Act) {
        let feed = &self.feeds[place][direction.index()];
        match act {
            Act::Offer(due) => feed.offer(due.message),
            Act::Transfer(kind, on) => feed.transfer(kind, on),
        }
    }
}

/// What happens in the feeds of the vehicle at this place; files at the same moments in all.
fn acts(workload: &Workload, seed: u64, place: usize) -> Vec<Planned> {
    let schedule = Schedule::new(workload, seed);
    let whose = |kind: Kind| (place, kind.direction());
    let due = schedule.all().iter().map(|due| (due.at, whose(due.message.kind), Act::Offer(*due)));
    let mut acts: Vec<_> = due.collect();
    let (from, until) = (workload.transfers().start, workload.transfers().end);
    for (kind, is_wanted) in [(Kind::Log, workload.log), (Kind::Map, workload.map)] {
        if is_wanted {
            acts.push((from, whose(kind), Act::Transfer(kind, true)));
            acts.push((until, whose(kind), Act::Transfer(kind, false)));
        }
    }
    acts
}

impl Account {
    /// p99 and worst.
    pub fn lateness(&self) -> (Duration, Duration) {
        let mut sorted: Vec<_> = self.late.iter().map(Duration::as_secs_f64).collect();
        sorted.sort_by(f64::total_cmp);
        let at = |share| Duration::from_secs_f64(quantile(&sorted, share).unwrap_or_default());
        (at(0.99), at(1.0))
    }

    /// Of the thread that did it.
    pub fn of(thread: JoinHandle<Self>) -> Result<Self> {
        thread.join().map_err(|_| anyhow!("the thread of the workload panicked"))
    }
}

fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::workload::Manner;

    #[test]
    fn everything_comes_at_its_end_of_the_link_and_files_in_the_middle() {
        let [up, down] = [Feed::new(Manner::AsTheyCome), Feed::new(Manner::AsTheyCome)];
        let workload = Workload { seconds: 3.0, ..Workload::default() };
        let mut hand = Hand::new(&workload, 1, Timeline::starting_now(), vec![[up.clone(), down.clone()]]);
        let mut acts = |until: u64| {
            let until = Duration::from_millis(until);
            while let Some(at) = hand.next_due().filter(|at| *at <= until) {
                hand.act_until(at);
            }
        };
        acts(1_500);
        assert!(up.try_piece().is_some() && down.try_piece().is_none());
        acts(2_100);
        assert!(up.try_piece().is_none(), "the middle third is over");
        acts(3_000);
        assert_eq!(hand.next_due(), None);
        let count = |feed: &Feed| std::iter::from_fn(|| feed.try_next()).count();
        assert_eq!(count(&up), 60 + 3);
        assert!(count(&down) >= 150);
    }

    #[test]
    fn each_vehicle_has_its_own_in_its_own_feeds() {
        let feeds = || [Feed::new(Manner::AsTheyCome), Feed::new(Manner::AsTheyCome)];
        let workload = Workload { vehicles: 3, seconds: 3.0, ..Workload::default() };
        let fleet: Vec<_> = std::iter::repeat_with(feeds).take(3).collect();
        let mut hand = Hand::new(&workload, 9, Timeline::starting_now(), fleet.clone());
        hand.act_until(Duration::from_millis(1_500));
        assert!(fleet.iter().all(|[up, down]| up.try_piece().is_some() && down.try_piece().is_none()));
        hand.act_until(Duration::from_secs(3));
        for (number, [_, down]) in workload.numbers().zip(&fleet) {
            let schedule = Schedule::new(&workload, seed_of(9, number));
            let due = schedule.all().iter().map(|due| due.message);
            let due: Vec<_> = due.filter(|message| message.kind.direction() == Direction::Down).collect();
            assert_eq!(std::iter::from_fn(|| down.try_next()).collect::<Vec<_>>(), due, "{number}");
        }
    }

    #[test]
    fn the_thread_says_how_late_it_was() {
        let feed = Feed::new(Manner::AsTheyCome);
        let workload = Workload { seconds: 0.1, commands_hz: 0.0, ..Workload::default() };
        let hand = Hand::new(&workload, 1, Timeline::starting_now(), vec![[feed.clone(), feed]]);
        let account = Account::of(hand.spawn(false).unwrap()).unwrap();
        assert!(account.late.len() >= 5 + 2 + 2, "{account:?}");
        assert!(account.lateness().0 <= account.lateness().1);
    }
}
