//! Who hands something out: `Organization: NAME (CONTACT)` or `Person: NAME (CONTACT)`, as recipes and SPDX 2.3 write it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A supplier, as a recipe names it (SPDX 2.3, section 7.5).
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Supplier {
    pub kind: Kind,
    pub name: String,
    /// Where to write to or to look: a mail address or a URL.
    pub contact: Option<String>,
}

/// What a supplier is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    Organization,
    Person,
}

impl Kind {
    /// Returns the word for it, the same in SPDX 2.3 and 3.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Organization => "Organization",
            Self::Person => "Person",
        }
    }
}

impl fmt::Display for Supplier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.name(), self.name)?;
        match &self.contact {
            Some(contact) => write!(f, " ({contact})"),
            None => Ok(()),
        }
    }
}

impl TryFrom<String> for Supplier {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        read(&text).filter(|_| !text.contains(char::is_control)).ok_or_else(|| {
            format!("a supplier is `Organization: NAME` or `Person: NAME`, and `(CONTACT)` behind it; found {text:?}")
        })
    }
}

impl From<Supplier> for String {
    fn from(supplier: Supplier) -> Self {
        supplier.to_string()
    }
}

/// A contact is a mail address or a URL; what else stands in brackets belongs to the name.
fn read(text: &str) -> Option<Supplier> {
    let (kind, rest) = text.split_once(": ")?;
    let kind = match kind {
        "Organization" => Kind::Organization,
        "Person" => Kind::Person,
        _ => return None,
    };
    let rest = rest.trim();
    let parts = rest.strip_suffix(')').and_then(|rest| rest.rsplit_once('('));
    let parts = parts.filter(|(_, contact)| contact.contains('@') || contact.contains("://"));
    let (name, contact) = parts.map_or((rest, None), |(name, contact)| (name, Some(contact.trim().into())));
    let name = name.trim().to_owned();
    (!name.is_empty()).then_some(Supplier { kind, name, contact })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Supplier, String> {
        text.to_owned().try_into()
    }

    #[test]
    fn suppliers_may_have_an_address_or_a_page() {
        for (text, kind, name, contact) in [
            (
                "Person: A. Person (a@example.org)",
                Kind::Person,
                "A. Person",
                Some("a@example.org"),
            ),
            (
                "Organization: Some Ltd. (https://example.org/)",
                Kind::Organization,
                "Some Ltd.",
                Some("https://example.org/"),
            ),
            (
                "Organization: Nobody (Europe)",
                Kind::Organization,
                "Nobody (Europe)",
                None,
            ),
        ] {
            let (name, contact) = (name.into(), contact.map(String::from));
            let supplier = parse(text).unwrap();
            assert_eq!(supplier, Supplier { kind, name, contact });
            assert_eq!(supplier.to_string(), text);
        }
    }

    #[test]
    fn a_supplier_of_no_kind_or_name_is_refused() {
        for text in [
            "",
            "Example",
            "Company: Example",
            "Person:",
            "Person:  ",
            "Person: (a@example.org)",
            "Person: A\nB",
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with("a supplier is `Organization: NAME`"), "{error}");
        }
    }
}
