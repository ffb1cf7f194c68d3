//! What an agent looks like from outside.

use carriageway_proto::DriveState;
use tokio::io::AsyncRead;
use tokio::sync::{mpsc, watch};

use crate::core::drive;
use crate::core::executor::Counts;
use crate::upload::{self, Progress, Upload, UploadError};

/// What an agent looks like from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// What became of commands.
    pub commands: Counts,
    /// Commands remembered.
    pub remembered: usize,
    /// Answers that are to be told, wait or are under way.
    pub answers: usize,
    /// Reports of the desired state that were dropped since no frame holds them.
    pub dropped_reports: u64,
    /// A write to the journal has failed: only the emergency stop acts.
    pub is_broken: bool,
    /// What came in and was no command.
    pub strays: Strays,
    /// Whether the vehicle can be driven; `None` before the first look.
    pub driving: Option<DriveState>,
    /// What became of control and of those who wanted to drive.
    pub drive: drive::Counts,
}

/// Counts what came in and was no command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strays {
    /// Messages and signals that this version has no use for.
    pub ignored: u64,
    /// Messages that cannot be read.
    pub unreadable: u64,
    /// Messages that expired on their way here.
    pub expired: u64,
}

impl Strays {
    /// The number comes from the other side, which may say anything.
    pub(super) fn expire(&mut self, frames: u64) {
        self.expired = self.expired.saturating_add(frames);
    }
}

/// Watches an agent and gives it files to upload. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pub(super) uploads: mpsc::Sender<Upload>,
    pub(super) status: watch::Receiver<Status>,
}

impl Handle {
    /// What the agent looks like, at most one signal interval ago.
    pub fn status(&self) -> Status {
        *self.status.borrow()
    }

    /// Uploads everything that `reader` gives under `name`, after the uploads begun before it, on the bulk
    /// lane and so behind everything else. Returns the number of bytes once all have arrived at the
    /// gateway. `told` hears of each step on the way. Dropping the future gives the upload up.
    pub async fn upload(
        &self,
        name: &str,
        reader: impl AsyncRead + Unpin,
        told: impl FnMut(Progress),
    ) -> Result<u64, UploadError> {
        upload::run(&self.uploads, name, reader, told).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_from_the_other_side_overflows_a_count() {
        let mut strays = Strays::default();
        strays.expire(7);
        strays.expire(u64::MAX);
        assert_eq!(strays.expired, u64::MAX);
    }
}
