//! What goes into driving and what comes out.

use std::fmt;

use carriageway_proto::{ControlFrame, Controls, DriveState, Lease, Moment, Rearm, SafeCause, Token};

/// What driving is told.
#[derive(Clone, Debug)]
pub enum Input {
    /// Control came in, in the current session.
    Control(ControlFrame),
    /// Who may drive.
    Lease(Lease),
    /// A wish to leave the safe state.
    Rearm(Rearm),
    /// [`Output::Keep`] of this token is durable.
    Kept(Token),
    /// [`Output::Keep`] of this token failed: it is never obeyed.
    KeepFailed(Token),
    /// The vehicle is stopped in an emergency, and the stop is latched.
    EmergencyStop,
    /// After [`Output::Release`]: the latch of the emergency stop is released, durably.
    Released,
    /// After [`Output::Release`]: it stays.
    ReleaseFailed,
    /// The agent ends: safe from here on.
    Stopping,
}

/// What driving wants done, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Call [`crate::core::vehicle::Drivable::halt`] at once.
    Halt(SafeCause),
    /// Call [`crate::core::vehicle::Drivable::arm`].
    Arm,
    /// Call [`crate::core::vehicle::Drivable::control`].
    Control(Controls),
    /// Make this the highest token, durably; then say [`Input::Kept`].
    Keep(Token),
    /// Release the latch of the emergency stop, durably; then say [`Input::Released`].
    Release,
    /// Tell the gateway, on the safety lane.
    Tell(DriveState),
    /// Nothing until the next input or this moment.
    Wait(Option<Moment>),
}

/// Why a control frame feeds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refused {
    /// Its token is not the newest one that the vehicle has seen, or that one is not durable yet.
    Token,
    /// Its lease has ended.
    Lease,
    /// It was changed on its way.
    Crc,
    /// It is the control of something else.
    DataId,
    /// A value is outside its range.
    OutOfRange,
    /// Its counter is not above the last one: a copy, or overtaken.
    Repeated,
    /// Its counter is too far above the last one.
    Window,
    /// It may be older than the age limit.
    TooOld,
    /// Nobody can say how old it is.
    AgeUnknowable,
    /// Good, but the vehicle is in its safe state.
    NotArmed,
}

impl Refused {
    /// Every reason, in the order of the numbers in [`Refusals`].
    pub const ALL: [Self; 10] = [
        Self::Token,
        Self::Lease,
        Self::Crc,
        Self::DataId,
        Self::OutOfRange,
        Self::Repeated,
        Self::Window,
        Self::TooOld,
        Self::AgeUnknowable,
        Self::NotArmed,
    ];

    /// As logs and metrics call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Lease => "lease",
            Self::Crc => "crc",
            Self::DataId => "data_id",
            Self::OutOfRange => "out_of_range",
            Self::Repeated => "repeated",
            Self::Window => "window",
            Self::TooOld => "too_old",
            Self::AgeUnknowable => "age_unknowable",
            Self::NotArmed => "not_armed",
        }
    }

    /// Says that the way here is not good enough to arm on. Copies are normal, since control goes on every
    /// connection, and so is what another lease left on the way.
    pub(super) fn breaks_a_row(self) -> bool {
        match self {
            Self::Crc
            | Self::DataId
            | Self::OutOfRange
            | Self::Window
            | Self::TooOld
            | Self::AgeUnknowable => true,
            Self::Token | Self::Lease | Self::Repeated | Self::NotArmed => false,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Control frames refused, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals([u64; Refused::ALL.len()]);

impl Refusals {
    /// How many for `reason`.
    pub fn of(&self, reason: Refused) -> u64 {
        self.0[reason as usize]
    }

    pub(super) fn count(&mut self, reason: Refused) {
        self.0[reason as usize] += 1;
    }
}

/// What driving has counted since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Control frames that fed the watchdog or counted for arming.
    pub accepted: u64,
    /// The others.
    pub refused: Refusals,
    /// States that no frame brought: gaps in the counters of the accepted ones.
    pub lost: u64,
    /// States lost as newest that the next frame brought as its older one.
    pub recovered: u64,
    /// Times that the soft limit passed.
    pub stale: u64,
    /// Times that the vehicle was armed.
    pub armed: u64,
    /// Times that the safe state was entered, whatever the cause.
    pub halted: u64,
    /// Of those, by the watchdog.
    pub control_lost: u64,
    /// Re-arms refused: another nonce, another or no lease, too late, or not in the safe state.
    pub rearms_refused: u64,
    /// Lease messages refused: an older token, or no life that this clock can tell.
    pub leases_refused: u64,
}
