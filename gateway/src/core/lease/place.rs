//! What is known of driving one vehicle.

use carriageway_proto::{DriveState, Epoch, Token};

use super::{Lease, Told};

/// One vehicle's place: its highest token, its lease, its own words.
#[derive(Debug)]
pub(super) struct Place {
    /// No token at or below it is granted any more.
    highest: Option<Token>,
    /// A token of it is on disk, or may be.
    durable: bool,
    /// Its present session.
    session: Option<Epoch>,
    told: Option<Told>,
    /// A token that is being kept, and for whom.
    promised: Option<(Token, String)>,
    held: Option<Held>,
    version: u64,
}

#[derive(Debug)]
struct Held {
    lease: Lease,
    /// The session in which the vehicle was last told of it.
    told_in: Option<Epoch>,
    /// The vehicle has said that this is its newest grant, after it was told of it here.
    confirmed: bool,
}

/// How the vehicle's words fit the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// As it should be, or there is none.
    Fine,
    /// The vehicle is to be told of it.
    Tell,
    /// The vehicle has seen a grant that is not of this gateway.
    Fenced,
}

/// What came of the vehicle's words.
#[derive(Debug)]
pub(super) struct Heard {
    /// They differ from the last ones.
    pub(super) news: bool,
    /// The token that was promised, where it is too low now.
    pub(super) outrun: Option<Token>,
    /// How they fit the lease.
    pub(super) fit: Fit,
}

impl Place {
    pub(super) fn new() -> Self {
        Self {
            highest: None,
            durable: false,
            session: None,
            told: None,
            promised: None,
            held: None,
            version: 0,
        }
    }

    /// Of a vehicle with a token on disk.
    pub(super) fn after(token: Token) -> Self {
        Self { highest: Some(token), durable: true, ..Self::new() }
    }

    pub(super) fn is_durable(&self) -> bool {
        self.durable
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn told(&self) -> Option<Told> {
        self.told
    }

    /// What it has said in its present session.
    pub(super) fn heard(&self) -> Option<DriveState> {
        self.told.filter(|told| self.session == Some(told.epoch)).map(|told| told.state)
    }

    pub(super) fn is_heard(&self) -> bool {
        self.heard().is_some()
    }

    /// No other gateway's grant can pass for the lease: the vehicle has confirmed it, or has said in its
    /// present session that it had seen none of this number.
    pub(super) fn is_sure(&self) -> bool {
        self.is_heard() || self.held.as_ref().is_some_and(|held| held.confirmed)
    }

    pub(super) fn lease(&self) -> Option<&Lease> {
        self.held.as_ref().map(|held| &held.lease)
    }

    pub(super) fn lease_mut(&mut self) -> Option<&mut Lease> {
        self.held.as_mut().map(|held| &mut held.lease)
    }

    /// Who holds the lease or is about to.
    pub(super) fn holder(&self) -> Option<&str> {
        let promised = self.promised.as_ref().map(|(_, operator)| operator.as_str());
        promised.or(self.lease().map(|lease| lease.operator.as_str()))
    }

    /// The next token; `None` where the vehicle claims one that has no next.
    pub(super) fn next_token(&self) -> Option<Token> {
        self.highest.map_or(Some(Token::FIRST), |highest| Token::granted(highest.next().number()))
    }

    /// Promises a token; the token promised before, which is worth nothing now.
    pub(super) fn promise(&mut self, token: Token, operator: &str) -> Option<Token> {
        self.highest = Some(token);
        self.durable = true;
        self.promised.replace((token, operator.into())).map(|(before, _)| before)
    }

    /// For whom `token` was promised, if that still holds.
    pub(super) fn take_promise(&mut self, token: Token) -> Option<String> {
        self.promised.take_if(|(promised, _)| *promised == token).map(|(_, operator)| operator)
    }

    pub(super) fn grant(&mut self, lease: Lease) {
        self.version += 1;
        self.held = Some(Held { lease, told_in: None, confirmed: false });
    }

    pub(super) fn end(&mut self) -> Option<Lease> {
        let held = self.held.take()?;
        self.version += 1;
        Some(held.lease)
    }

    pub(super) fn came(&mut self, epoch: Epoch) {
        self.version += 1;
        self.session = Some(epoch);
    }

    pub(super) fn left(&mut self, epoch: Epoch) {
        if self.session == Some(epoch) {
            self.version += 1;
            self.session = None;
        }
    }

    pub(super) fn forget(&mut self) {
        self.session = None;
        self.told = None;
    }

    /// The lease to tell the vehicle of: not before it has said what it has seen.
    pub(super) fn tell(&mut self) -> Option<Lease> {
        if !self.is_heard() {
            return None;
        }
        let held = self.held.as_mut()?;
        held.told_in = self.session;
        Some(held.lease.clone())
    }

    /// Takes in the vehicle's words; `None` where they came over another session than the present.
    pub(super) fn hear(&mut self, told: Told) -> Option<Heard> {
        if self.session != Some(told.epoch) {
            return None;
        }
        let is_first = !self.is_heard();
        let news = is_first || self.told.is_none_or(|before| before.state != told.state);
        self.version += u64::from(news);
        self.told = Some(told);
        self.highest = self.highest.max(told.state.token);
        let outrun =
            self.promised.as_ref().map(|(token, _)| *token).filter(|token| told.state.token >= Some(*token));
        Some(Heard { news, outrun, fit: self.fit(told, is_first) })
    }

    fn fit(&mut self, told: Told, is_first: bool) -> Fit {
        let Some(held) = &mut self.held else { return Fit::Fine };
        let ours = Some(held.lease.token);
        // It has forgotten what it confirmed.
        held.confirmed &= told.state.token >= ours;
        if told.state.token > ours {
            return Fit::Fenced;
        }
        if told.state.token == ours {
            held.confirmed |= held.told_in == Some(told.epoch);
            // The same number that it never had from here: another gateway has granted it too.
            if !held.confirmed {
                return Fit::Fenced;
            }
        }
        if is_first { Fit::Tell } else { Fit::Fine }
    }
}
