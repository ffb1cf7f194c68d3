//! Digests of the texts that an experiment was made from.

use std::fmt::Write;

use ring::digest::{Context, SHA256};

/// SHA-256 of `parts`, one behind the other, in hexadecimal as `sha256sum` prints it.
pub fn sha256(parts: impl IntoIterator<Item: AsRef<[u8]>>) -> String {
    let mut digest = Context::new(&SHA256);
    for part in parts {
        digest.update(part.as_ref());
    }
    digest.finish().as_ref().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}
