//! Who makes, hands out and describes things.

use super::Crate;
use crate::model::Supplier;
use crate::model::supplier::Kind;

/// A person or an organization, as a bill of materials names them.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Agent<'a> {
    pub(super) kind: Kind,
    pub(super) name: &'a str,
    /// Where to write to or to look: a mail address or a URL.
    pub(super) contact: Option<&'a str>,
}

/// Who hands out Debian's packages.
pub(super) const DEBIAN: Agent<'static> = Agent {
    kind: Kind::Organization,
    name: "Debian",
    contact: Some("https://www.debian.org/"),
};

/// Who hands out crates: a package is locked from cargo's own registry, or not at all.
pub(super) const RUST: Agent<'static> = Agent {
    kind: Kind::Organization,
    name: "The Rust package registry",
    contact: Some("https://www.rust-lang.org/"),
};

/// Mailing lists, which are no persons.
const LISTS: [&str; 4] = [
    "lists.debian.org",
    "lists.alioth.debian.org",
    "alioth-lists.debian.net",
    "tracker.debian.org",
];

impl<'a> Agent<'a> {
    pub(super) fn supplier(supplier: &'a Supplier) -> Self {
        Self {
            kind: supplier.kind,
            name: &supplier.name,
            contact: supplier.contact.as_deref(),
        }
    }

    /// Returns the first author of a crate; where it names none, that is the project of its name, at its page.
    pub(super) fn author(one: &'a Crate) -> Option<Self> {
        let page = one.homepage.as_deref();
        let project = page.map(|_| Self {
            kind: Kind::Organization,
            name: &one.name,
            contact: page,
        });
        let author = one.author.as_deref().map(Self::maintainer);
        author.or(project).map(|author| Self {
            contact: author.contact.or(page),
            ..author
        })
    }

    /// Reads a maintainer of Debian Policy 5.6.2: `name <address>`.
    pub(super) fn maintainer(text: &'a str) -> Self {
        let (name, address) = text.split_once('<').unwrap_or((text, ""));
        let address = address.trim_end_matches('>');
        let kind = match address.split_once('@') {
            Some((_, host)) if LISTS.contains(&host) => Kind::Organization,
            _ => Kind::Person,
        };
        let contact = Some(address).filter(|address| !address.is_empty());
        let name = name.trim();
        Self { kind, name, contact }
    }

    /// The contact, where it is a mail address.
    pub(super) fn mail(&self) -> Option<&'a str> {
        self.contact
            .filter(|contact| contact.contains('@') && !contact.contains("://"))
    }

    /// The contact, where it is a URL.
    pub(super) fn url(&self) -> Option<&'a str> {
        self.contact.filter(|contact| contact.contains("://"))
    }
}
