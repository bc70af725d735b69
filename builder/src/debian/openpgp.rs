//! Cleartext-signed files: what is believed of an `InRelease` is exactly the text that a key of the keyring signed.

use std::collections::BTreeSet;

use anyhow::Result;
use jiff::Timestamp;
use pgp::composed::{CleartextSignedMessage, Deserializable as _, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType, SubpacketData};
use pgp::types::{KeyDetails, Tag};

use crate::mend::{Exit, OrMend as _};

/// Public keys whose signatures are believed.
#[derive(Debug)]
pub struct Keyring(Vec<SignedPublicKey>);

/// Text that a key of the keyring signed. Only [`Keyring::verify`] makes one.
#[derive(Debug)]
pub struct Signed {
    text: String,
    signed_by: Vec<String>,
}

/// The first line of a cleartext-signed file; nothing may come before it.
const BEGIN: &str = "-----BEGIN PGP SIGNED MESSAGE-----";

/// Where these come from, and how to check that, is in `keys/README.md`.
const DEBIAN: [&[u8]; 6] = [
    include_bytes!("keys/debian-archive-bookworm-automatic.asc"),
    include_bytes!("keys/debian-archive-bookworm-security-automatic.asc"),
    include_bytes!("keys/debian-archive-bookworm-stable.asc"),
    include_bytes!("keys/debian-archive-trixie-automatic.asc"),
    include_bytes!("keys/debian-archive-trixie-security-automatic.asc"),
    include_bytes!("keys/debian-archive-trixie-stable.asc"),
];

/// SHA-1 and MD5 can be collided: whoever can have one text signed could show another.
const HASHES: [HashAlgorithm; 5] = [
    HashAlgorithm::Sha256,
    HashAlgorithm::Sha384,
    HashAlgorithm::Sha512,
    HashAlgorithm::Sha3_256,
    HashAlgorithm::Sha3_512,
];

const MEND: &str = "try another mirror: --mirror, or mirrors of the suite in recipe.toml; \
    for an archive that is not Debian's, name its keyring there";

impl Signed {
    /// The signed text, with plain line feeds, without blanks at the ends of lines.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Fingerprints of the primary keys whose signatures verified, sorted.
    pub fn signed_by(&self) -> &[String] {
        &self.signed_by
    }
}

impl Keyring {
    /// Returns the keys of Debian's archives.
    ///
    /// # Errors
    /// Never, as a test shows: the keys are part of the program.
    pub fn debian() -> Result<Self> {
        let keyrings = DEBIAN.into_iter().map(|keys| Self::parse("Debian's keyring", keys));
        let keys = keyrings.map(|keyring| keyring.map(|keyring| keyring.0));
        Ok(Self(keys.collect::<Result<Vec<_>>>()?.concat()))
    }

    /// Reads the keys of a file, binary or armoured; `file` is its name in messages.
    ///
    /// # Errors
    /// Bytes that are no keyring, and one without keys.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self> {
        let problem = format!("cannot read OpenPGP keys from {file}");
        let mend = "give public keys as gpg --export writes them";
        let keys = SignedPublicKey::from_reader_many_buf(bytes)
            .and_then(|(keys, _)| keys.collect::<pgp::errors::Result<Vec<_>>>());
        let keys = keys.or_mend(Exit::Usage, &problem, mend)?;
        if keys.is_empty() {
            return Err(Exit::Usage.because(problem, mend));
        }
        Ok(Self(keys))
    }

    /// Returns the signed text of a cleartext-signed file; `name` is its name in messages.
    ///
    /// At least one key that may sign, and has neither expired nor been revoked at `now`, must have signed the text.
    ///
    /// # Errors
    /// A file that is anything but one signed message, and one that no key of the keyring signed.
    pub fn verify(&self, name: &str, file: &[u8], now: Timestamp) -> Result<Signed> {
        let problem = || format!("cannot read {name} as a signed message");
        let text = str::from_utf8(file).or_mend(Exit::LockMismatch, problem(), MEND)?;
        if !text.starts_with(BEGIN) {
            return Err(Exit::LockMismatch.because(format!("{name} does not begin with {BEGIN:?}"), MEND));
        }
        let (message, _) = CleartextSignedMessage::from_string(text).or_mend(Exit::LockMismatch, problem(), MEND)?;
        let text = message.signed_text();
        let signed_by = self.signers(message.signatures(), &text, now);
        if signed_by.is_empty() {
            let problem = format!("no key of the keyring has signed {name}");
            return Err(Exit::LockMismatch.because(problem, MEND));
        }
        let text = text.replace("\r\n", "\n");
        Ok(Signed { text, signed_by })
    }

    fn signers(&self, signatures: &[Signature], text: &str, now: Timestamp) -> Vec<String> {
        let sound = signatures
            .iter()
            .filter(|signature| is_sound(signature, SignatureType::Text, now));
        let sound: Vec<_> = sound.collect();
        let has_signed = |key: &&SignedPublicKey| sound.iter().any(|signature| has_signed(key, signature, text, now));
        let fingerprints = self
            .0
            .iter()
            .filter(has_signed)
            .map(|key| format!("{:X}", key.fingerprint()));
        fingerprints.collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// Whether the primary key, or a subkey bound to it, has signed `text` and may do so.
fn has_signed(key: &SignedPublicKey, signature: &Signature, text: &str, now: Timestamp) -> bool {
    let primary = || signature.verify(&key.primary_key, text.as_bytes()).is_ok();
    let subkey = |subkey: &&SignedPublicSubKey| signature.verify(&subkey.key, text.as_bytes()).is_ok();
    let revoked = |signature: &Signature| signature.verify_key(&key.primary_key).is_ok();
    let Some(certification) = self_certification(key, now) else {
        return false;
    };
    if key.details.revocation_signatures.iter().any(revoked) || has_expired(&key.primary_key, certification, now) {
        return false;
    }
    certification.key_flags().sign() && primary()
        || key
            .public_subkeys
            .iter()
            .filter(subkey)
            .any(|subkey| may_sign(key, subkey, now))
}

/// The newest signature by which the key says what it is; those that only name who may revoke it do not.
fn self_certification(key: &SignedPublicKey, now: Timestamp) -> Option<&Signature> {
    let certifies = |signature: &Signature| {
        let types = [
            SignatureType::CertGeneric,
            SignatureType::CertPersona,
            SignatureType::CertCasual,
        ];
        let mut types = types.into_iter().chain([SignatureType::CertPositive]);
        types.any(|wanted| is_sound(signature, wanted, now))
    };
    let users = key.details.users.iter().flat_map(|user| {
        let valid = move |signature: &&Signature| {
            let user = signature.verify_certification(&key.primary_key, Tag::UserId, &user.id);
            certifies(signature) && user.is_ok()
        };
        user.signatures.iter().filter(valid)
    });
    let direct = key.details.direct_signatures.iter().filter(|signature| {
        let valid = || signature.verify_key(&key.primary_key).is_ok();
        is_sound(signature, SignatureType::Key, now) && signature.revocation_key().is_none() && valid()
    });
    users.chain(direct).max_by_key(|signature| signature.created())
}

/// Whether the subkey is bound to the key, agrees to that, may sign, and is neither revoked nor expired.
fn may_sign(key: &SignedPublicKey, subkey: &SignedPublicSubKey, now: Timestamp) -> bool {
    let bound = |signature: &&Signature| signature.verify_subkey_binding(&key.primary_key, &subkey.key).is_ok();
    let valid = || subkey.signatures.iter().filter(bound);
    if valid().any(|signature| signature.typ() == Some(SignatureType::SubkeyRevocation)) {
        return false;
    }
    let binding = valid().filter(|signature| is_sound(signature, SignatureType::SubkeyBinding, now));
    binding
        .max_by_key(|signature| signature.created())
        .is_some_and(|binding| {
            let agrees = |back: &Signature| {
                let agreed = back.verify_primary_key_binding(&subkey.key, &key.primary_key);
                is_sound(back, SignatureType::KeyBinding, now) && agreed.is_ok()
            };
            let flags = binding.key_flags();
            flags.sign() && binding.embedded_signature().is_some_and(agrees) && !has_expired(&subkey.key, binding, now)
        })
}

fn has_expired(key: &impl KeyDetails, binding: &Signature, now: Timestamp) -> bool {
    let lifetime = binding.key_expiration_time().map_or(0, |lifetime| lifetime.as_secs());
    is_past(key.created_at().as_secs(), lifetime, now)
}

/// Whether `lifetime` seconds after `start` are over; a lifetime of zero has no end.
fn is_past(start: u32, lifetime: u32, now: Timestamp) -> bool {
    lifetime != 0 && i64::from(start) + i64::from(lifetime) <= now.as_second()
}

/// Whether a signature is of the wanted type, made before now with a strong hash, not expired, and fully understood.
fn is_sound(signature: &Signature, wanted: SignatureType, now: Timestamp) -> bool {
    let Some(config) = signature.config() else {
        return false;
    };
    let lifetime = signature
        .signature_expiration_time()
        .map_or(0, |lifetime| lifetime.as_secs());
    let fresh =
        |created: u32| i64::from(created) <= now.as_second() + CLOCKS_DIFFER && !is_past(created, lifetime, now);
    config.typ() == wanted
        && HASHES.contains(&config.hash_alg)
        && signature.created().is_some_and(|created| fresh(created.as_secs()))
        && config
            .hashed_subpackets()
            .all(|packet| !packet.is_critical || is_understood(&packet.data))
}

/// RFC 9580, 5.2.3.7: a signature with a critical subpacket that we do not know is in error.
fn is_understood(data: &SubpacketData) -> bool {
    let unknown = matches!(data, SubpacketData::Experimental(..) | SubpacketData::Other(..));
    !unknown && !matches!(data, SubpacketData::Notation(_))
}

/// How far a clock may be behind the signer's, in seconds.
const CLOCKS_DIFFER: i64 = 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_keys_of_debian_are_those_of_the_table() {
        let table = include_str!("keys/README.md");
        let keyring = Keyring::debian().unwrap();
        let now = "2026-11-22T00:00:00Z".parse().unwrap();
        assert_eq!(keyring.0.len(), 6);
        for key in &keyring.0 {
            assert!(table.contains(&format!("`{:X}`", key.fingerprint())));
            let certification = self_certification(key, now).unwrap();
            assert!(certification.key_flags().sign());
            assert!(!has_expired(&key.primary_key, certification, now));
            assert!(key.public_subkeys.iter().all(|subkey| may_sign(key, subkey, now)));
        }
    }

    #[test]
    fn an_expired_key_may_not_sign() {
        let keyring = Keyring::debian().unwrap();
        let later = "2040-01-01T00:00:00Z".parse().unwrap();
        for key in &keyring.0 {
            assert!(has_expired(
                &key.primary_key,
                self_certification(key, later).unwrap(),
                later
            ));
            assert!(!key.public_subkeys.iter().any(|subkey| may_sign(key, subkey, later)));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_verified_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[-\nA-z ]*") {
            let keyring = Keyring::debian().unwrap();
            let base64 = data_encoding::BASE64.encode(&bytes);
            let armour = |kind: &str| format!("-----BEGIN PGP {kind}-----\n\n{base64}\n-----END PGP {kind}-----\n");
            let message = format!("{BEGIN}\nHash: SHA512\n\n{text}\n{}", armour("SIGNATURE"));
            prop_assert!(keyring.verify("InRelease", &bytes, Timestamp::UNIX_EPOCH).is_err());
            prop_assert!(keyring.verify("InRelease", message.as_bytes(), Timestamp::UNIX_EPOCH).is_err());
            let _ = Keyring::parse("keyring", &bytes);
            let _ = Keyring::parse("keyring", armour("PUBLIC KEY BLOCK").as_bytes());
        }
    }
}
