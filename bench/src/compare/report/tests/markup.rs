//! Whether every tag of a page is closed, in order.

/// What is wrong with it, or the text between its tags. Styles and scripts are not looked into.
pub(super) fn text_of(page: &str) -> Result<String, String> {
    let (mut open, mut text, mut rest) = (Vec::new(), String::new(), page);
    while let Some(at) = rest.find('<') {
        checked(&rest[..at])?;
        text.push_str(&rest[..at]);
        text.push(' ');
        let end = rest[at..].find('>').ok_or("a tag without an end")? + at;
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if tag.starts_with('!') {
            continue;
        }
        if let Some(name) = tag.strip_prefix('/') {
            let expected = open.pop();
            if expected != Some(name) {
                return Err(format!("</{name}> closes {expected:?}"));
            }
            continue;
        }
        let name = tag.split([' ', '/']).next().unwrap_or_default();
        attributes(tag)?;
        if tag.ends_with('/') {
            continue;
        }
        open.push(name);
        if matches!(name, "style" | "script") {
            rest = &rest[rest.find(&format!("</{name}>")).ok_or("it has no end")?..];
        }
    }
    if open.is_empty() { Ok(text) } else { Err(format!("never closed: {open:?}")) }
}

/// Each is quoted, and comes once.
fn attributes(tag: &str) -> Result<(), String> {
    if !tag.matches('"').count().is_multiple_of(2) {
        return Err(format!("quotes in <{tag}>"));
    }
    let outside: String = tag.trim_end_matches('/').split('"').step_by(2).collect();
    let mut keys: Vec<_> = outside.split_whitespace().skip(1).filter(|key| key.ends_with('=')).collect();
    let count = keys.len();
    keys.sort_unstable();
    keys.dedup();
    if keys.len() != count {
        return Err(format!("twice the same attribute in <{tag}>"));
    }
    tag.split('"').skip(1).step_by(2).try_for_each(checked)
}

/// Every ampersand begins an entity that XML knows.
fn checked(text: &str) -> Result<(), String> {
    let known = ["&amp;", "&lt;", "&gt;", "&quot;", "&#39;"];
    let is_bad = |(at, _): &(usize, &str)| !known.iter().any(|entity| text[*at..].starts_with(entity));
    let bad = text.match_indices('&').find(is_bad);
    bad.map_or(Ok(()), |(at, _)| Err(format!("a loose ampersand: {}", &text[at..])))
}

#[test]
fn what_is_broken_is_told() {
    for broken in ["<a>", "<a></b>", "<a b=\"></a>", "<p>&</p>", "<p a=\"1\" a=\"2\"/>", "<p"] {
        assert!(text_of(broken).is_err(), "{broken}");
    }
    assert_eq!(text_of("<!DOCTYPE html>\n<p a=\"1\">x<b/> &lt;</p>").unwrap().trim(), "x  &lt;");
    assert!(text_of("<style>a>b{}</style>").is_ok());
}
