//! FENCE: drive commands act under the newest lease, and only while it lives.

use carriageway_proto::sabotage::{self, Sabotage};
use carriageway_proto::{Class, Command, Moment, Reason, Token};

use super::Verdict;

/// The lease, as far as this vehicle knows. Nobody has said anything yet: nobody may drive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fence {
    /// The highest token that the vehicle has seen, and keeps durably.
    pub(super) newest: Option<Token>,
    /// Until when the lease of that token lives, by this vehicle's clock.
    pub(super) lives_until: Option<Moment>,
}

impl Fence {
    /// Why `command` may not act at `now`, where its class needs a lease.
    pub(super) fn refuses(&self, now: Moment, command: &Command) -> Option<Verdict> {
        let refuse = |why: String| Some(Verdict::rejected(Reason::NoLease, why));
        if command.class != Class::Drive || sabotage::on(Sabotage::DriveWithoutLease) {
            return None;
        }
        let Some(token) = command.token else {
            return refuse("a drive command needs a lease; take the control lease first".into());
        };
        match self.newest {
            None => return refuse("the vehicle knows of no lease".into()),
            Some(newest) if token != newest => {
                return refuse(format!("its lease is {token}, the newest is {newest}"));
            }
            Some(_) => {}
        }
        if self.lives_until.is_none_or(|until| now >= until) {
            return refuse(format!("lease {token} has ended; renew it or take it again"));
        }
        None
    }
}
