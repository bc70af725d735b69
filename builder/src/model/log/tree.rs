//! The Merkle tree: RFC 6962, section 2.1 (the same tree as in RFC 9162, section 2.1).

use measure::Sha256;

/// Returns the hash of an entry as a leaf.
pub fn leaf(entry: &[u8]) -> Sha256 {
    Sha256::of([&[0], entry].concat())
}

/// Returns the hash of the tree with these leaves; of none, that of nothing.
pub fn root(leaves: &[Sha256]) -> Sha256 {
    match leaves {
        [] => Sha256::of([]),
        [leaf] => *leaf,
        _ => {
            let (left, right) = halves(leaves);
            node(root(left), root(right))
        }
    }
}

/// Returns what leads from a leaf to the root, from the bottom up: section 2.1.1. Nothing if there is no such leaf.
pub fn inclusion(leaves: &[Sha256], index: usize) -> Option<Vec<Sha256>> {
    if index >= leaves.len() {
        return None;
    }
    let [_] = leaves else {
        let (left, right) = halves(leaves);
        let (mut path, sibling) = match index.checked_sub(left.len()) {
            None => (inclusion(left, index)?, root(right)),
            Some(index) => (inclusion(right, index)?, root(left)),
        };
        path.push(sibling);
        return Some(path);
    };
    Some(Vec::new())
}

/// Returns what shows that the tree of the first `old` leaves grew into the one of all: section 2.1.2. Nothing if there
/// are not so many leaves, or none at all were there before.
pub fn consistency(leaves: &[Sha256], old: usize) -> Option<Vec<Sha256>> {
    (1..=leaves.len()).contains(&old).then(|| subproof(leaves, old, true))
}

/// `SUBPROOF` of section 2.1.2; `whole` while the old tree is a whole subtree whose hash the verifier has.
fn subproof(leaves: &[Sha256], old: usize, whole: bool) -> Vec<Sha256> {
    if old == leaves.len() {
        return if whole { Vec::new() } else { vec![root(leaves)] };
    }
    let (left, right) = halves(leaves);
    let (mut proof, sibling) = match old.checked_sub(left.len()) {
        None | Some(0) => (subproof(left, old, whole), root(right)),
        Some(old) => (subproof(right, old, false), root(left)),
    };
    proof.push(sibling);
    proof
}

/// Returns the root that an inclusion proof leads to from the `leaf` with this `index`, in a tree of `size` leaves: RFC
/// 9162, section 2.1.3.2. Nothing if no such tree has such a proof.
pub fn included(leaf: Sha256, index: u64, size: u64, proof: &[Sha256]) -> Option<Sha256> {
    let (mut at, mut last) = (index, size.checked_sub(1)?);
    if at > last {
        return None;
    }
    let mut hash = leaf;
    for sibling in proof {
        if last == 0 {
            return None;
        }
        if at & 1 == 1 || at == last {
            hash = node(*sibling, hash);
            // a subtree that is alone on the right joins only where it has a sibling
            let skipped = if at & 1 == 0 { at.trailing_zeros().min(63) } else { 0 };
            (at, last) = (at >> skipped, last >> skipped);
        } else {
            hash = node(hash, *sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    (last == 0).then_some(hash)
}

/// Returns whether the `proof` shows that the tree `old` (its size and root) grew into the tree `new`: RFC 9162, section
/// 2.1.4.2. A tree without leaves grows into any, and a tree into itself, without a proof.
pub fn consistent(old: (u64, Sha256), new: (u64, Sha256), proof: &[Sha256]) -> bool {
    if old.0 == 0 || old.0 == new.0 {
        let same = if old.0 == 0 { Sha256::of([]) } else { new.1 };
        return proof.is_empty() && old.1 == same && (new.0 != 0 || new.1 == same);
    }
    roots(old, new.0, proof) == Some((old.1, new.1))
}

/// Returns the roots of both trees that a proof of consistency leads to.
fn roots(old: (u64, Sha256), size: u64, proof: &[Sha256]) -> Option<(Sha256, Sha256)> {
    let (mut at, mut last) = (old.0.checked_sub(1)?, size.checked_sub(1)?);
    if at >= last {
        return None;
    }
    // the largest whole subtree at the right end of the old tree; if that is the old tree, the verifier has its hash
    let whole = at.trailing_ones();
    (at, last) = (at >> whole, last >> whole);
    let (first, proof) = match old.0.is_power_of_two() {
        true => (old.1, proof),
        false => proof.split_first().map(|(first, rest)| (*first, rest))?,
    };
    let (mut before, mut after) = (first, first);
    for sibling in proof {
        if last == 0 {
            return None;
        }
        if at & 1 == 1 || at == last {
            before = node(*sibling, before);
            after = node(*sibling, after);
            let skipped = if at & 1 == 0 { at.trailing_zeros().min(63) } else { 0 };
            (at, last) = (at >> skipped, last >> skipped);
        } else {
            after = node(after, *sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    (last == 0).then_some((before, after))
}

/// Returns the hash of two subtrees.
fn node(left: Sha256, right: Sha256) -> Sha256 {
    Sha256::of([&[1], &left.bytes()[..], right.bytes()].concat())
}

/// Splits leaves, of which there are two at least, where the tree does: after the largest power of two that leaves some.
fn halves(leaves: &[Sha256]) -> (&[Sha256], &[Sha256]) {
    leaves.split_at(leaves.len().next_power_of_two() / 2)
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;
    use proptest::prelude::*;

    use super::*;

    /// Inputs and roots of trees of 0 to 8 leaves: `testonly/constants.go` of transparency-dev/merkle 417fb0c3.
    const ENTRIES: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];
    const ROOTS: [&str; 9] = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    fn leaves(size: usize) -> Vec<Sha256> {
        (0..size).map(|index| leaf(&index.to_be_bytes())).collect()
    }

    #[test]
    fn roots_are_those_of_the_reference() {
        let leaves = ENTRIES.map(leaf);
        for (size, expected) in ROOTS.iter().enumerate() {
            assert_eq!(root(&leaves[..size]).to_string(), *expected, "{size}");
        }
    }

    /// `testdata/inclusion` and `testdata/consistency` of transparency-dev/merkle 417fb0c3: the good proofs, as base64.
    const INCLUSIONS: [(usize, usize, &[&str]); 5] = [
        (0, 1, &[]),
        (
            0,
            8,
            &[
                "lqKW0iTyhcZ77pPDD4owkVfw2qNdxbh+QQt4YwoJz8c=",
                "Xwg/ChozygdqlSeYMlgNs+DvRYS9/x9UyKNg9Q3jAx4=",
                "a0eq8p7jwq+a+Im8H7klTavTEXfxYjLdaqsDXKOb9uQ=",
            ],
        ),
        (
            5,
            8,
            &[
                "vBoGQ7EuTS18d5GPROD095qDi2z57FtcKD4fTYhZnms=",
                "yoVOoSjtBQtBs1/8G4e46yveRh6eO1WW7Oa51ZdaCuA=",
                "037kGJdt2VdTwcc4Yrk5j6Kiz5tP8P3+izDNlSCWFLc=",
            ],
        ),
        (2, 3, &["+sVCA+fMaWzw38tCySodnbr3CtnmIfS9jZhmLwDjwSU="]),
        (
            1,
            5,
            &[
                "bjQLnP+zepicpUTmu3gKLHiQHT+zNzh2hRGjBhevoB0=",
                "Xwg/ChozygdqlSeYMlgNs+DvRYS9/x9UyKNg9Q3jAx4=",
                "vBoGQ7EuTS18d5GPROD095qDi2z57FtcKD4fTYhZnms=",
            ],
        ),
    ];
    const CONSISTENCIES: [(usize, usize, &[&str]); 5] = [
        (1, 1, &[]),
        (
            1,
            8,
            &[
                "lqKW0iTyhcZ77pPDD4owkVfw2qNdxbh+QQt4YwoJz8c=",
                "Xwg/ChozygdqlSeYMlgNs+DvRYS9/x9UyKNg9Q3jAx4=",
                "a0eq8p7jwq+a+Im8H7klTavTEXfxYjLdaqsDXKOb9uQ=",
            ],
        ),
        (
            6,
            8,
            &[
                "DrxdNDf74tsVi58Sah0RjjCBgQMdCpSfje3t68VY72o=",
                "yoVOoSjtBQtBs1/8G4e46yveRh6eO1WW7Oa51ZdaCuA=",
                "037kGJdt2VdTwcc4Yrk5j6Kiz5tP8P3+izDNlSCWFLc=",
            ],
        ),
        (
            2,
            5,
            &[
                "Xwg/ChozygdqlSeYMlgNs+DvRYS9/x9UyKNg9Q3jAx4=",
                "vBoGQ7EuTS18d5GPROD095qDi2z57FtcKD4fTYhZnms=",
            ],
        ),
        (
            6,
            7,
            &[
                "DrxdNDf74tsVi58Sah0RjjCBgQMdCpSfje3t68VY72o=",
                "sIaT7C5yFZcTBkHoIR5+7cy0wmQTlj7ubB4u0W/7Gl8=",
                "037kGJdt2VdTwcc4Yrk5j6Kiz5tP8P3+izDNlSCWFLc=",
            ],
        ),
    ];

    #[test]
    fn proofs_are_those_of_the_reference() {
        let leaves = ENTRIES.map(leaf);
        let shown =
            |proof: Vec<Sha256>| -> Vec<String> { proof.iter().map(|hash| BASE64.encode(hash.bytes())).collect() };
        for (index, size, proof) in INCLUSIONS {
            assert_eq!(
                shown(inclusion(&leaves[..size], index).unwrap()),
                proof,
                "{index} in {size}"
            );
        }
        for (old, size, proof) in CONSISTENCIES {
            assert_eq!(
                shown(consistency(&leaves[..size], old).unwrap()),
                proof,
                "{old} to {size}"
            );
        }
    }

    #[test]
    fn every_proof_of_every_tree_of_up_to_300_leaves_holds() {
        let leaves = leaves(300);
        for size in 1..=leaves.len() {
            let tree = &leaves[..size];
            let new = (size as u64, root(tree));
            for (index, leaf) in tree.iter().enumerate() {
                let proof = inclusion(tree, index).unwrap();
                assert_eq!(included(*leaf, index as u64, size as u64, &proof), Some(new.1));
            }
            for old in 1..=size {
                let proof = consistency(tree, old).unwrap();
                assert!(
                    consistent((old as u64, root(&leaves[..old])), new, &proof),
                    "{old} to {size}"
                );
            }
        }
    }

    #[test]
    fn what_is_not_in_a_tree_has_no_proof() {
        let leaves = leaves(5);
        assert_eq!(inclusion(&leaves, 5), None);
        assert_eq!(inclusion(&[], 0), None);
        assert_eq!(consistency(&leaves, 0), None);
        assert_eq!(consistency(&leaves, 6), None);
        assert_eq!(included(leaves[0], 0, 0, &[]), None);
        assert_eq!(included(leaves[0], u64::MAX, u64::MAX, &[]), None);
    }

    #[test]
    fn a_tree_without_leaves_grows_into_any() {
        let (empty, new) = ((0, root(&[])), (5, root(&leaves(5))));
        assert!(consistent(empty, new, &[]));
        assert!(consistent(empty, empty, &[]));
        assert!(!consistent((0, new.1), new, &[]));
        assert!(!consistent(empty, (0, new.1), &[]));
        assert!(!consistent(empty, new, &[new.1]));
        assert!(consistent(new, new, &[]));
        assert!(!consistent(new, (5, empty.1), &[]));
        assert!(!consistent(new, (4, new.1), &[]));
    }

    proptest! {
        #[test]
        fn a_proof_with_a_flipped_bit_or_another_place_shows_nothing(
            size in 2_usize..=300,
            index in any::<prop::sample::Index>(),
            flipped in any::<prop::sample::Index>(),
            bit in 0..256_usize,
        ) {
            let leaves = leaves(size);
            let (new, index) = (root(&leaves), index.index(size));
            let proof = inclusion(&leaves, index).unwrap();
            let flip = |proof: &[Sha256], at: usize| {
                let mut proof = proof.to_vec();
                let mut bytes = *proof[at].bytes();
                bytes[bit / 8] ^= 1 << (bit % 8);
                proof[at] = bytes.into();
                proof
            };
            let (at, size64) = (index as u64, size as u64);
            let edited = flip(&proof, flipped.index(proof.len()));
            prop_assert_ne!(included(leaves[index], at, size64, &edited), Some(new));
            prop_assert_ne!(included(leaves[index], at, size64, &proof[1..]), Some(new));
            prop_assert_ne!(included(leaves[index], at, size64, &[&proof[..], &[new]].concat()), Some(new));
            let elsewhere = (0..size64).filter(|other| *other != at);
            for other in elsewhere {
                prop_assert_ne!(included(leaves[index], other, size64, &proof), Some(new));
            }
            let old = (at + 1, root(&leaves[..index + 1]));
            let proof = consistency(&leaves, index + 1).unwrap();
            if !proof.is_empty() {
                let edited = flip(&proof, flipped.index(proof.len()));
                prop_assert!(!consistent(old, (size64, new), &edited));
                prop_assert!(!consistent(old, (size64, new), &proof[1..]));
            }
            prop_assert!(!consistent((old.0, new), (size64, old.1), &proof) || old.0 == size64);
        }

        #[test]
        fn no_proof_makes_a_verifier_panic(
            numbers in any::<[u64; 2]>(),
            proof in prop::collection::vec(any::<[u8; 32]>(), 0..70),
        ) {
            let proof: Vec<Sha256> = proof.into_iter().map(Into::into).collect();
            let [index, size] = numbers;
            included(Sha256::ZERO, index, size, &proof);
            consistent((index, Sha256::ZERO), (size, Sha256::ZERO), &proof);
        }
    }
}
