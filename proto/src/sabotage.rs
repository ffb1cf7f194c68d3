//! Deliberate bugs, to see whether the simulator's checker finds them.
//!
//! Without the feature `sabotage`, which only the simulator ever enables, [`on`] is a constant `false` and no
//! trace of any bug is left in a build. With it, at most one bug is on at a time, for the thread that set it.

/// One deliberate bug. The name says what is done wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// The vehicle counts the ttl from the receipt of a command.
    TtlFromReceipt,
    /// The gateway counts the ttl from when all of a request was there, not from when it began to come in.
    TtlFromAcceptance,
    /// Freshness is judged at admission only, not again when the journal has answered.
    AgeNotJudgedAgain,
    /// A clock that went backwards goes unnoticed.
    BackwardClockUnnoticed,
    /// A stamp of another boot is compared all the same.
    BootNotCompared,
    /// The floor under the peer's clock runs at twice the time.
    FloorTooFast,
    /// The clock stands still while the host is suspended, as `Instant` does.
    ClockStopsInSuspend,
    /// What the journal remembers is not taken up after a restart.
    DedupNotPersisted,
    /// The vehicle acts while its intent is being written.
    IntentNotAwaited,
    /// What was intended before a crash is done again.
    UnknownRetried,
    /// What was intended before a crash is called expired.
    UnknownCalledExpired,
    /// A refusal is told but not remembered.
    RefusalForgotten,
    /// An entry goes as soon as its outcome has arrived.
    YoungEviction,
    /// RECEIVED is told before the intent is durable.
    AckBeforeDurable,
    /// An end is told before it is durable.
    VerdictBeforeDurable,
    /// The vehicle answers a copy with another payload as a repeat.
    ConflictUnnoticedByVehicle,
    /// The gateway answers another payload under a known key as a repeat.
    ConflictUnnoticedByGateway,
    /// The gateway takes an outcome for another wish under the same key.
    OutcomeOfAnotherWish,
    /// A record at the gateway goes back to a lower phase.
    PhasesFall,
    /// UNKNOWN is taken again and again.
    UnknownTwice,
    /// A message that was sent and expired counts as never sent.
    ExpiredCalledUnsent,
    /// A message that was sent and lost with its session counts as never sent.
    LostCalledUnsent,
    /// The receiver of a lane takes the newest frame twice.
    SequenceNotStrict,
    /// A frame is sent again after its ttl.
    ResendAfterTtl,
    /// Expired frames are skipped without a word.
    GapNotTold,
    /// An older value of a signal passes after a newer one.
    OlderSignalPasses,
    /// A new session's epoch does not regard the epoch that the vehicle claims.
    EpochNotCompared,
    /// The end of an older session counts as the end of the vehicle's newest.
    PresenceWithoutSession,
    /// A session without a connection is kept for ever.
    ZombieKept,
    /// Rate limits refill twice as fast.
    RateRefilledTwice,
    /// An emergency stop waits its turn like any other command.
    StopWaitsForRoom,
    /// A vehicle that was stopped in an emergency is not stopped again after a restart.
    LatchNotRecovered,
    /// As many commands as come may be under way.
    InFlightUnbounded,
    /// A command that waits for its vehicle is accepted before it is on the disk.
    QueueNotAwaited,
    /// The vehicle acts upon an older command after a newer one.
    OrderNotKept,
    /// The vehicle does again what another command has just brought about.
    DuplicatesActed,
    /// The vehicle does not take up the highest lease token after a restart.
    TokenForgottenByVehicle,
    /// The vehicle obeys a lease whose token is not durable yet.
    TokenObeyedBeforeDurable,
    /// The gateway does not take up its tokens after a restart, and grants them again.
    TokenForgottenByGateway,
    /// The gateway grants a lease before its token is durable.
    LeaseBeforeDurable,
    /// The vehicle follows control under an older token than the newest.
    OlderTokenFollowed,
    /// The vehicle does not regard when a lease ends.
    LeaseLifeIgnored,
    /// Renewals of the lease feed the watchdog.
    WatchdogFedByRenewals,
    /// Control that was seen before feeds the watchdog.
    WatchdogFedByCopies,
    /// Control is followed however old it is.
    ControlAgeIgnored,
    /// Control that was changed on its way is followed.
    CrcIgnored,
    /// The control of something else is followed.
    DataIdIgnored,
    /// A re-arm leads out of any safe state, not only of the one it names.
    NonceNotCompared,
    /// A vehicle that is being re-armed does not ask for neutral input.
    ArmedWithoutNeutral,
    /// Good control leads out of the safe state without a re-arm.
    SafeStateNotLatched,
    /// A new lease releases the emergency stop.
    StopReleasedByLease,
    /// A drive command acts without a lease.
    DriveWithoutLease,
    /// The watchdog is looked at when something else happens, not at its own moment.
    WatchdogNotAwaited,
    /// A vehicle that is stopped in an emergency goes on to follow control.
    StopLeavesArmed,
    /// A command that has its target for itself is dropped as if a newer one had come.
    LoneCommandDropped,
    /// A command that has its target for itself is held for its duplicate window.
    LoneCommandHeld,
    /// A command that a newer one superseded at the gateway is sent all the same.
    SupersededSent,
    /// A command that was withdrawn on the vehicle acts all the same.
    CanceledActed,
    /// What waited for its vehicle is released with a ttl that begins anew.
    QueueNotFiltered,
    /// All of a class that waited for its vehicle goes at once.
    QueueReleasedAtOnce,
    /// A second command for a target goes while the first is under way.
    TwoInFlight,
    /// The vehicle acts upon what is desired before that decision is on the disk.
    DesiredNotRecorded,
    /// The vehicle acts upon what is desired after its validity.
    DesiredTooOldActed,
    /// A change of what is desired is answered before it is on the disk.
    PatchNotAwaited,
    /// The gateway takes a write that failed for one that is done.
    FailureTakenForSuccess,
    /// The gateway compares its clock with readings from another boot of its host.
    GatewayBootsCompared,
    /// The gateway tells an end before it is on the disk.
    EndNotAwaited,
}

impl Sabotage {
    /// Every one.
    pub const ALL: &'static [Self] = &[
        Self::TtlFromReceipt,
        Self::TtlFromAcceptance,
        Self::AgeNotJudgedAgain,
        Self::BackwardClockUnnoticed,
        Self::BootNotCompared,
        Self::FloorTooFast,
        Self::ClockStopsInSuspend,
        Self::DedupNotPersisted,
        Self::IntentNotAwaited,
        Self::UnknownRetried,
        Self::UnknownCalledExpired,
        Self::RefusalForgotten,
        Self::YoungEviction,
        Self::AckBeforeDurable,
        Self::VerdictBeforeDurable,
        Self::ConflictUnnoticedByVehicle,
        Self::ConflictUnnoticedByGateway,
        Self::OutcomeOfAnotherWish,
        Self::PhasesFall,
        Self::UnknownTwice,
        Self::ExpiredCalledUnsent,
        Self::LostCalledUnsent,
        Self::SequenceNotStrict,
        Self::ResendAfterTtl,
        Self::GapNotTold,
        Self::OlderSignalPasses,
        Self::EpochNotCompared,
        Self::PresenceWithoutSession,
        Self::ZombieKept,
        Self::RateRefilledTwice,
        Self::StopWaitsForRoom,
        Self::LatchNotRecovered,
        Self::InFlightUnbounded,
        Self::QueueNotAwaited,
        Self::OrderNotKept,
        Self::DuplicatesActed,
        Self::TokenForgottenByVehicle,
        Self::TokenObeyedBeforeDurable,
        Self::TokenForgottenByGateway,
        Self::LeaseBeforeDurable,
        Self::OlderTokenFollowed,
        Self::LeaseLifeIgnored,
        Self::WatchdogFedByRenewals,
        Self::WatchdogFedByCopies,
        Self::ControlAgeIgnored,
        Self::CrcIgnored,
        Self::DataIdIgnored,
        Self::NonceNotCompared,
        Self::ArmedWithoutNeutral,
        Self::SafeStateNotLatched,
        Self::StopReleasedByLease,
        Self::DriveWithoutLease,
        Self::WatchdogNotAwaited,
        Self::StopLeavesArmed,
        Self::LoneCommandDropped,
        Self::LoneCommandHeld,
        Self::SupersededSent,
        Self::CanceledActed,
        Self::QueueNotFiltered,
        Self::QueueReleasedAtOnce,
        Self::TwoInFlight,
        Self::DesiredNotRecorded,
        Self::DesiredTooOldActed,
        Self::PatchNotAwaited,
        Self::FailureTakenForSuccess,
        Self::GatewayBootsCompared,
        Self::EndNotAwaited,
    ];
}

/// Whether this bug is on. Never, without the feature.
#[cfg(not(feature = "sabotage"))]
pub const fn on(_bug: Sabotage) -> bool {
    false
}

#[cfg(feature = "sabotage")]
mod switch {
    use std::cell::Cell;

    use super::Sabotage;

    thread_local! {
        static ON: Cell<Option<Sabotage>> = const { Cell::new(None) };
    }

    /// Whether this bug is on.
    pub fn on(bug: Sabotage) -> bool {
        ON.get() == Some(bug)
    }

    /// Puts one bug on for this thread, or none.
    pub fn set(bug: Option<Sabotage>) {
        ON.set(bug);
    }
}

#[cfg(feature = "sabotage")]
pub use switch::{on, set};
