//! How far a run is, and what it came to.

use std::fmt::Write as _;
use std::time::Duration;

use carriageway_netem::core::Moment;

use crate::compare::cell::Outcome;

/// How far a run is.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    all: usize,
    ended: usize,
    begun: Moment,
    took: Duration,
    /// Of a cell, before the first has ended.
    guess: Duration,
}

impl Progress {
    /// Of so many cells, each of which takes about so long, so many of them at the same time.
    pub(super) fn new(all: usize, guess: Duration, jobs: u8, begun: Moment) -> Self {
        Self { all, ended: 0, begun, took: Duration::ZERO, guess: guess / u32::from(jobs) }
    }

    /// A cell has ended, with all its attempts.
    pub(super) fn cell_ended(&mut self, now: Moment) {
        self.ended += 1;
        self.took = now.since(self.begun);
    }

    /// What the cells still to be run will take, as the ones before did.
    pub(super) fn left(&self) -> Duration {
        let each = if self.ended == 0 { self.guess } else { self.took / count(self.ended) };
        each * count(self.all - self.ended)
    }

    /// As `[3/20]`: so many of all have ended.
    pub(super) fn place(&self) -> String {
        format!("[{}/{}]", self.ended, self.all)
    }
}

fn count(cells: usize) -> u32 {
    u32::try_from(cells).unwrap_or(u32::MAX)
}

/// A time for people: `40 s`, `9 min`, `7 h 20 min`.
pub(super) fn about(time: Duration) -> String {
    let seconds = time.as_secs();
    let minutes = (seconds + 30) / 60;
    match seconds {
        0..90 => format!("{seconds} s"),
        90..5_400 => format!("{minutes} min"),
        _ => format!("{} h {} min", minutes / 60, minutes % 60),
    }
}

/// What came of one attempt, in one line.
pub(super) fn line(outcome: &Outcome, attempts: u32) -> String {
    if !outcome.is_valid() {
        return format!("void, attempt {} of {attempts}: {}", outcome.spec.attempt, reasons(&outcome.faults));
    }
    let mut text = outcome.connected_ms.map_or_else(
        || "NOT CONNECTED when the workload began".to_owned(),
        |ms| format!("connected in {ms:.0} ms"),
    );
    for failure in &outcome.failures {
        let _ = write!(text, "; FAILED: {failure}");
    }
    text
}

/// All of them in one line; what several of them end with is said once.
fn reasons(faults: &[String]) -> String {
    let is_busy = faults.iter().any(|fault| fault.ends_with(BUSY));
    let short: Vec<_> = faults.iter().map(|fault| fault.strip_suffix(BUSY).unwrap_or(fault)).collect();
    short.join("; ") + if is_busy { BUSY } else { "" }
}

/// How the emulator and the cell end a fault that is the machine's.
const BUSY: &str = "; the machine is too busy";

/// What all cells of a plan, or a part of it, came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Cells that were wanted.
    wanted: usize,
    /// Cells of the whole plan.
    planned: usize,
    /// Cells with a run that counts.
    valid: usize,
    /// Runs that do not.
    void: usize,
    /// Cells that were void as often as may be, with the last reason.
    never: Vec<(String, String)>,
    /// Cells that count and in which the subject failed, with what went wrong.
    failed: Vec<(String, String)>,
}

impl Tally {
    pub(super) fn new(planned: usize) -> Self {
        Self { planned, ..Self::default() }
    }

    /// Adds a cell with all its attempts.
    pub(super) fn add(&mut self, name: &str, attempts: &[Outcome]) {
        self.wanted += 1;
        self.void += attempts.iter().filter(|outcome| !outcome.is_valid()).count();
        let Some(outcome) = attempts.iter().find(|outcome| outcome.is_valid()) else {
            let why = attempts.last().map(|outcome| reasons(&outcome.faults)).unwrap_or_default();
            self.never.push((name.to_owned(), why));
            return;
        };
        self.valid += 1;
        let mut failures = outcome.failures.clone();
        failures.extend(outcome.connected_ms.is_none().then(|| "not connected".to_owned()));
        if !failures.is_empty() {
            self.failed.push((name.to_owned(), failures.join("; ")));
        }
    }

    /// How many cells count.
    pub(super) const fn valid(&self) -> usize {
        self.valid
    }

    /// For people: the sum in the first line, what is wrong in the others.
    pub(super) fn text(&self) -> String {
        let Self { wanted, planned, valid, void, never, failed } = self;
        let mut text = format!(
            "{valid} of {wanted} cells count; {void} runs were void, {} cells are left without one that counts; \
             the subject failed in {}\n",
            never.len(),
            failed.len()
        );
        if wanted < planned {
            let _ = writeln!(text, "a part of the plan, which has {planned} cells");
        }
        for (title, all) in [("never valid", never), ("failed", failed)] {
            for (name, why) in all {
                let _ = writeln!(text, "  {title}: {name}: {why}");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::conduct::tests::outcome;

    #[test]
    fn time_left_follows_what_was_measured() {
        let mut progress = Progress::new(10, Duration::from_secs(20), 2, Moment::ZERO);
        assert_eq!((progress.left(), progress.place().as_str()), (Duration::from_secs(100), "[0/10]"));
        progress.cell_ended(Moment::ZERO + Duration::from_mins(1));
        assert_eq!((progress.left(), progress.place().as_str()), (Duration::from_mins(9), "[1/10]"));
        progress.cell_ended(Moment::ZERO + Duration::from_mins(1));
        assert_eq!(progress.left(), Duration::from_mins(4));
        for (seconds, words) in [(40, "40 s"), (100, "2 min"), (5_399, "90 min"), (26_400, "7 h 20 min")] {
            assert_eq!(about(Duration::from_secs(seconds)), words);
        }
    }

    #[test]
    fn everything_is_told_and_void_runs_never_count() {
        let mut tally = Tally::new(9);
        tally.add("good", &[outcome(1, &["late"], &[], Some(1.0)), outcome(2, &[], &[], Some(1.0))]);
        tally.add("broken", &[outcome(1, &[], &["it fell"], None)]);
        tally.add("busy", &[outcome(1, &["late"], &[], None), outcome(2, &["later"], &[], None)]);
        let text = tally.text();
        assert_eq!(tally.valid(), 2);
        let first = text.lines().next().unwrap();
        assert!(
            first.starts_with("2 of 3 cells count; 3 runs were void") && first.contains("1 cells are left"),
            "{first}"
        );
        for line in
            ["which has 9 cells", "never valid: busy: later", "failed: broken: it fell; not connected"]
        {
            assert!(text.contains(line), "{text}");
        }
    }

    #[test]
    fn a_line_says_what_matters() {
        let told = line(&outcome(2, &["late"], &[], None), 3);
        assert_eq!(told, "void, attempt 2 of 3: late");
        let busy = ["late; the machine is too busy", "asleep; the machine is too busy"];
        let told = line(&outcome(3, &busy, &[], None), 3);
        assert_eq!(told, "void, attempt 3 of 3: late; asleep; the machine is too busy");
        assert_eq!(line(&outcome(1, &[], &[], Some(131.7)), 3), "connected in 132 ms");
        let told = line(&outcome(1, &[], &["it fell"], None), 3);
        assert!(told.contains("NOT CONNECTED") && told.contains("FAILED: it fell"), "{told}");
    }
}
