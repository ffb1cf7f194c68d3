//! Text in other places than markup: fields of CSV, names of files and anchors.

/// A field of CSV (RFC 4180): quoted where it has to be.
pub(super) fn field(text: &str) -> String {
    if text.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// Fit for an anchor and for a file's name: lower case letters, digits and single hyphens.
pub(super) fn slug(text: &str) -> String {
    let mut slug = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii_alphanumeric() {
            slug.push(character.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_where_they_have_to_be() {
        assert_eq!(field("plain"), "plain");
        assert_eq!(field("a,b"), "\"a,b\"");
        assert_eq!(field("say \"no\"\n"), "\"say \"\"no\"\"\n\"");
    }

    #[test]
    fn slugs_hold_nothing_that_a_path_or_an_anchor_minds() {
        for (text, expected) in
            [("LTE edge", "lte-edge"), ("../A/A", "a-a"), ("loss 5 %", "loss-5"), ("é", "")]
        {
            assert_eq!(slug(text), expected);
        }
    }
}
