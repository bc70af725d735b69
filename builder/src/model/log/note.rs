//! Signed notes: text with signatures under it (C2SP signed-note v1.0.0), of the kind 0x01, Ed25519.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE64, HEXLOWER};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use measure::Sha256;

/// A key that verifies notes: the name of who signs, and the public half.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VerifierKey {
    name: String,
    key: VerifyingKey,
}

/// Why a text is no note that the key has signed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NoteError {
    #[error("not a verifier key: expected NAME+ID+KEY, as begat log append prints it, found {0:?}")]
    NotAKey(String),
    #[error("not a name for a key: expected text without spaces and plus signs, found {0:?}")]
    NotAName(String),
    #[error("it is not a text with signatures under it")]
    NotANote,
    #[error("{0} did not sign it")]
    NotSigned(String),
    #[error("the signature of {0} is not of this text")]
    Forged(String),
}

/// Of a signature and of a key: Ed25519.
const KIND: u8 = 1;

/// No note has more signatures than that: who reads it tries each.
const SIGNATURES: usize = 64;

impl VerifierKey {
    /// Returns the key under this `name`.
    ///
    /// # Errors
    /// A name that no key can have.
    pub fn new(name: &str, key: VerifyingKey) -> Result<Self, NoteError> {
        let forbidden = |letter: char| letter.is_whitespace() || letter.is_control() || letter == '+';
        if name.is_empty() || name.contains(forbidden) {
            return Err(NoteError::NotAName(name.into()));
        }
        Ok(Self { name: name.into(), key })
    }

    /// Returns the name of who signs with the key.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the four bytes that a signature names the key by.
    fn id(&self) -> [u8; 4] {
        let digest = Sha256::of([self.name.as_bytes(), b"\n", &[KIND], self.key.as_bytes()].concat());
        let [a, b, c, d, ..] = *digest.bytes();
        [a, b, c, d]
    }

    /// Returns the text of a `note`, if the key has signed it. Signatures of other keys are not looked at.
    ///
    /// # Errors
    /// A note that is none, or that the key has not signed; one false signature of the key refuses it.
    pub fn open<'a>(&self, note: &'a str) -> Result<&'a str, NoteError> {
        if note.chars().any(|letter| letter < ' ' && letter != '\n') {
            return Err(NoteError::NotANote);
        }
        let end = note.rfind("\n\n").ok_or(NoteError::NotANote)?;
        let (text, lines) = (&note[..=end], &note[end + 2..]);
        let lines = lines.strip_suffix('\n').ok_or(NoteError::NotANote)?;
        let mut signed = false;
        for (at, line) in lines.split('\n').enumerate() {
            let (name, bytes) = signature(line).filter(|_| at < SIGNATURES).ok_or(NoteError::NotANote)?;
            let (id, bytes) = bytes.split_first_chunk().ok_or(NoteError::NotANote)?;
            if name == self.name && *id == self.id() {
                self.verify(text, bytes)?;
                signed = true;
            }
        }
        signed
            .then_some(text)
            .ok_or_else(|| NoteError::NotSigned(self.name.clone()))
    }

    fn verify(&self, text: &str, signature: &[u8]) -> Result<(), NoteError> {
        let forged = |_| NoteError::Forged(self.name.clone());
        let signature = Signature::from_slice(signature).map_err(forged)?;
        // not `verify`: that takes keys and signatures of small order, which are good for many texts
        self.key.verify_strict(text.as_bytes(), &signature).map_err(forged)
    }
}

/// Returns name and signature of a line.
fn signature(line: &str) -> Option<(&str, Vec<u8>)> {
    let (name, signature) = line.strip_prefix("— ")?.split_once(' ')?;
    let signature = BASE64.decode(signature.as_bytes()).ok()?;
    (!name.is_empty()).then_some((name, signature))
}

/// Returns the note with this `text`, which must end a line, signed under this `name`.
///
/// # Errors
/// A name that no key can have.
pub fn sign(text: &str, name: &str, key: &SigningKey) -> Result<String, NoteError> {
    let verifier = VerifierKey::new(name, key.verifying_key())?;
    let signature = [&verifier.id()[..], &key.sign(text.as_bytes()).to_bytes()].concat();
    Ok(format!("{text}\n— {name} {}\n", BASE64.encode(&signature)))
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[KIND], &self.key.as_bytes()[..]].concat();
        write!(
            f,
            "{}+{}+{}",
            self.name,
            HEXLOWER.encode(&self.id()),
            BASE64.encode(&key)
        )
    }
}

impl FromStr for VerifierKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let read = || {
            let (name, rest) = text.split_once('+')?;
            let (id, key) = rest.split_once('+')?;
            let key = BASE64.decode(key.as_bytes()).ok()?;
            let (KIND, key) = key.split_first().map(|(kind, key)| (*kind, key))? else {
                return None;
            };
            let key = VerifyingKey::from_bytes(key.try_into().ok()?).ok()?;
            let key = Self::new(name, key).ok()?;
            (HEXLOWER.encode(&key.id()) == id).then_some(key)
        };
        read().ok_or_else(|| NoteError::NotAKey(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The example in C2SP signed-note v1.0.0.
    const KEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    const NOTE: &str = "This is an example message.\n\n— example.com/foo \
        Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

    fn key() -> VerifierKey {
        KEY.parse().unwrap()
    }

    #[test]
    fn the_example_of_the_specification_is_signed() {
        assert_eq!(key().open(NOTE), Ok("This is an example message.\n"));
        assert_eq!(key().to_string(), KEY);
    }

    #[test]
    fn a_note_is_signed_by_who_is_asked_for_or_not_at_all() {
        let other = SigningKey::from_bytes(&[7; 32]);
        let note = sign("text\n\nmore\n", "example.com/bar", &other).unwrap();
        let bar = VerifierKey::new("example.com/bar", other.verifying_key()).unwrap();
        assert_eq!(bar.open(&note), Ok("text\n\nmore\n"));
        assert_eq!(key().open(&note), Err(NoteError::NotSigned("example.com/foo".into())));
        // another key under the name: its id is another, too
        let foo = VerifierKey::new("example.com/foo", other.verifying_key()).unwrap();
        assert_eq!(foo.open(NOTE), Err(NoteError::NotSigned("example.com/foo".into())));
        // signatures of others are left alone
        let both = format!("{NOTE}{}", &note[note.rfind('—').unwrap()..]);
        assert_eq!(key().open(&both), Ok("This is an example message.\n"));
        assert_eq!(bar.open(&both), Err(NoteError::Forged("example.com/bar".into())));
    }

    #[test]
    fn what_is_no_note_is_refused() {
        let line = &NOTE[NOTE.find('—').unwrap()..];
        for note in [
            "",
            "\n\n",
            "text\n\n",
            line,
            NOTE.trim_end(),
            &NOTE.replace(" message", "\tmessage"),
            &NOTE.replace("— ", "- "),
            &format!("{NOTE}— example.com/foo AAAA\n"),
            &format!("{NOTE}{}", "— a AAAAAAA=\n".repeat(64)),
        ] {
            assert_eq!(key().open(note), Err(NoteError::NotANote), "{note:?}");
        }
    }

    #[test]
    fn keys_are_what_they_say() {
        for text in [
            "",
            "example.com/foo",
            &KEY.replace("530d903a", "530d903b"),
            &KEY.replace("foo", "bar"),
            &KEY.replace("+Aek", "+Bek"),
            &KEY.replace("foo", "f o"),
        ] {
            assert_eq!(text.parse::<VerifierKey>(), Err(NoteError::NotAKey(text.into())));
        }
        let key = SigningKey::from_bytes(&[7; 32]).verifying_key();
        for name in ["", "a b", "a+b", "a\nb", "a\u{2003}b"] {
            assert_eq!(VerifierKey::new(name, key), Err(NoteError::NotAName(name.into())));
        }
    }

    #[test]
    fn no_bit_of_a_note_can_be_flipped() {
        for bit in 0..NOTE.len() * 8 {
            let mut bytes = NOTE.as_bytes().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let opened = str::from_utf8(&bytes).ok().map(|note| key().open(note).is_ok());
            assert_ne!(opened, Some(true), "{bit}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_note_or_not(text in "(— |a|\n|[A-Za-z0-9+/=]){0,40}") {
            let _ = key().open(&text);
            let _ = text.parse::<VerifierKey>();
        }
    }
}
