//! The drive itself: fifty times a second control, twice a second the clock, and the lease in time.

use std::time::Duration;

use anyhow::Result;
use carriageway_proto::control::ROAD_VEHICLE;
use carriageway_proto::{ControlState, Controls, Moment, Token};
use carriageway_transport::clock::BootClock;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::calls::{self, Answer, Call};
use super::dash::Dash;
use super::place::Place;
use super::socket::{Socket, Word};

/// From one control frame to the next: 50 Hz.
pub const PERIOD: Duration = Duration::from_millis(20);

/// From one look at the gateway's clock to the next.
const BEAT: Duration = Duration::from_millis(500);

/// Renewals of a lease in its life: three may be lost in a row.
const RENEWALS: u32 = 4;

/// Longest wait for the last answers before a drive ends: no call takes longer.
const FAREWELL: Duration = Duration::from_secs(2);

/// Calls that may wait.
const WAITING: usize = 8;

/// One driver at one vehicle.
pub struct Pilot {
    /// What is known.
    pub dash: Dash,
    clock: BootClock,
    socket: Socket,
    calls: mpsc::Sender<Call>,
    /// A line of its own: nothing that is slow holds up an emergency stop.
    stops: mpsc::Sender<Call>,
    answers: mpsc::Receiver<Answer>,
    counter: u32,
    frame_at: Moment,
    beat_at: Moment,
    renew_at: Moment,
    renew_every: Duration,
    /// Emergency stops without an answer yet.
    stopping: usize,
    _lines: JoinSet<()>,
}

/// What a pilot waited for.
#[derive(Debug)]
pub enum Turn {
    /// It is time for control.
    Frame,
    /// Something else is known.
    News,
    /// The gateway ended the socket, or was lost.
    Over(String),
}

impl Pilot {
    /// Sits down.
    pub async fn sit(place: &Place, clock: BootClock) -> Result<Self> {
        let socket = Socket::open(place, clock.clone()).await?;
        let (calls, first) = mpsc::channel(WAITING);
        let (stops, second) = mpsc::channel(WAITING);
        let (answering, answers) = mpsc::channel(WAITING);
        let mut lines = JoinSet::new();
        lines.spawn(calls::serve(place.clone(), first, answering.clone()));
        lines.spawn(calls::serve(place.clone(), second, answering));
        let now = clock.now();
        Ok(Self {
            dash: Dash::default(),
            clock,
            socket,
            calls,
            stops,
            answers,
            counter: 0,
            frame_at: now,
            beat_at: now,
            renew_at: now,
            renew_every: BEAT,
            stopping: 0,
            _lines: lines,
        })
    }

    /// Waits for the next thing to happen. Cancel safe.
    pub async fn turn(&mut self) -> Result<Turn> {
        tokio::select! {
            word = self.socket.next() => match word? {
                Word::Report(report) => {
                    self.dash.report = report;
                    if self.dash.has_lost_lease() {
                        self.dash.lease = None;
                        self.dash.note = "the lease was taken over".into();
                    }
                    Ok(Turn::News)
                }
                Word::RoundTrip(round_trip) => {
                    self.dash.heard(round_trip);
                    Ok(Turn::News)
                }
                Word::Over(why) => Ok(Turn::Over(why)),
            },
            Some(answer) = self.answers.recv() => {
                self.answered(answer);
                Ok(Turn::News)
            }
            () = self.clock.sleep_until(self.frame_at) => Ok(Turn::Frame),
        }
    }

    /// Sends control, where there is a lease to send it under; renews that and asks for the clock when
    /// it is time. Waits for nothing: whatever becomes of the socket, keys and stops go on.
    pub fn steer(&mut self, controls: Controls) -> Result<()> {
        let now = self.clock.now();
        // A beat that was missed is missed.
        self.frame_at = (self.frame_at + PERIOD).max(now);
        if now >= self.beat_at {
            self.beat_at = now + BEAT;
            self.socket.heartbeat()?;
        }
        let Some(token) = self.dash.lease else { return Ok(()) };
        if now >= self.renew_at {
            self.renew_at = now + self.renew_every;
            self.ask(Call::Renew(token));
        }
        self.counter = self.counter.wrapping_add(1);
        let state = ControlState::seal(ROAD_VEHICLE, token, self.counter, controls);
        let is_sent = self.socket.control(token, state)?;
        let count = if is_sent { &mut self.dash.sent } else { &mut self.dash.held_back };
        *count += 1;
        Ok(())
    }

    /// Asks the gateway for something; says so where too much waits already.
    pub fn ask(&mut self, call: Call) {
        let is_stop = matches!(call, Call::EmergencyStop);
        let line = if is_stop { &self.stops } else { &self.calls };
        match line.try_send(call) {
            Ok(()) => self.stopping += usize::from(is_stop),
            Err(_) => self.dash.note = "the gateway does not answer".into(),
        }
    }

    /// Asks for the end of the safe state that the vehicle is in.
    pub fn rearm(&mut self) {
        match (self.dash.lease, self.dash.nonce().map(str::to_owned)) {
            (Some(token), Some(nonce)) => self.ask(Call::Rearm { token, nonce }),
            (None, _) => self.dash.note = "take the lease first (t)".into(),
            (Some(_), None) => self.dash.note = "the vehicle is not in its safe state".into(),
        }
    }

    /// Gives the lease back and waits for that answer and those to emergency stops, but not for long.
    pub async fn leave(mut self) {
        let mut releasing = self.dash.lease;
        if let Some(token) = releasing {
            self.ask(Call::Release(token));
        }
        let settled = async {
            while releasing.is_some() || self.stopping > 0 {
                let Some(answer) = self.answers.recv().await else { return };
                if matches!(answer.call, Call::Release(_)) {
                    releasing = None;
                }
                self.answered(answer);
            }
        };
        // The lease ends by itself in any case.
        let _settled = tokio::time::timeout(FAREWELL, settled).await;
    }

    fn answered(&mut self, Answer { call, outcome }: Answer) {
        self.stopping -= usize::from(matches!(call, Call::EmergencyStop));
        let note = match (&call, outcome) {
            (Call::Take { .. }, Ok(lease)) => {
                self.dash.lease = lease["token"].as_u64().and_then(Token::granted);
                self.counter = 0;
                // Of another length at every gateway.
                let life = lease["ends_in_ms"].as_u64().map_or(BEAT * RENEWALS, Duration::from_millis);
                self.renew_every = life / RENEWALS;
                self.renew_at = self.clock.now() + self.renew_every;
                "the lease is yours".into()
            }
            (Call::Renew(_), Ok(_)) => return,
            (Call::Renew(token), Err(why)) => {
                // Its last word: only the gateway's report says whether another has it.
                if self.dash.lease == Some(*token) && self.dash.report["lease"]["token"] != token.number() {
                    self.dash.lease = None;
                }
                why
            }
            (Call::Release(_), Ok(_)) => "released".into(),
            (Call::Rearm { .. }, Ok(_)) => "re-arming asked for".into(),
            (Call::EmergencyStop, Ok(command)) => {
                format!("emergency stop {}", command["phase"].as_str().unwrap_or("sent"))
            }
            (Call::Take { .. } | Call::Release(_) | Call::Rearm { .. } | Call::EmergencyStop, Err(why)) => {
                why
            }
        };
        self.dash.note = note;
    }
}
