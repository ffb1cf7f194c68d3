//! The upload that has its turn.

use std::collections::BTreeMap;

use carriageway_transport::link::Ticket;

use crate::upload::{self, Piece, Progress, Upload};

/// The upload that has its turn.
#[derive(Default)]
pub(super) struct Bulk {
    pub(super) upload: Option<Upload>,
    /// Its last piece is under way.
    pub(super) is_whole: bool,
    /// A piece that the lane had no room for.
    pub(super) stuck: Option<Piece>,
    /// Pieces under way: bytes, and whether it was the last.
    under_way: BTreeMap<Ticket, (u64, bool)>,
}

impl Bulk {
    pub(super) fn of(upload: Option<Upload>) -> Self {
        Self { upload, ..Self::default() }
    }

    pub(super) async fn next(&mut self) -> Option<Piece> {
        match &mut self.upload {
            Some(upload) => upload.pieces.recv().await,
            None => std::future::pending().await,
        }
    }

    pub(super) fn sent(&mut self, ticket: Ticket, piece: &Piece) {
        let bytes = piece.data.len() as u64;
        self.is_whole = piece.last;
        self.under_way.insert(ticket, (bytes, piece.last));
        self.report(|progress| progress.sent += bytes, None);
    }

    /// Takes note of a piece's fate. False where `ticket` is none of ours.
    pub(super) fn settled(&mut self, ticket: Ticket, arrived: bool) -> bool {
        let Some((bytes, last)) = self.under_way.remove(&ticket) else { return false };
        if !arrived {
            self.report(|_| (), Some(upload::End::Interrupted));
            *self = Self::default();
            return true;
        }
        self.report(|progress| progress.arrived += bytes, last.then_some(upload::End::Arrived));
        if last {
            *self = Self::default();
        }
        true
    }

    fn report(&self, change: impl FnOnce(&mut Progress), end: Option<upload::End>) {
        if let Some(upload) = &self.upload {
            upload.progress.send_modify(|state| {
                change(&mut state.progress);
                state.end = end;
            });
        }
    }
}
