//! Files on the bulk lane: in pieces, at the pace of the link, behind everything else.

use bytes::{Bytes, BytesMut};
use carriageway_proto::{Chunk, Message};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{mpsc, watch};

/// Bytes of the file in one piece: with all that goes around it, about a packet, which takes 5 ms at
/// 2 Mbit/s. Larger ones cost a little less of the link and delay whatever comes between them by their length.
pub const PIECE: usize = 1_200;

/// Longest name of a file, in bytes.
pub const LONGEST_NAME: usize = 128;

/// Pieces read ahead of the link.
const READ_AHEAD: usize = 4;

/// Uploads that may wait for their turn.
pub(crate) const QUEUE: usize = 4;

/// How far an upload has come, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Given to the link.
    pub sent: u64,
    /// Known to have arrived.
    pub arrived: u64,
}

/// Why an upload did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The name is empty or too long.
    #[error("the name of an upload must be 1 to {LONGEST_NAME} bytes long")]
    BadName,
    /// The reader failed.
    #[error("cannot read what is to be uploaded: {0}")]
    Unreadable(#[from] std::io::Error),
    /// A new session began, to which the pieces of the old one mean nothing: start it over.
    #[error("the session was replaced after {arrived} bytes had arrived; upload it again")]
    Interrupted {
        /// Bytes that had arrived.
        arrived: u64,
    },
    /// The agent has ended.
    #[error("the agent has ended")]
    Ended,
}

/// One upload as the agent's task sees it.
pub(crate) struct Upload {
    pub(crate) name: String,
    pub(crate) pieces: mpsc::Receiver<Piece>,
    pub(crate) progress: watch::Sender<State>,
}

/// Bytes of a file, and whether they are its last.
pub(crate) struct Piece {
    pub(crate) offset: u64,
    pub(crate) data: Bytes,
    pub(crate) last: bool,
}

impl Piece {
    pub(crate) fn message(&self, name: &str) -> Message {
        let Self { offset, data, last } = self;
        Message::Chunk(Chunk { name: name.into(), offset: *offset, data: data.clone(), last: *last })
    }
}

/// What the agent's task tells about an upload.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct State {
    pub(crate) progress: Progress,
    pub(crate) end: Option<End>,
}

/// How an upload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Arrived,
    Interrupted,
}

/// See [`crate::agent::Handle::upload`].
pub(crate) async fn run(
    uploads: &mpsc::Sender<Upload>,
    name: &str,
    mut reader: impl AsyncRead + Unpin,
    mut told: impl FnMut(Progress),
) -> Result<u64, UploadError> {
    if name.is_empty() || name.len() > LONGEST_NAME {
        return Err(UploadError::BadName);
    }
    let (to_link, pieces) = mpsc::channel(READ_AHEAD);
    let (progress, mut state) = watch::channel(State::default());
    let upload = Upload { name: name.into(), pieces, progress };
    uploads.send(upload).await.map_err(|_| UploadError::Ended)?;
    let feed = async {
        feed(&mut reader, &to_link).await?;
        std::future::pending::<Result<u64, UploadError>>().await
    };
    tokio::select! {
        biased;
        ended = watch_to_its_end(&mut state, &mut told) => ended,
        failed = feed => failed,
    }
}

async fn watch_to_its_end(
    state: &mut watch::Receiver<State>,
    told: &mut impl FnMut(Progress),
) -> Result<u64, UploadError> {
    loop {
        let State { progress, end } = *state.borrow_and_update();
        told(progress);
        match end {
            Some(End::Arrived) => return Ok(progress.arrived),
            Some(End::Interrupted) => return Err(UploadError::Interrupted { arrived: progress.arrived }),
            None => state.changed().await.map_err(|_| UploadError::Ended)?,
        }
    }
}

/// Reads pieces until the end. The agent's task taking no more is told by the upload's state.
async fn feed(
    reader: &mut (impl AsyncRead + Unpin),
    to_link: &mpsc::Sender<Piece>,
) -> Result<(), UploadError> {
    let mut offset = 0;
    let mut data = full(reader).await?;
    loop {
        // One ahead, for only the piece after the last one tells that it was the last.
        let next = if data.len() < PIECE { Bytes::new() } else { full(reader).await? };
        let last = next.is_empty();
        let length = data.len() as u64;
        if to_link.send(Piece { offset, data, last }).await.is_err() || last {
            return Ok(());
        }
        offset += length;
        data = next;
    }
}

/// A whole piece, or what is left.
async fn full(reader: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Bytes> {
    let mut data = BytesMut::with_capacity(PIECE);
    while data.len() < PIECE {
        let mut rest = (&mut *reader).take((PIECE - data.len()) as u64);
        if rest.read_buf(&mut data).await? == 0 {
            break;
        }
    }
    Ok(data.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn pieces(bytes: &[u8]) -> Vec<(u64, usize, bool)> {
        let (to_link, mut pieces) = mpsc::channel(64);
        feed(&mut &*bytes, &to_link).await.unwrap();
        drop(to_link);
        let mut all = Vec::new();
        while let Some(piece) = pieces.recv().await {
            all.push((piece.offset, piece.data.len(), piece.last));
        }
        all
    }

    #[tokio::test]
    async fn a_file_is_cut_into_pieces_of_which_the_last_is_marked() {
        assert_eq!(pieces(&[]).await, [(0, 0, true)], "an empty file is one empty piece");
        assert_eq!(pieces(&[7; 10]).await, [(0, 10, true)]);
        assert_eq!(pieces(&[7; PIECE]).await, [(0, PIECE, true)]);
        assert_eq!(pieces(&[7; PIECE + 1]).await, [(0, PIECE, false), (PIECE as u64, 1, true)]);
    }

    #[test]
    fn the_largest_piece_fits_its_lane() {
        let piece = Piece { offset: u64::MAX, data: vec![7; PIECE].into(), last: true };
        let length = piece.message(&"n".repeat(LONGEST_NAME)).encode().len();
        assert!(length <= carriageway_transport::link::MAX_BULK_PAYLOAD, "{length} bytes");
    }
}
