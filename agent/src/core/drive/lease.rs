//! FENCE: who may drive, by the vehicle's own clock.

use std::time::Duration;

use carriageway_proto::sabotage::{self, Sabotage};
use carriageway_proto::{Lease, Moment, Token};

use crate::core::freshness::{Judge, by_this_clock};

/// A lease lives at most so long from its stamp, whatever a gateway says: operators renew theirs twice a
/// second, and one that is never renewed must end.
const LONGEST_LIFE: Duration = Duration::from_mins(1);

/// The newest lease that this vehicle has seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Leases {
    newest: Option<Newest>,
    /// The token before it.
    before: Option<Token>,
}

#[derive(Clone, Copy, Debug)]
struct Newest {
    token: Token,
    kept: Kept,
    life: Life,
}

impl Newest {
    fn is_obeyed(&self) -> bool {
        self.kept == Kept::Durable || sabotage::on(Sabotage::TokenObeyedBeforeDurable)
    }
}

/// Whether a token is on the disk. Only then is it obeyed: after a crash the vehicle must know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    Pending,
    Durable,
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// It lives before this moment. A renewal moves it.
    Until(Moment),
    /// It was ended. No renewal that is still on its way brings it back.
    Ended,
}

/// What became of a lease message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// A token above all others, [`Leases::pending`] until it is durable. No other is obeyed from here on.
    Newer,
    /// News of the newest lease.
    Renewed,
    /// An older token, or a life that this clock cannot tell.
    Refused,
}

impl Leases {
    /// With the highest token that the journal holds. Whether its lease lives is not known after a start.
    pub fn recover(token: Option<Token>) -> Self {
        let token = token.filter(|_| !sabotage::on(Sabotage::TokenForgottenByVehicle));
        let newest =
            token.map(|token| Newest { token, kept: Kept::Durable, life: Life::Until(Moment::ZERO) });
        Self { newest, before: None }
    }

    /// Takes in a lease message.
    pub fn take(&mut self, now: Moment, judge: &Judge, lease: &Lease) -> Taken {
        let life = life(now, judge, lease);
        match &mut self.newest {
            Some(newest) if lease.token < newest.token => Taken::Refused,
            Some(newest) if lease.token == newest.token => match (newest.life, life) {
                (Life::Ended, _) | (_, None) => Taken::Refused,
                (Life::Until(_), Some(Life::Ended)) => {
                    newest.life = Life::Ended;
                    Taken::Renewed
                }
                (Life::Until(old), Some(Life::Until(new))) => {
                    newest.life = Life::Until(old.max(new));
                    Taken::Renewed
                }
            },
            // Even where its age is not known: the gateway has granted it, so whoever came before is out.
            Some(_) | None => {
                let life = life.unwrap_or(Life::Until(Moment::ZERO));
                self.before = self.announced();
                self.newest = Some(Newest { token: lease.token, kept: Kept::Pending, life });
                Taken::Newer
            }
        }
    }

    /// `token` is durable.
    pub fn kept(&mut self, token: Token) {
        self.settle(token, Kept::Durable);
    }

    /// `token` could not be made durable.
    pub fn keep_failed(&mut self, token: Token) {
        self.settle(token, Kept::Failed);
    }

    fn settle(&mut self, token: Token, kept: Kept) {
        if let Some(newest) = self.newest.as_mut().filter(|newest| newest.token == token) {
            newest.kept = kept;
        }
    }

    /// The clock went backwards: no life can be told any more until it is renewed.
    pub fn doubt(&mut self) {
        if let Some(Newest { life: life @ Life::Until(_), .. }) = &mut self.newest {
            *life = Life::Until(Moment::ZERO);
        }
    }

    /// The highest token that is durable, as told to the gateway: a re-arm under one that is being made so would
    /// come too early, and one that could not be is forgotten with the next restart.
    pub fn announced(&self) -> Option<Token> {
        self.obeyed().or(self.before)
    }

    /// The highest token seen, while it is neither durable nor known not to be.
    pub fn pending(&self) -> Option<Token> {
        self.newest.filter(|newest| newest.kept == Kept::Pending).map(|newest| newest.token)
    }

    /// The highest token seen, if it is durable: what may be obeyed while its lease lives.
    pub fn obeyed(&self) -> Option<Token> {
        self.newest.filter(Newest::is_obeyed).map(|newest| newest.token)
    }

    /// The token whose holder may drive at `now`.
    pub fn live(&self, now: Moment) -> Option<Token> {
        let lives = |end: &Moment| now < *end || sabotage::on(Sabotage::LeaseLifeIgnored);
        self.ends_at().filter(lives).and(self.obeyed())
    }

    /// By which drive commands are fenced: the highest token seen, and until when its holder may drive. While a
    /// token is not durable nobody may.
    pub fn fence(&self) -> (Option<Token>, Option<Moment>) {
        (self.newest.map(|newest| newest.token), self.obeyed().and_then(|_| self.ends_at()))
    }

    /// When the newest lease ends, unless it is renewed; `None` where it was ended.
    pub fn ends_at(&self) -> Option<Moment> {
        match self.newest?.life {
            Life::Until(end) => Some(end),
            Life::Ended => None,
        }
    }
}

/// The life that a message gives; `None` where this clock cannot tell it.
fn life(now: Moment, judge: &Judge, lease: &Lease) -> Option<Life> {
    if lease.ttl.is_zero() {
        return Some(Life::Ended);
    }
    judge.age(lease.stamp, now).ok()?;
    Some(Life::Until(lease.stamp.clock + by_this_clock(lease.ttl.min(LONGEST_LIFE))))
}
