//! What goes next where several share one way.

use bytes::Bytes;

use super::super::End;
use crate::compare::workload::{Feed, Kind, Manner, Message};

/// Bytes of a file's piece where pieces go as applications cut them.
const PIECE: usize = 16 * 1024;

/// The same where somebody has thought of what waits behind a piece.
const SMALL_PIECE: usize = 4 * 1024;

/// What goes on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::compare::subjects) enum Way {
    /// All.
    Everything,
    /// What is urgent: all but files and the camera.
    Messages,
    /// Files, and the camera.
    Files,
}

impl Way {
    /// Whether messages of this kind go here.
    pub(in crate::compare::subjects) const fn has(self, kind: Kind) -> bool {
        let is_heavy = kind.is_file() || matches!(kind, Kind::Camera);
        match self {
            Self::Everything => true,
            Self::Messages => !is_heavy,
            Self::Files => is_heavy,
        }
    }
}

/// Takes from a feed what goes next on one way.
///
/// Where messages go as they come, they share with files by bytes, as with a fair lock around the socket: after each piece
/// of a file as many bytes of messages may go as the piece had. Else pieces go when nothing else waits.
#[derive(Debug)]
pub(in crate::compare::subjects) struct Taking {
    feed: Feed,
    way: Way,
    manner: Manner,
    /// Bytes of messages that may go before a piece does.
    credit: usize,
}

impl Taking {
    pub(in crate::compare::subjects) fn new(end: &End, way: Way, manner: Manner) -> Self {
        Self::from(end.feed.clone(), way, manner)
    }

    pub(in crate::compare::subjects) const fn from(feed: Feed, way: Way, manner: Manner) -> Self {
        Self { feed, way, manner, credit: PIECE }
    }

    /// The next, as bytes. Cancel safe.
    pub(in crate::compare::subjects) async fn next(&mut self) -> Bytes {
        let message = self.take().await;
        if message.kind.is_file() { message.encode_in(piece_bytes(self.manner)) } else { message.encode() }
    }

    /// The next. Cancel safe.
    pub(in crate::compare::subjects) async fn take(&mut self) -> Message {
        let message = self.message().await;
        self.credit =
            if message.kind.is_file() { PIECE } else { self.credit.saturating_sub(message.kind.bytes()) };
        message
    }

    async fn message(&self) -> Message {
        if self.manner == Manner::AsTheyCome
            && self.credit == 0
            && self.way.has(Kind::Log)
            && let Some(piece) = self.feed.try_piece()
        {
            return piece;
        }
        tokio::select! {
            biased;
            message = self.feed.next_of(|kind| self.way.has(kind)) => message,
            piece = self.feed.piece(), if self.way.has(Kind::Log) => piece,
        }
    }
}

/// Bytes of a file's piece.
pub(in crate::compare::subjects) const fn piece_bytes(manner: Manner) -> usize {
    match manner {
        Manner::AsTheyCome => PIECE,
        Manner::NewestFirst => SMALL_PIECE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn kinds(feed: &Feed, manner: Manner, count: usize) -> Vec<Kind> {
        let mut taking = Taking::from(feed.clone(), Way::Everything, manner);
        let mut kinds = Vec::new();
        for _ in 0..count {
            kinds.push(Message::decode(&taking.next().await).unwrap().kind);
        }
        kinds
    }

    fn busy(manner: Manner) -> Feed {
        let feed = Feed::new(manner);
        feed.transfer(Kind::Log, true);
        (0..20).for_each(|number| feed.offer(Message::new(Kind::Camera, number)));
        feed
    }

    #[tokio::test]
    async fn as_they_come_files_and_messages_share_by_bytes() {
        let kinds = kinds(&busy(Manner::AsTheyCome), Manner::AsTheyCome, 22).await;
        // Seventeen pictures of 1,000 bytes make a piece.
        let mut expected = vec![Kind::Camera; 17];
        expected.push(Kind::Log);
        expected.extend([Kind::Camera; 3]);
        expected.push(Kind::Log);
        assert_eq!(kinds, expected);
    }

    #[tokio::test]
    async fn newest_first_files_wait() {
        let kinds = kinds(&busy(Manner::NewestFirst), Manner::NewestFirst, 22).await;
        assert!(kinds[..20].iter().all(|kind| *kind == Kind::Camera) && kinds[20..] == [Kind::Log; 2]);
    }

    #[tokio::test]
    async fn ways_keep_apart() {
        let feed = busy(Manner::NewestFirst);
        feed.offer(Message::new(Kind::Control, 0));
        let mut files = Taking::from(feed.clone(), Way::Files, Manner::NewestFirst);
        for _ in 0..20 {
            assert_eq!(Message::decode(&files.next().await).unwrap().kind, Kind::Camera);
        }
        assert_eq!(files.next().await.len(), SMALL_PIECE);
        let mut messages = Taking::from(feed, Way::Messages, Manner::NewestFirst);
        assert_eq!(Message::decode(&messages.next().await).unwrap().kind, Kind::Control);
    }
}
