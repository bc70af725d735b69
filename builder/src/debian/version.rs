//! The order of package versions.
//!
//! Debian Policy 5.6.12, as dpkg 1.22 does it. The crate `debversion` would bring a regex engine, a clock and big
//! integers along, and parse each of a hundred thousand versions with them; here it is the oracle of the tests.

use std::cmp::Ordering;

/// Compares two versions as dpkg does.
pub fn compare(a: &str, b: &str) -> Ordering {
    let ((epoch_a, upstream_a, revision_a), (epoch_b, upstream_b, revision_b)) = (parts(a), parts(b));
    number(epoch_a, epoch_b)
        .then_with(|| part(upstream_a, upstream_b))
        .then_with(|| part(revision_a, revision_b))
}

/// Epoch, upstream version and revision; what is missing is empty, which is equal to zero.
fn parts(version: &str) -> (&str, &str, &str) {
    let (epoch, rest) = version.split_once(':').unwrap_or(("", version));
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
    (epoch, upstream, revision)
}

/// Compares what is not digits, then what is, and so on until the ends.
fn part(mut a: &str, mut b: &str) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        let (text_a, text_b) = (
            split(&mut a, |c| !c.is_ascii_digit()),
            split(&mut b, |c| !c.is_ascii_digit()),
        );
        let (digits_a, digits_b) = (
            split(&mut a, |c| c.is_ascii_digit()),
            split(&mut b, |c| c.is_ascii_digit()),
        );
        let order = text(text_a, text_b).then_with(|| number(digits_a, digits_b));
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

/// Takes what `belongs` off the front of `text`.
fn split<'a>(text: &mut &'a str, belongs: fn(char) -> bool) -> &'a str {
    let (front, rest) = text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()));
    *text = rest;
    front
}

/// Compares digits as numbers of any length.
fn number(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

/// Compares letters: a tilde comes before the end, the end before letters, letters before the rest.
fn text(a: &str, b: &str) -> Ordering {
    let rank = |byte: u8| match byte {
        b'~' => -1,
        byte if byte.is_ascii_alphabetic() => i32::from(byte),
        byte => i32::from(byte) + 256,
    };
    let ranks = |text: &str, length: usize| -> Vec<i32> {
        let padding = std::iter::repeat_n(0, length - text.len());
        text.bytes().map(rank).chain(padding).collect()
    };
    let length = a.len().max(b.len());
    ranks(a, length).cmp(&ranks(b, length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn versions_are_ordered_as_policy_says() {
        let ascending = [
            "1.0~~",
            "1.0~~a",
            "1.0~",
            "1.0",
            "1.0-1",
            "1.0-1+b2",
            "1.0-2",
            "1.0-10",
            "1.0a-1",
            "1.0+deb13u1-1",
            "1.0.1",
            "1:0.1",
            "2:0",
        ];
        for pair in ascending.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
        }
        assert_eq!(compare("0:1.00-0", "1.0"), Ordering::Equal);
    }

    proptest! {
        #[test]
        fn versions_are_ordered_as_debversion_does(
            a in "([0-9]:)?[0-9][0-9a-c.+~]{0,6}(-[0-9a-c.+~]{1,3})?",
            b in "([0-9]:)?[0-9][0-9a-c.+~]{0,6}(-[0-9a-c.+~]{1,3})?",
        ) {
            let parse = |version: &str| version.parse::<debversion::Version>();
            if let (Ok(left), Ok(right)) = (parse(&a), parse(&b)) {
                prop_assert_eq!(compare(&a, &b), left.cmp(&right));
            }
        }

        #[test]
        fn any_two_texts_are_ordered(a in ".*", b in ".*") {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
        }
    }
}
