//! Frames on a byte stream: each preceded by its length as a protobuf varint.

use bytes::{Buf, Bytes, BytesMut};

use crate::MAX_FRAME;

/// Most bytes of a length prefix: 64 KiB needs three.
const MAX_PREFIX: usize = 3;

/// A length that is zero, too large, or not in its shortest form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame's length must be 1 to {MAX_FRAME}, as a varint of at most {MAX_PREFIX} bytes")]
pub struct BadLength;

/// Cuts a byte stream into frames. Holds at most one frame and what was pushed behind it.
#[derive(Debug, Default)]
pub struct Splitter {
    buffer: BytesMut,
}

impl Splitter {
    /// Appends bytes from the stream. Push only what was read while [`Splitter::next_frame`] says `None`,
    /// so that no more than a frame and one read are ever held.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, without its length; `None` until more bytes come.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, BadLength> {
        let Some((length, prefix)) = length(&self.buffer)? else { return Ok(None) };
        if self.buffer.len() < prefix + length {
            return Ok(None);
        }
        self.buffer.advance(prefix);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// Bytes held.
    pub fn held(&self) -> usize {
        self.buffer.len()
    }
}

/// The length at the front of `bytes` and how many bytes it takes; `None` while it is incomplete.
fn length(bytes: &[u8]) -> Result<Option<(usize, usize)>, BadLength> {
    let mut length = 0;
    for (index, byte) in bytes.iter().take(MAX_PREFIX).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let shortest = index == 0 || *byte != 0;
            let fits = (1..=MAX_FRAME).contains(&length);
            return if shortest && fits { Ok(Some((length, index + 1))) } else { Err(BadLength) };
        }
    }
    if bytes.len() < MAX_PREFIX { Ok(None) } else { Err(BadLength) }
}

/// The length prefix that goes before a frame of `length` bytes on a stream.
pub fn prefix(length: usize) -> Bytes {
    let mut bytes = BytesMut::with_capacity(MAX_PREFIX);
    prost::encoding::encode_varint(length as u64, &mut bytes);
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bad_lengths_are_refused_at_once() {
        for bad in [&[0u8][..], &[0x80, 0x00], &[0xff, 0xff, 0x7f], &[0xff, 0xff, 0xff], &[0x81, 0x80, 0x04]]
        {
            let mut splitter = Splitter::default();
            splitter.push(bad);
            assert_eq!(splitter.next_frame(), Err(BadLength), "{bad:02x?}");
        }
    }

    #[test]
    fn the_largest_frame_passes() {
        let mut splitter = Splitter::default();
        splitter.push(&prefix(MAX_FRAME));
        splitter.push(&vec![7; MAX_FRAME]);
        assert_eq!(splitter.next_frame().unwrap().unwrap().len(), MAX_FRAME);
        assert_eq!(splitter.held(), 0);
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 1..20),
            cut in 1usize..64,
        ) {
            let stream: Vec<u8> = frames.iter().flat_map(|f| [prefix(f.len()).to_vec(), f.clone()].concat()).collect();
            let mut splitter = Splitter::default();
            let mut out = Vec::new();
            for piece in stream.chunks(cut) {
                splitter.push(piece);
                while let Some(frame) = splitter.next_frame().unwrap() {
                    out.push(frame.to_vec());
                }
            }
            prop_assert_eq!(out, frames);
        }

        #[test]
        fn any_bytes_end_in_frames_or_a_refusal(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
            let mut splitter = Splitter::default();
            splitter.push(&bytes);
            while let Ok(Some(frame)) = splitter.next_frame() {
                prop_assert!(!frame.is_empty() && frame.len() <= MAX_FRAME);
            }
        }
    }
}
