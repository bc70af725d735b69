//! Checkpoints: which tree a log has (C2SP tlog-checkpoint).

use data_encoding::BASE64;
use ed25519_dalek::SigningKey;
use measure::Sha256;

use super::note::{self, NoteError, VerifierKey};

/// The head of the tree of a log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Checkpoint {
    /// What names the log; its key has the same name.
    pub origin: String,
    /// How many entries there are.
    pub size: u64,
    /// What they hash to.
    pub root: Sha256,
}

impl Checkpoint {
    /// Returns the checkpoint in a `note` that the `key` has signed, whose name must be the origin.
    ///
    /// # Errors
    /// Why it is none, in words.
    pub fn open(note: &str, key: &VerifierKey) -> Result<Self, String> {
        let text = key.open(note).map_err(|error| error.to_string())?;
        let checkpoint = Self::read(text).ok_or("its text is not origin, size and root")?;
        if checkpoint.origin != key.name() {
            return Err(format!(
                "it is of the log {:?}, the key is of {:?}",
                checkpoint.origin,
                key.name()
            ));
        }
        Ok(checkpoint)
    }

    /// Returns the checkpoint in a `note`, whoever signed it.
    pub fn unverified(note: &str) -> Option<Self> {
        let end = note.rfind("\n\n")?;
        Self::read(&note[..=end])
    }

    fn read(text: &str) -> Option<Self> {
        let mut lines = text.strip_suffix('\n')?.split('\n');
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        let number: u64 = size.parse().ok()?;
        // extensions: no auditor of a log can check them
        let plain = lines.all(|line| !line.is_empty()) && !origin.is_empty() && number.to_string() == size;
        let root = BASE64.decode(root.as_bytes()).ok()?;
        plain.then_some(Self {
            origin: origin.into(),
            size: number,
            root: <[u8; 32]>::try_from(root).ok()?.into(),
        })
    }

    /// Returns the note that the log publishes.
    ///
    /// # Errors
    /// An origin that cannot name a key.
    pub fn sign(&self, key: &SigningKey) -> Result<String, NoteError> {
        let root = BASE64.encode(self.root.bytes());
        note::sign(&format!("{}\n{}\n{root}\n", self.origin, self.size), &self.origin, key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example in C2SP tlog-checkpoint. Its key is nowhere to be found.
    const NOTE: &str = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\
        — example.com/behind-the-sofa \
        Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n";

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[7; 32])
    }

    #[test]
    fn the_example_of_the_specification_is_read_and_written() {
        let checkpoint = Checkpoint::unverified(NOTE).unwrap();
        assert_eq!(checkpoint.origin, "example.com/behind-the-sofa");
        assert_eq!(checkpoint.size, 20_852_163);
        assert_eq!(
            checkpoint.root.to_string(),
            "0ac5186a91863e8e1d90c808014aa89bf5da8e3ee1d9f07630f0378f68f1ab62"
        );
        let ours = checkpoint.sign(&key()).unwrap();
        assert_eq!(ours.split("\n\n").next(), NOTE.split("\n\n").next());
    }

    #[test]
    fn a_checkpoint_is_what_the_log_itself_signed() {
        let name = |name| VerifierKey::new(name, key().verifying_key()).unwrap();
        let checkpoint = Checkpoint {
            origin: "example.com/log".into(),
            size: 0,
            root: Sha256::of([]),
        };
        let note = checkpoint.sign(&key()).unwrap();
        assert_eq!(
            Checkpoint::open(&note, &name("example.com/log")),
            Ok(checkpoint.clone())
        );
        assert!(Checkpoint::open(&note, &name("example.com/other")).is_err());
        let other = note::sign(
            note.split_inclusive("\n\n").next().unwrap().trim_end_matches("\n\n"),
            "x",
            &key(),
        );
        assert!(Checkpoint::open(&other.unwrap(), &name("x")).is_err());
        for text in [
            "a\n01\nR\n",
            "a\n+1\nR\n",
            "\n1\nR\n",
            "a\n1\n\n",
            "a\n1\n",
            "a\n1\nR\n\nmore\n",
            "a\n1\nRA==\n",
        ] {
            let text = text.replace('R', "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=");
            assert_eq!(Checkpoint::read(&text), None, "{text:?}");
        }
        assert!(Checkpoint::read("a\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\nmore\n").is_some());
    }
}
