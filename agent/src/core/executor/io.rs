//! What goes into the executor and what comes out.

use std::time::Duration;

use carriageway_proto::{Cancel, Class, Command, CommandKey, Moment, Outcome, SignalPath, Token};

use super::record::Record;
use crate::core::vehicle::{Actuation, Applied, Refusal, Target};

/// What the executor is told.
#[derive(Clone, Debug)]
pub enum Input {
    /// A command came in on the lane of class `lane`.
    Command {
        /// The lane.
        lane: Class,
        /// The command.
        command: Command,
    },
    /// A command came in that cannot be read whole.
    Unreadable {
        /// The lane.
        lane: Class,
        /// Its key, which could be read.
        key: CommandKey,
        /// What is wrong with it.
        refusal: Refusal,
    },
    /// A wish to withdraw a command came in on the lane of class `lane`.
    Cancel {
        /// The lane.
        lane: Class,
        /// The wish.
        cancel: Cancel,
    },
    /// Who may drive has changed. Before the first of these nobody may.
    Fence {
        /// The highest token seen. Durable before its lease is said to live.
        newest: Option<Token>,
        /// Until when its lease lives by this vehicle's clock, at the earliest it can end; `None`: it has
        /// ended.
        lease_lives_until: Option<Moment>,
    },
    /// The vehicle has taken a target for this path that came with no command.
    TakenOver(SignalPath),
    /// The terminal outcome told of this command has arrived. Until then its record is kept.
    Arrived(CommandKey),
    /// [`Output::Tell`] of this found no room on its way. The end of a remembered command is given again by
    /// [`super::Executor::next_owed`]; anything else is dropped and counted.
    Untold(Outcome),
    /// [`Output::Write`] of this number is durable.
    Written(WriteId),
    /// [`Output::Write`] of this number failed, or nobody knows. The journal is broken from here on.
    WriteFailed(WriteId),
    /// The agent is about to end: from here on what is new is refused, the emergency stop excepted.
    Stopping,
    /// The vehicle was re-armed: release the latch of every emergency stop so far. Once that is durable, and no
    /// other stop came meanwhile, [`Output::Released`] says so.
    Release,
    /// The vehicle's answer to [`Output::Apply`].
    Applied {
        /// Of that output.
        actuation: Actuation,
        /// The answer.
        applied: Applied,
    },
    /// An actuation ended, as the vehicle reports.
    Finished {
        /// Which.
        actuation: Actuation,
        /// How.
        result: Result<(), Refusal>,
    },
}

/// What the executor wants done, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Call [`crate::Vehicle::stop`].
    Stop(Actuation),
    /// Call [`crate::Vehicle::apply`] now, without any wait, and say [`Input::Applied`].
    Apply {
        /// Names the attempt.
        actuation: Actuation,
        /// The target.
        target: Target,
    },
    /// Make `record` durable, replacing an older one of its key; then say [`Input::Written`].
    Write {
        /// Names the write. Writes become durable in this order or not at all.
        id: WriteId,
        /// What to keep.
        record: Box<Record>,
    },
    /// Tell whoever sent the command, on the lane of `class`; where there is no room, say [`Input::Untold`].
    Tell {
        /// The lane.
        class: Class,
        /// The news.
        outcome: Outcome,
    },
    /// After [`Input::Release`]: no emergency stop is latched, durably (`true`), or the latch stays (`false`).
    Released(bool),
    /// The journal may forget this command. Need not be durable.
    Forget(CommandKey),
    /// Nothing until the next input or this moment.
    Wait(Option<Moment>),
}

/// Numbers one write to the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub u64);

/// How much is remembered at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Commands of one class that were let in.
    pub admitted: usize,
    /// Commands of one class that were refused, and as many that were withdrawn before they came.
    pub refused: usize,
    /// How long the key of a command that was let in is remembered at the least: a client may come
    /// back with it long after the ttl, to a gateway that has restarted and stamps it anew.
    pub remember: Duration,
}

impl Default for Limits {
    /// An hour for a key. 16,384 of a class are four and a half per second for all of it, and some
    /// 5 MB; 64 refusals are told apart from their copies.
    fn default() -> Self {
        Self { admitted: 16_384, refused: 64, remember: Duration::from_hours(1) }
    }
}

/// Longest ttl that is accepted: a record occupies the journal for as long.
pub const LONGEST_TTL: Duration = Duration::from_hours(7 * 24);

/// What the executor has counted since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Targets handed to the vehicle.
    pub acted: u64,
    /// Commands answered from memory.
    pub repeats: u64,
    /// Commands refused, whatever the reason, expired ones included.
    pub refused: u64,
    /// Commands withdrawn before they acted, or before they came.
    pub canceled: u64,
    /// Commands and withdrawals that could not even be remembered as refused, and were left unanswered.
    pub unanswered: u64,
    /// Answers that found no room and are not told again by themselves: progress, and what is not remembered.
    pub dropped: u64,
}
