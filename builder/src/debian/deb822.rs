//! The text format of Debian's control files: stanzas of `Name: value` fields.

/// Returns the stanzas of a control file: what empty lines part.
pub fn stanzas(text: &str) -> impl Iterator<Item = &str> {
    let stanzas = text.split("\n\n").map(|stanza| stanza.trim_matches('\n'));
    stanzas.filter(|stanza| !stanza.is_empty())
}

/// Returns the fields of a stanza as names and trimmed values; lines that continue a value are part of it.
///
/// A line that is no field is one with an empty value.
pub fn fields(stanza: &str) -> impl Iterator<Item = (&str, &str)> {
    folded_fields(stanza).map(|(name, value)| (name, value.trim()))
}

/// Returns the fields of a stanza as names and values as they are written: all from the colon to the end of the last
/// line that continues it.
///
/// A line that is no field is one with an empty value.
pub fn folded_fields(stanza: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = stanza;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (field, after) = rest.split_at(end_of_field(rest));
        rest = after.strip_prefix('\n').unwrap_or(after);
        let (name, value) = field.split_once(':').unwrap_or((field, ""));
        Some((name, value))
    })
}

/// The first line break that no blank follows.
fn end_of_field(text: &str) -> usize {
    let bytes = text.as_bytes();
    let breaks = text.match_indices('\n').map(|(at, _)| at);
    let mut ends = breaks.filter(|at| !matches!(bytes.get(at + 1), Some(b' ' | b'\t')));
    ends.next().unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_may_continue_on_further_lines() {
        let text = "\n\nA: 1\nB:\n x\n\ty\nC\n\n\nA: 2\n";
        let read: Vec<Vec<_>> = stanzas(text).map(|stanza| fields(stanza).collect()).collect();
        assert_eq!(read, [vec![("A", "1"), ("B", "x\n\ty"), ("C", "")], vec![("A", "2")]]);
    }

    proptest! {
        #[test]
        fn any_text_is_read_to_its_end(text in ".*|[A:\n\t ]*") {
            stanzas(&text).for_each(|stanza| { fields(stanza).count(); });
        }
    }
}
