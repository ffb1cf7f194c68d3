//! Writes markup in which every tag is closed and every text escaped: HTML and SVG alike.

use std::fmt::{Display, Write as _};

use carriageway_netem::drawing::escape;

/// Attributes of an element; values are escaped.
pub(super) type Attributes<'a> = &'a [(&'a str, &'a dyn Display)];

/// A piece of a page.
#[derive(Clone, Debug, Default)]
pub(super) struct Markup {
    text: String,
}

impl Markup {
    /// An element and what is inside it.
    pub(super) fn element(&mut self, name: &str, attributes: Attributes<'_>, inside: impl FnOnce(&mut Self)) {
        self.tag(name, attributes);
        self.text.push('>');
        inside(self);
        let _ = write!(self.text, "</{name}>");
    }

    /// An element with nothing but text inside.
    pub(super) fn leaf(&mut self, name: &str, attributes: Attributes<'_>, text: impl Display) {
        self.element(name, attributes, |inside| inside.text(text));
    }

    /// An element with nothing inside.
    pub(super) fn empty(&mut self, name: &str, attributes: Attributes<'_>) {
        self.tag(name, attributes);
        self.text.push_str("/>");
    }

    /// Text.
    pub(super) fn text(&mut self, text: impl Display) {
        self.text.push_str(&escape(&text.to_string()));
    }

    /// Style or script of ours, which hold no text from outside.
    pub(super) fn verbatim(&mut self, ours: &str) {
        self.text.push_str(ours);
    }

    /// Another piece.
    pub(super) fn append(&mut self, piece: &Self) {
        self.text.push_str(&piece.text);
    }

    /// All of it.
    pub(super) fn into_text(self) -> String {
        self.text
    }

    fn tag(&mut self, name: &str, attributes: Attributes<'_>) {
        let _ = write!(self.text, "<{name}");
        for (key, value) in attributes {
            let _ = write!(self.text, " {key}=\"{}\"", escape(&value.to_string()));
        }
    }
}
