//! Where in a file a key stands.

use toml::de::{DeTable, DeValue};

/// The line, counted from 1, on which this dotted key stands in a TOML text; of a key that is absent,
/// the line of the longest part of it that is there. `None` where not even its first part is.
pub(super) fn line_of(text: &str, key: &str) -> Option<usize> {
    let table = DeTable::parse(text).ok()?;
    let mut offset = None;
    let mut table = table.get_ref();
    for part in key.split('.') {
        let Some((name, value)) = table.iter().find(|(name, _)| name.get_ref().as_ref() == part) else {
            break;
        };
        offset = Some(name.span().start);
        let DeValue::Table(inner) = value.get_ref() else { break };
        table = inner;
    }
    offset.map(|offset| 1 + text[..offset].matches('\n').count())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "log.filter = 'info'\n\n[listen]\ntcp = '[::]:1'\n[classes.body]\nburst = 1\nttl_ms = 0\n";

    #[test]
    fn a_key_is_found_by_any_way_of_writing_it() {
        assert_eq!(line_of(TEXT, "log.filter"), Some(1));
        assert_eq!(line_of(TEXT, "listen.tcp"), Some(4));
        assert_eq!(line_of(TEXT, "classes.body.ttl_ms"), Some(7));
    }

    #[test]
    fn an_absent_key_stands_where_its_table_does() {
        assert_eq!(line_of(TEXT, "listen.udp"), Some(3));
        assert_eq!(line_of(TEXT, "tls.cert"), None);
        assert_eq!(line_of("no toml [", "tls.cert"), None);
    }
}
