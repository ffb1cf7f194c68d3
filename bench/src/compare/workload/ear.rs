//! What arrived at one end, and when.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::feed::Feed;
use super::message::{BadMessage, Kind, Message};
use crate::compare::timeline::Timeline;

/// One arrival. Copies are arrivals of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The vehicle at one of the two ends, counted from one.
    pub vehicle: u16,
    /// What.
    pub kind: Kind,
    /// Its number.
    pub number: u32,
    /// The application's bytes.
    pub bytes: u32,
    /// From the start of the workload.
    pub at: Duration,
}

/// One end's record of arrivals. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Ear {
    vehicle: u16,
    timeline: Timeline,
    heard: Arc<Mutex<Vec<Heard>>>,
    /// Where answers to commands go.
    answers: Feed,
}

impl Ear {
    /// Of an end that answers commands through `answers`, on the link of the first vehicle.
    pub fn new(timeline: Timeline, answers: Feed) -> Self {
        Self { vehicle: 1, timeline, heard: Arc::default(), answers }
    }

    /// The same on the link of another vehicle, counted from one.
    #[must_use]
    pub const fn of_vehicle(mut self, number: u16) -> Self {
        self.vehicle = number;
        self
    }

    /// These bytes of [`Message::encode`] arrived, now.
    pub fn hear(&self, bytes: &[u8]) -> Result<(), BadMessage> {
        self.hear_message(Message::decode(bytes)?, bytes.len());
        Ok(())
    }

    /// This message arrived, now, in so many bytes: for subjects with words of their own for it.
    pub fn hear_message(&self, message: Message, bytes: usize) {
        // What comes before the start is the subject's own business.
        let Some(at) = self.timeline.elapsed() else { return };
        let Message { kind, number, class } = message;
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.heard().push(Heard { vehicle: self.vehicle, kind, number, bytes, at });
        if kind == Kind::Command {
            self.answers.offer(Message { kind: Kind::Ack, class, number });
        }
    }

    /// All that arrived so far, by time.
    pub fn take(&self) -> Vec<Heard> {
        std::mem::take(&mut *self.heard())
    }

    fn heard(&self) -> MutexGuard<'_, Vec<Heard>> {
        self.heard.lock().expect("no holder of the record panics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::workload::Manner;

    #[test]
    fn a_command_is_answered_each_time_it_comes() {
        let answers = Feed::new(Manner::AsTheyCome);
        let ear = Ear::new(Timeline::starting_now(), answers.clone());
        for kind in [Kind::Command, Kind::Control, Kind::Command] {
            ear.hear(&Message::new(kind, 5).encode()).unwrap();
        }
        let heard = ear.take();
        assert_eq!(
            heard.iter().map(|heard| (heard.kind, heard.number, heard.bytes)).collect::<Vec<_>>(),
            [(Kind::Command, 5, 128), (Kind::Control, 5, 64), (Kind::Command, 5, 128)]
        );
        assert!(heard.is_sorted_by_key(|heard| heard.at));
        assert_eq!(answers.try_next().unwrap().kind, Kind::Ack);
        assert_eq!(answers.try_next().unwrap().number, 5);
        assert_eq!(answers.try_next(), None);
        assert!(ear.hear(b"?").is_err());
    }

    #[test]
    fn what_arrives_is_of_the_ears_vehicle() {
        let ear = Ear::new(Timeline::starting_now(), Feed::new(Manner::AsTheyCome));
        ear.hear(&Message::new(Kind::Control, 0).encode()).unwrap();
        assert_eq!(ear.take()[0].vehicle, 1);
        let ear = ear.of_vehicle(7);
        ear.hear(&Message::new(Kind::Control, 0).encode()).unwrap();
        assert_eq!(ear.take()[0].vehicle, 7);
    }

    #[test]
    fn what_comes_before_the_start_does_not_count() {
        let ear = Ear::new(Timeline::starting_in(Duration::from_hours(1)), Feed::new(Manner::AsTheyCome));
        ear.hear(&Message::new(Kind::Control, 0).encode()).unwrap();
        assert!(ear.take().is_empty());
    }
}
