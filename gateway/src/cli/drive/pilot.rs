//! The drive itself: fifty times a second control, twice a second the lease and the clock.

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

/// From one renewal of the lease, and one look at the gateway's clock, to the next.
const RENEWAL: Duration = Duration::from_millis(500);

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
    renew_at: Moment,
    _lines: JoinSet<()>,
}

/// What a pilot waited for.
#[derive(Debug)]
pub enum Turn {
    /// It is time for control.
    Frame,
    /// Something else is known.
    News,
    /// The gateway ended the socket.
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
            renew_at: now,
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
    /// it is time.
    pub async fn steer(&mut self, controls: Controls) -> Result<()> {
        let now = self.clock.now();
        // A beat that was missed is missed.
        self.frame_at = (self.frame_at + PERIOD).max(now);
        if now >= self.renew_at {
            self.renew_at = now + RENEWAL;
            self.socket.heartbeat().await?;
            if let Some(token) = self.dash.lease {
                self.ask(Call::Renew(token));
            }
        }
        let Some(token) = self.dash.lease else { return Ok(()) };
        self.counter = self.counter.wrapping_add(1);
        self.dash.sent += 1;
        let state = ControlState::seal(ROAD_VEHICLE, token, self.counter, controls);
        self.socket.control(token, state).await
    }

    /// Asks the gateway for something; says so where too much waits already.
    pub fn ask(&mut self, call: Call) {
        let line = if matches!(call, Call::EmergencyStop) { &self.stops } else { &self.calls };
        if line.try_send(call).is_err() {
            self.dash.note = "the gateway does not answer".into();
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

    /// Gives the lease back and waits for the answer, but not for long.
    pub async fn leave(mut self) {
        let Some(token) = self.dash.lease else { return };
        self.ask(Call::Release(token));
        let released = async {
            while let Some(answer) = self.answers.recv().await {
                if matches!(answer.call, Call::Release(_)) {
                    return;
                }
            }
        };
        // The lease ends by itself in any case.
        let _released = tokio::time::timeout(RENEWAL * 4, released).await;
    }

    fn answered(&mut self, Answer { call, outcome }: Answer) {
        let note = match (&call, outcome) {
            (Call::Take { .. }, Ok(lease)) => {
                self.dash.lease = lease["token"].as_u64().and_then(Token::granted);
                self.counter = 0;
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
