//! Whom to believe.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::SnpProduct;

/// The roots that reports are believed by: one for each product.
///
/// [`AmdRoots::amd`] is the only set that a user can choose. Certificates that come along with evidence never become roots.
#[derive(Clone, Debug)]
pub struct AmdRoots(BTreeMap<SnpProduct, Authority>);

/// The certificates above those of the keys that sign reports, in DER.
#[derive(Clone, Debug)]
pub struct Authority {
    /// Of AMD's root key (ARK).
    pub ark: Vec<u8>,
    /// Of the SEV key (ASK), which certifies VCEKs.
    pub ask: Vec<u8>,
    /// Of the SEV VLEK key (ASVK), which certifies VLEKs.
    pub asvk: Vec<u8>,
}

impl AmdRoots {
    /// Returns AMD's own roots of Milan, Genoa and Turin: see `roots/README.md` for where they come from.
    pub fn amd() -> Self {
        Self::new(PINNED.map(|(product, [ark, ask, asvk])| {
            let (ark, ask, asvk) = (ark.into(), ask.into(), asvk.into());
            (product, Authority { ark, ask, asvk })
        }))
    }

    /// Returns other roots, for tests with keys of their own. No flag, file or variable of the program leads here.
    pub fn new(roots: impl IntoIterator<Item = (SnpProduct, Authority)>) -> Self {
        Self(roots.into_iter().collect())
    }

    /// Returns the certificates of a product.
    pub fn of(&self, product: SnpProduct) -> Option<&Authority> {
        self.0.get(&product)
    }

    /// Returns whether `ark` is the certificate of a root, of whatever product.
    pub(super) fn have(&self, ark: &[u8]) -> bool {
        self.0.values().any(|authority| authority.ark == ark)
    }
}

const PINNED: [(SnpProduct, [&[u8]; 3]); 3] = [
    (
        SnpProduct::Milan,
        [
            include_bytes!("roots/milan-ark.der"),
            include_bytes!("roots/milan-ask.der"),
            include_bytes!("roots/milan-asvk.der"),
        ],
    ),
    (
        SnpProduct::Genoa,
        [
            include_bytes!("roots/genoa-ark.der"),
            include_bytes!("roots/genoa-ask.der"),
            include_bytes!("roots/genoa-asvk.der"),
        ],
    ),
    (
        SnpProduct::Turin,
        [
            include_bytes!("roots/turin-ark.der"),
            include_bytes!("roots/turin-ask.der"),
            include_bytes!("roots/turin-asvk.der"),
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::super::certificate::Certificate;
    use super::*;
    use crate::Sha256;
    use std::format;

    #[test]
    fn pinned_roots_are_those_of_the_table_and_sign_each_other() {
        let table = include_str!("roots/README.md");
        let roots = AmdRoots::amd();
        for product in SnpProduct::ALL {
            let Authority { ark, ask, asvk } = roots.of(product).unwrap();
            for (name, bytes) in [("ark", ark), ("ask", ask), ("asvk", asvk)] {
                let file = format!("{product}-{name}.der").to_lowercase();
                let row = table.lines().find(|line| line.contains(&file)).unwrap();
                assert!(row.contains(&format!("{}", Sha256::of(bytes))), "{file}");
            }
            let [ark, ask, asvk] = [ark, ask, asvk].map(|bytes| Certificate::read(bytes).unwrap());
            assert!(ark.has_signed(&ark) && ark.has_signed(&ask) && ark.has_signed(&asvk));
            assert!(!ask.has_signed(&asvk) && !asvk.has_signed(&ask));
            let names = [ark.subject(), ask.subject(), asvk.subject()];
            let named = ["ARK-", "SEV-", "SEV-VLEK-"].map(|name| format!("{name}{product}"));
            assert_eq!(names, named);
        }
    }
}
