//! Proofs of inclusion that travel with what is included (C2SP tlog-proof v1).

use std::fmt::Write as _;

use data_encoding::BASE64;
use measure::Sha256;

use super::{Checkpoint, LogFinding, VerifierKey, tree};

/// That an entry is in a log, verified without the log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Proof {
    /// The number of the entry, from 0.
    pub index: u64,
    /// What leads from the entry to the root.
    pub hashes: Vec<Sha256>,
    /// The signed checkpoint of the tree, as the log published it.
    pub checkpoint: String,
}

const FIRST: &str = "c2sp.org/tlog-proof@v1";

/// A tree with more levels has more entries than can be counted.
const HASHES: usize = 64;

impl Proof {
    /// Returns the proof in a `text`. Extra data, which nobody vouches for, is skipped.
    pub fn read(text: &str) -> Option<Self> {
        let (head, checkpoint) = text.split_once("\n\n")?;
        let mut lines = head.split('\n').peekable();
        if lines.next()? != FIRST {
            return None;
        }
        if let Some(extra) = lines.peek().and_then(|line| line.strip_prefix("extra ")) {
            BASE64.decode(extra.as_bytes()).ok()?;
            lines.next();
        }
        let number = lines.next()?.strip_prefix("index ")?;
        let index: u64 = number.parse().ok()?;
        let hash = |line: &str| Some(<[u8; 32]>::try_from(BASE64.decode(line.as_bytes()).ok()?).ok()?.into());
        let hashes: Option<Vec<Sha256>> = lines.map(hash).collect();
        let hashes = hashes.filter(|hashes| hashes.len() <= HASHES && index.to_string() == number)?;
        Some(Self {
            index,
            hashes,
            checkpoint: checkpoint.into(),
        })
    }

    /// Returns the text of the proof.
    pub fn text(&self) -> String {
        let mut text = format!("{FIRST}\nindex {}\n", self.index);
        for hash in &self.hashes {
            let _ = writeln!(text, "{}", BASE64.encode(hash.bytes()));
        }
        text + "\n" + &self.checkpoint
    }

    /// Returns the checkpoint of the log whose `key` has signed it, if the `entry` is in its tree.
    ///
    /// # Errors
    /// Why not.
    pub fn verify(&self, entry: &[u8], key: &VerifierKey) -> Result<Checkpoint, LogFinding> {
        let checkpoint = Checkpoint::open(&self.checkpoint, key);
        let checkpoint = checkpoint.map_err(|because| LogFinding::LogCheckpointInvalid { because })?;
        let root = tree::included(tree::leaf(entry), self.index, checkpoint.size, &self.hashes);
        match root == Some(checkpoint.root) {
            true => Ok(checkpoint),
            false => Err(LogFinding::LogRecordNotIncluded { index: self.index }),
        }
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use proptest::prelude::*;

    use super::*;

    fn proof() -> (Proof, VerifierKey) {
        let entries: Vec<_> = (0..7_u8).map(|number| [number; 9]).collect();
        let leaves: Vec<_> = entries.iter().map(|entry| tree::leaf(entry)).collect();
        let origin = "example.com/log".to_owned();
        let key = SigningKey::from_bytes(&[7; 32]);
        let verifier = VerifierKey::new(&origin, key.verifying_key()).unwrap();
        let checkpoint = Checkpoint {
            origin,
            size: 7,
            root: tree::root(&leaves),
        };
        let checkpoint = checkpoint.sign(&key).unwrap();
        let hashes = tree::inclusion(&leaves, 5).unwrap();
        (
            Proof {
                index: 5,
                hashes,
                checkpoint,
            },
            verifier,
        )
    }

    /// The example in C2SP tlog-proof, with whole signatures instead of dots.
    #[test]
    fn the_example_of_the_specification_is_read() {
        let text = "c2sp.org/tlog-proof@v1\nextra YWdl\nindex 73894\n\
            gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=\nB95lDa8R83lS8n0eG+o0buTxRKQTYFi//1U8anccXmA=\n\n\
            example.com/fancylog\n109482\nsFodV/vSp5O8n9a8QpW6PRY97tfOSW5bsc2Xl/EQi08=\n\n\
            — example.com/fancylog AAAA\n— witness1.example AAAA\n";
        let proof = Proof::read(text).unwrap();
        assert_eq!((proof.index, proof.hashes.len()), (73_894, 2));
        assert_eq!(
            proof.hashes[0].to_string(),
            "8122b25e861952067a8ddb9662b9033804629ce30626f7978e032405371d3e54"
        );
        assert_eq!(Checkpoint::unverified(&proof.checkpoint).unwrap().size, 109_482);
        assert_eq!(proof.text(), text.replace("extra YWdl\n", ""));
    }

    #[test]
    fn a_proof_is_of_one_entry_in_one_place() {
        let (proof, key) = proof();
        assert_eq!(Proof::read(&proof.text()), Some(proof.clone()));
        assert_eq!(proof.verify(&[5; 9], &key).map(|checkpoint| checkpoint.size), Ok(7));
        let not_included = |index| Err(LogFinding::LogRecordNotIncluded { index });
        assert_eq!(proof.verify(&[4; 9], &key), not_included(5));
        let elsewhere = Proof {
            index: 4,
            ..proof.clone()
        };
        assert_eq!(elsewhere.verify(&[5; 9], &key), not_included(4));
        let other = VerifierKey::new("example.com/log", SigningKey::from_bytes(&[8; 32]).verifying_key()).unwrap();
        assert!(matches!(
            proof.verify(&[5; 9], &other),
            Err(LogFinding::LogCheckpointInvalid { .. })
        ));
    }

    #[test]
    fn what_is_no_proof_is_refused() {
        let (proof, _) = proof();
        let text = proof.text();
        for text in [
            "",
            &text.replace("@v1", "@v2"),
            &text.replace("index 5", "index 05"),
            &text.replace("index 5", "index -5"),
            &text.replace("index 5\n", ""),
            &text.replace("index 5\n", "index 5\nAAAA\n"),
            &text.replace(
                "index 5\n",
                &format!("index 5\n{}", "A".repeat(43).to_string() + "=\n").repeat(65),
            ),
            &text.replace("index 5\n", "extra ?\nindex 5\n"),
        ] {
            assert_eq!(Proof::read(text), None, "{text:?}");
        }
    }

    #[test]
    fn no_bit_of_a_proof_can_be_flipped() {
        let (proof, key) = proof();
        let text = proof.text();
        for bit in 0..text.len() * 8 {
            let mut bytes = text.as_bytes().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let Ok(text) = str::from_utf8(&bytes) else { continue };
            let verified = Proof::read(text).is_some_and(|proof| proof.verify(&[5; 9], &key).is_ok());
            assert!(!verified, "{bit}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_proof_or_not(text in "c2sp.org/tlog-proof@v1\n(extra |index |[0-9]|A{43}=|\n){0,12}") {
            let _ = Proof::read(&text);
        }
    }
}
