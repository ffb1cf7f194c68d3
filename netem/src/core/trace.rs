//! Recorded delivery opportunities in the format of mahimahi (Netravali et al., USENIX ATC 2015): one line per opportunity, its
//! time in whole milliseconds, never falling; each opportunity delivers up to [`OPPORTUNITY_BYTES`]; the trace repeats after its last line.

use std::time::Duration;

/// Bytes of one opportunity, as in mahimahi: 1,500 and the four of its TUN header.
pub const OPPORTUNITY_BYTES: u32 = 1504;

/// Opportunities that a trace may have: a day at 10 Mbit/s, 288 MB in memory.
const MOST_OPPORTUNITIES: usize = 72_000_000;

/// Opportunities of one period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    millis: Vec<u32>,
    period: u32,
}

/// Why a text is no trace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// A line is not a whole number of milliseconds.
    #[error("line {line}: `{text}` is no time; write one whole number of milliseconds per line")]
    NotATime {
        /// Counted from one.
        line: usize,
        /// What stands there, shortened.
        text: String,
    },
    /// A line is earlier than the one before it.
    #[error("line {line}: {millis} ms is earlier than the line before; sort the trace")]
    Unsorted {
        /// Counted from one.
        line: usize,
        /// What stands there.
        millis: u32,
    },
    /// No opportunity, or all at time zero.
    #[error("the trace lasts no time; its last line must be later than 0")]
    Empty,
    /// More opportunities than memory should hold.
    #[error("the trace has more than {MOST_OPPORTUNITIES} lines; cut it")]
    TooLong,
}

impl Trace {
    /// Reads the mahimahi format. Empty lines are skipped.
    pub fn parse(text: &str) -> Result<Self, TraceError> {
        Self::gather(text.lines())
    }

    /// The same, line by line: a file need not be in memory as text.
    pub fn gather(lines: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self, TraceError> {
        let mut millis = Vec::new();
        for (index, text) in lines.into_iter().enumerate() {
            let text = text.as_ref().trim();
            if text.is_empty() {
                continue;
            }
            if millis.len() == MOST_OPPORTUNITIES {
                return Err(TraceError::TooLong);
            }
            let line = index + 1;
            let at = text
                .parse()
                .map_err(|_| TraceError::NotATime { line, text: text.chars().take(20).collect() })?;
            if millis.last().is_some_and(|last| at < *last) {
                return Err(TraceError::Unsorted { line, millis: at });
            }
            millis.push(at);
        }
        let period = millis.last().copied().filter(|last| *last > 0).ok_or(TraceError::Empty)?;
        Ok(Self { millis, period })
    }

    /// Length of one period.
    pub const fn period(&self) -> Duration {
        Duration::from_millis(self.period as u64)
    }

    /// Opportunities per period.
    pub fn len(&self) -> usize {
        self.millis.len()
    }

    /// Never true: a trace has at least one opportunity.
    pub fn is_empty(&self) -> bool {
        self.millis.is_empty()
    }

    /// Mean capacity in bits per second.
    pub fn mean_rate(&self) -> f64 {
        self.len() as f64 * f64::from(OPPORTUNITY_BYTES) * 8.0 / self.period().as_secs_f64()
    }

    /// Time of opportunity `number`, counted from zero over all periods, after the start of the link.
    pub fn time(&self, number: u64) -> Duration {
        let count = self.millis.len() as u64;
        let (turn, within) = (number / count, number % count);
        let millis = turn.saturating_mul(u64::from(self.period)) + u64::from(self.millis[within as usize]);
        Duration::from_millis(millis)
    }

    /// The first opportunity at or after `elapsed`.
    pub fn first_from(&self, elapsed: Duration) -> u64 {
        let millis = u64::try_from(elapsed.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        let period = u64::from(self.period);
        // Time `period` belongs to the end of a turn, not to the beginning of the next.
        let turn = millis.saturating_sub(1) / period;
        let within = millis - turn * period;
        let before = self.millis.partition_point(|at| u64::from(*at) < within);
        turn * self.millis.len() as u64 + before as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_repeats_after_its_last_line() {
        let trace = Trace::parse("0\n2\n2\n\n5\n").unwrap();
        let times: Vec<_> = (0..9).map(|number| trace.time(number).as_millis()).collect();
        assert_eq!(times, [0, 2, 2, 5, 5, 7, 7, 10, 10]);
        for elapsed in 0..=9 {
            let first = trace.first_from(Duration::from_millis(elapsed));
            assert!(u128::from(elapsed) <= times[first as usize]);
            assert!(first == 0 || times[first as usize - 1] < u128::from(elapsed), "{elapsed}");
        }
    }

    #[test]
    fn broken_traces_say_where() {
        assert_eq!(Trace::parse("1\nx y\n"), Err(TraceError::NotATime { line: 2, text: "x y".into() }));
        assert_eq!(Trace::parse("3\n1\n"), Err(TraceError::Unsorted { line: 2, millis: 1 }));
        assert_eq!(Trace::parse("0\n0\n"), Err(TraceError::Empty));
        assert_eq!(Trace::parse(""), Err(TraceError::Empty));
    }
}
