//! `carriageway-gateway drive`: steer a vehicle from a terminal.

pub mod calls;
pub mod dash;
pub mod hands;
pub mod pilot;
pub mod place;
pub mod screen;
pub mod script;
pub mod socket;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use carriageway_proto::{Controls, Moment, VehicleId};
use carriageway_transport::clock::BootClock;
use carriageway_transport::daemon::Signals;
use clap::Args;

use calls::Call;
use hands::Hands;
use pilot::{Pilot, Turn};
use place::Place;
use screen::{Key, Screen};
use script::Script;

/// From one drawing of the screen to the next.
const DRAW: Duration = Duration::from_millis(100);

/// A script waits this long for the lease and the vehicle before it gives up.
const READY: Duration = Duration::from_secs(15);

/// From one wish of a script to the next of the same.
const AGAIN: Duration = Duration::from_secs(1);

/// Drive a vehicle from this terminal.
#[derive(Debug, Args)]
pub struct Drive {
    /// The vehicle
    vehicle: VehicleId,
    /// Where the gateway serves HTTPS
    #[arg(long, default_value = "https://localhost:4433")]
    url: String,
    /// A file with an operator's token, of the scopes drive and command:safety
    #[arg(long, default_value = "operator.token")]
    token_file: PathBuf,
    /// The authority of the gateway's certificate, PEM
    #[arg(long, default_value = "certs/ca.pem")]
    ca: PathBuf,
    /// Take the lease from whoever holds it; that goes on record
    #[arg(long)]
    force: bool,
    /// Drive by this instead of keys, such as 'throttle 0.3 for 2s; steer 0.2 for 1s; stop'
    #[arg(long, value_name = "SCRIPT", value_parser = Script::parse)]
    script: Option<Script>,
}

impl Drive {
    /// Drives until the driver leaves, the script ends, or the gateway hangs up.
    pub async fn run(self, out: &mut (dyn Write + Send)) -> Result<ExitCode> {
        let token = std::fs::read_to_string(&self.token_file)
            .with_context(|| format!("cannot read the token in {}", self.token_file.display()))?;
        let place = Place::new(&self.url, self.vehicle, &token, &self.ca)?;
        let clock = BootClock::system()?;
        let mut pilot = Pilot::sit(&place, clock.clone()).await?;
        pilot.ask(Call::Take { force: self.force });
        match self.script {
            Some(script) => by_script(pilot, &clock, &script, out).await,
            None => by_hand(pilot, &clock, &place).await,
        }
    }
}

async fn by_hand(mut pilot: Pilot, clock: &BootClock, place: &Place) -> Result<ExitCode> {
    let mut signals = Signals::listen()?;
    let screen = Screen::take()?;
    let mut keys = screen::keys()?;
    let title = format!("driving {} at {}", place.vehicle, place.authority);
    let mut hands = Hands::new(clock.now());
    let mut draw_at = Moment::ZERO;
    let over = loop {
        tokio::select! {
            key = keys.recv() => match key {
                Some(Key::Quit) | None => break None,
                Some(key) => pressed(key, &mut pilot, &mut hands, clock.now()),
            },
            _ = signals.next() => break None,
            turn = pilot.turn() => match turn? {
                Turn::Frame => {
                    let now = clock.now();
                    // A vehicle that arms waits for hands off.
                    if !pilot.dash.is_armed() {
                        hands.let_go(now);
                    }
                    let controls = hands.controls(now);
                    pilot.steer(controls)?;
                    if now >= draw_at {
                        draw_at = now + DRAW;
                        screen.show(&title, &pilot.dash.lines(controls))?;
                    }
                }
                Turn::News => {}
                Turn::Over(why) => break Some(why),
            },
        }
    };
    pilot.leave().await;
    drop(screen);
    match over {
        None => Ok(ExitCode::SUCCESS),
        Some(why) => bail!("the gateway ended the drive: {why}"),
    }
}

fn pressed(key: Key, pilot: &mut Pilot, hands: &mut Hands, now: Moment) {
    match key {
        Key::Push(push) => hands.push(now, push),
        Key::Rearm => pilot.rearm(),
        Key::Take { force } => pilot.ask(Call::Take { force }),
        Key::EmergencyStop => {
            hands.let_go(now);
            pilot.ask(Call::EmergencyStop);
        }
        Key::Quit => {}
    }
}

/// Where a scripted drive stands.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// It waits for the lease and for the vehicle to arm; when it last asked for either.
    Waiting { asked: Moment },
    /// It drives since then.
    Driving { since: Moment },
}

async fn by_script(
    mut pilot: Pilot,
    clock: &BootClock,
    script: &Script,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode> {
    let begun = clock.now();
    let mut stage = Stage::Waiting { asked: begun };
    let mut told = String::new();
    let ended = loop {
        match pilot.turn().await? {
            Turn::News => {
                let line =
                    format!("{}; {}", pilot.dash.lines(Controls::NEUTRAL)[1].trim_end(), pilot.dash.note);
                if line != told {
                    writeln!(out, "{line}")?;
                    told = line;
                }
            }
            Turn::Over(why) => break Err(format!("the gateway ended the drive: {why}")),
            Turn::Frame => match frame(&mut pilot, clock.now(), begun, script, &mut stage) {
                Ok(Some(controls)) => pilot.steer(controls)?,
                Ok(None) => break Ok(()),
                Err(why) => break Err(why),
            },
        }
    };
    let dash = pilot.dash.clone();
    pilot.leave().await;
    writeln!(out, "{}", dash.lines(Controls::NEUTRAL)[3])?;
    match ended {
        Ok(()) => {
            writeln!(out, "the script is done")?;
            Ok(ExitCode::SUCCESS)
        }
        Err(why) => bail!("{why}"),
    }
}

/// What a scripted drive sends now; `None` once it is over.
fn frame(
    pilot: &mut Pilot,
    now: Moment,
    begun: Moment,
    script: &Script,
    stage: &mut Stage,
) -> Result<Option<Controls>, String> {
    match *stage {
        Stage::Driving { since } if pilot.dash.is_armed() => Ok(script.at(now.since(since))),
        Stage::Driving { .. } => {
            let cause = pilot.dash.cause().unwrap_or("no cause known");
            Err(format!("the vehicle stands, {cause}: {}", pilot.dash.note))
        }
        Stage::Waiting { .. } if pilot.dash.is_armed() && pilot.dash.lease.is_some() => {
            *stage = Stage::Driving { since: now };
            Ok(script.at(Duration::ZERO))
        }
        Stage::Waiting { .. } if now.since(begun) > READY => {
            Err(format!("the vehicle cannot be driven: {}", pilot.dash.note))
        }
        Stage::Waiting { asked } => {
            if now.since(asked) > AGAIN {
                *stage = Stage::Waiting { asked: now };
                match pilot.dash.lease {
                    Some(_) if pilot.dash.nonce().is_some() => pilot.rearm(),
                    Some(_) => {}
                    None => pilot.ask(Call::Take { force: false }),
                }
            }
            Ok(Some(Controls::NEUTRAL))
        }
    }
}
