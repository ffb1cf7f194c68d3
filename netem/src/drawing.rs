//! What drawings have in common: round scales, plain numbers, text that cannot break the markup around it.

/// The next of 1, 2, 5 times a power of ten that is at least `value`; 1 if there is nothing.
pub fn ceiling(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    // A little more than the value may be it, but for rounding.
    let fits = |step: &f64| *step >= value * (1.0 - 1e-9);
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(fits).unwrap_or(value)
}

/// Without noise behind the point: at most six digits there, and no zeros at the end.
pub fn number(value: f64) -> String {
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').into()
}

/// Text as it may stand in XML and HTML, between tags and in attributes.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // No XML may hold these, not even escaped.
            '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_round() {
        for (value, round) in [(0.13, 0.2), (0.0, 1.0), (1.0, 1.0), (7.0, 10.0), (0.08, 0.1)] {
            assert!((ceiling(value) - round).abs() < 1e-9, "{value}");
        }
    }

    #[test]
    fn numbers_have_no_noise() {
        for (value, text) in [(0.1 + 0.2, "0.3"), (100.0, "100"), (0.0, "0"), (-2.5, "-2.5")] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn text_breaks_out_of_neither_an_element_nor_an_attribute() {
        assert_eq!(escape("a<b>&\"'\u{1b}"), "a&lt;b&gt;&amp;&quot;&#39;\u{fffd}");
    }
}
