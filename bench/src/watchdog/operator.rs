//! The operator: the gateway's own terminal client, without its terminal.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use carriageway_gateway::cli::drive::calls::Call;
use carriageway_gateway::cli::drive::pilot::{Pilot, Turn};
use carriageway_gateway::cli::drive::place::Place;
use carriageway_netem::relay::Relay;
use carriageway_proto::{Controls, Moment, SafeCause};
use carriageway_transport::clock::BootClock;
use rand_core::Rng as _;
use rand_pcg::Pcg64Mcg;

use super::late::Canary;
use super::vehicle::{Halted, NUMBERS, Running};

/// How far the throttle is pushed: the vehicle moves, and how fast does not matter here.
const THROTTLE: f32 = 0.3;

/// From one wish for the lease or the end of the safe state to the next.
const AGAIN: Duration = Duration::from_millis(500);

/// A vehicle that does not follow control within this will not.
const READY: Duration = Duration::from_secs(30);

/// A vehicle that was not halted within this after its link was cut is not going to be: ten times the limit.
const LOST: Duration = Duration::from_secs(5);

/// Longer than [`LOST`]: a cut ends when it is ended.
const CUT: Duration = Duration::from_mins(1);

/// After the cut the canary is told when the watchdog is due: what was on its way has come in by then.
const CERTAIN: Duration = Duration::from_millis(100);

/// From the first frame that a vehicle follows to the cut, in microseconds: at least, and at most so much more. Its
/// fraction of a send period and of the vehicle's ticks is left to chance.
const DRIVE_MICROS: (u64, u64) = (100_000, 300_000);

/// Stops without a cut in a row after which a vehicle is given up.
const TRIES: u32 = 10;

/// One operator at one vehicle.
pub(super) struct Operator {
    pilot: Pilot,
    clock: BootClock,
    vehicle: Running,
    number: u32,
    asked: Moment,
}

/// What an operator waited for.
enum Next {
    Turn(Turn),
    Halted(Halted),
    Due,
}

/// What became of one cut.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cut {
    /// Milliseconds from the last control that the vehicle followed to its safe state.
    Safe(f64),
    /// The vehicle was stopped by something else, before the cut or after it: that tells nothing of the watchdog.
    Void,
    /// There was none.
    Never,
}

impl Cut {
    /// That of a link cut at `at`, after which the vehicle is told to be `halted`.
    fn of(at: Moment, halted: Halted) -> Self {
        // A stop from before the cut may have waited to be read.
        if halted.cause != SafeCause::ControlLost || halted.at < at {
            return Self::Void;
        }
        Self::Safe(halted.at.since(halted.followed).as_secs_f64() * 1_000.0)
    }
}

/// Where a vehicle is driven from.
#[derive(Clone, Copy)]
pub(super) struct Desk<'a> {
    pub(super) folder: &'a Path,
    pub(super) token: &'a str,
    pub(super) port: u16,
    pub(super) clock: &'a BootClock,
}

impl Operator {
    /// Sits down at the vehicle of this id, which must be connected.
    pub(super) async fn sit(desk: Desk<'_>, id: &str, vehicle: Running) -> Result<Self> {
        let url = format!("https://127.0.0.1:{}", desk.port);
        let place = Place::new(&url, id.parse()?, desk.token, &desk.folder.join("ca.pem"))?;
        let mut pilot = Pilot::sit(&place, desk.clock.clone()).await?;
        pilot.ask(Call::Take { force: false });
        let (clock, asked) = (desk.clock.clone(), desk.clock.now());
        Ok(Self { pilot, clock, vehicle, number: 0, asked })
    }

    /// What the vehicle's side has to tell.
    pub(super) fn vehicle(&self) -> &Running {
        &self.vehicle
    }

    /// What is known to the operator.
    pub(super) fn pilot(&self) -> &Pilot {
        &self.pilot
    }

    async fn next(&mut self, due: Moment) -> Result<Next> {
        let Self { pilot, clock, vehicle, .. } = self;
        tokio::select! {
            biased;
            halted = vehicle.halts.recv() => halted.map(Next::Halted).context("the agent has ended"),
            turn = pilot.turn() => turn.map(Next::Turn),
            () = clock.sleep_until(due) => Ok(Next::Due),
        }
    }

    /// Does what a turn asks for: numbered frames while the vehicle follows, neutral ones else.
    fn take(&mut self, turn: Turn) -> Result<()> {
        match turn {
            Turn::Frame => {
                let controls = self.controls();
                self.pilot.steer(controls)
            }
            Turn::News => Ok(()),
            Turn::Over(why) => bail!("the gateway ended the drive: {why}"),
        }
    }

    fn controls(&mut self) -> Controls {
        let now = self.clock.now();
        if self.pilot.dash.is_armed() && self.pilot.dash.lease.is_some() {
            self.number = self.number % (NUMBERS - 1) + 1;
            let steering = self.vehicle.taken.note(self.number, now);
            return Controls::new(steering, THROTTLE, 0.0).expect("each value is within its range");
        }
        if now.since(self.asked) > AGAIN {
            self.asked = now;
            match self.pilot.dash.lease {
                Some(_) if self.pilot.dash.nonce().is_some() => self.pilot.rearm(),
                Some(_) => {}
                None => self.pilot.ask(Call::Take { force: false }),
            }
        }
        Controls::NEUTRAL
    }

    /// Drives until `due`, whatever it takes: re-arms after every stop. The stops.
    pub(super) async fn drive_until(&mut self, due: Moment) -> Result<Vec<Halted>> {
        let mut stops = Vec::new();
        loop {
            match self.next(due).await? {
                Next::Turn(turn) => self.take(turn)?,
                Next::Halted(halted) => stops.push(halted),
                Next::Due => return Ok(stops),
            }
            // A flood of turns must not keep it from leaving.
            if self.clock.now() >= due {
                return Ok(stops);
            }
        }
    }

    /// Drives until the vehicle follows.
    pub(super) async fn until_followed(&mut self) -> Result<()> {
        let before = self.vehicle.told.followed();
        let late = self.clock.now() + READY;
        while self.vehicle.told.followed() == before {
            if self.clock.now() >= late {
                bail!("the vehicle cannot be driven after {READY:?}: {}", self.pilot.dash.note);
            }
            match self.next(late).await? {
                Next::Turn(turn) => self.take(turn)?,
                Next::Halted(_) | Next::Due => {}
            }
        }
        Ok(())
    }

    /// Drives until a new report of the gateway's is here, so that what it counts and what was sent are of one moment
    /// but for what is between the two. The stops.
    pub(super) async fn drive_until_reported(&mut self) -> Result<Vec<Halted>> {
        let before = self.pilot.dash.report.clone();
        let (late, mut stops) = (self.clock.now() + READY, Vec::new());
        // The report of a vehicle that the gateway has forgotten counts nothing.
        while self.pilot.dash.report == before || self.pilot.dash.report["relayed"].is_null() {
            if self.clock.now() >= late {
                bail!("the gateway has not reported for {READY:?}");
            }
            match self.next(late).await? {
                Next::Turn(turn) => self.take(turn)?,
                Next::Halted(halted) => stops.push(halted),
                Next::Due => {}
            }
        }
        Ok(stops)
    }

    /// Drives a little while, until the vehicle has followed all the time. Other stops are added to `early`.
    async fn drive_a_little(&mut self, chance: &mut Pcg64Mcg, early: &mut Vec<Halted>) -> Result<()> {
        for _ in 0..TRIES {
            self.until_followed().await?;
            let drive = Duration::from_micros(DRIVE_MICROS.0 + chance.next_u64() % DRIVE_MICROS.1);
            let stops = self.drive_until(self.clock.now() + drive).await?;
            if stops.is_empty() {
                return Ok(());
            }
            early.extend(stops);
        }
        bail!("the vehicle was stopped {TRIES} times in a row although its link was not cut")
    }

    /// Drives a little, cuts the link and waits for the safe state. Stops that are not the cut's are added to `early`.
    pub(super) async fn cut(
        &mut self,
        relay: &Relay,
        limit: Duration,
        (chance, canary): (&mut Pcg64Mcg, &Canary),
        early: &mut Vec<Halted>,
    ) -> Result<Cut> {
        self.drive_a_little(chance, early).await?;
        relay.outage(CUT)?;
        let cut = self.clock.now();
        let mut look = cut + CERTAIN;
        let became = loop {
            match self.next(look).await? {
                Next::Turn(turn) => self.take(turn)?,
                Next::Halted(halted) => {
                    let became = Cut::of(cut, halted);
                    early.extend((became == Cut::Void).then_some(halted));
                    break became;
                }
                Next::Due if look < cut + LOST => {
                    canary.sleep_until(self.vehicle.told.followed() + limit);
                    look = cut + LOST;
                }
                Next::Due => break Cut::Never,
            }
        };
        relay.outage(Duration::ZERO)?;
        Ok(became)
    }

    /// Gives the lease back.
    pub(super) async fn leave(self) {
        self.pilot.leave().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_silence_that_follows_the_cut_tells_of_the_watchdog() {
        let moment = |millis: u64| Moment::from_micros(millis * 1_000);
        let halted = |cause, at| Halted { cause, at: moment(at), followed: moment(1_000) };
        let of = |cause, at| Cut::of(moment(1_010), halted(cause, at));
        assert_eq!(of(SafeCause::ControlLost, 1_502), Cut::Safe(502.0));
        assert_eq!(of(SafeCause::ControlLost, 1_009), Cut::Void, "from before the cut");
        assert_eq!(of(SafeCause::LeaseEnded, 1_200), Cut::Void);
    }
}
