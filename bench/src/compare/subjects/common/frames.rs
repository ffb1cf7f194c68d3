//! Messages on a stream: each after its length, in four bytes.

use anyhow::{Context as _, Result, bail};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::super::End;

/// Bytes of a length.
const LENGTH: usize = 4;

/// More than any message of the workload has.
const LARGEST: usize = 64 * 1024;

/// Bytes of a stream that are read at once.
const READ: usize = 16 * 1024;

/// The message after its length.
pub(in crate::compare::subjects) fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(LENGTH + message.len());
    frame.put_u32(u32::try_from(message.len()).expect("messages are small"));
    frame.put_slice(message);
    frame.freeze()
}

/// Writes one message, and waits until nothing of it is left in this process.
pub(in crate::compare::subjects) async fn write_frame(
    writer: &mut (impl AsyncWrite + Unpin),
    message: &[u8],
) -> Result<()> {
    writer.write_all(&framed(message)).await.context("cannot write")?;
    writer.flush().await.context("cannot write")
}

/// Hears all messages until the stream ends.
pub(in crate::compare::subjects) async fn hear_frames(
    mut reader: impl AsyncRead + Unpin,
    end: &End,
) -> Result<()> {
    let mut frames = Frames::default();
    while reader.read_buf(frames.room()).await.context("cannot read")? > 0 {
        frames.hear(end)?;
    }
    Ok(())
}

/// What of a stream has come and is no whole message yet.
#[derive(Debug, Default)]
pub(in crate::compare::subjects) struct Frames(BytesMut);

impl Frames {
    /// Where bytes go that have come.
    pub(in crate::compare::subjects) fn room(&mut self) -> &mut BytesMut {
        self.0.reserve(READ);
        &mut self.0
    }

    /// Hears the messages that are whole.
    pub(in crate::compare::subjects) fn hear(&mut self, end: &End) -> Result<()> {
        while let Some(message) = self.take()? {
            hear(end, &message);
        }
        Ok(())
    }

    fn take(&mut self) -> Result<Option<Bytes>> {
        let Some(length) = self.0.first_chunk::<LENGTH>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length > LARGEST {
            bail!("a message of {length} bytes was announced; no message is as long");
        }
        if self.0.len() < LENGTH + length {
            return Ok(None);
        }
        self.0.advance(LENGTH);
        Ok(Some(self.0.split_to(length).freeze()))
    }
}

/// Hears one message; what is none is noted.
pub(in crate::compare::subjects) fn hear(end: &End, message: &[u8]) {
    if let Err(broken) = end.ear.hear(message) {
        end.note(broken.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_whole_however_the_stream_is_cut() {
        let long = vec![7; 40_000];
        let stream = [framed(b"one"), framed(b""), framed(&long)].concat();
        for size in [1, 3, 4, 5, 1_000, stream.len()] {
            let mut frames = Frames::default();
            let mut messages = Vec::new();
            for part in stream.chunks(size) {
                frames.room().extend_from_slice(part);
                messages.extend(std::iter::from_fn(|| frames.take().unwrap()));
            }
            assert_eq!(messages, [&b"one"[..], b"", &long]);
        }
    }

    #[test]
    fn a_length_that_no_message_has_is_refused() {
        let mut frames = Frames::default();
        frames.room().extend_from_slice(&[0xff; 8]);
        assert!(frames.take().is_err());
    }
}
