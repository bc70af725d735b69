use std::string::{String, ToString as _};
use std::vec::Vec;

use p384::ecdsa::signature::hazmat::PrehashVerifier as _;
use p384::ecdsa::{Signature, VerifyingKey};
use p384::{EncodedPoint, FieldBytes};

use super::*;

/// The key of RFC 6979, section A.2.6: it protects nothing.
pub(super) const PKCS8: &str = "\
-----BEGIN PRIVATE KEY-----
MIG2AgEAMBAGByqGSM49AgEGBSuBBAAiBIGeMIGbAgEBBDBrnT2tLhuMHAWxmHW2
ZZ9N4jw7Znvyl7qapHdAeHE32JbVck5McKgl+HLJ6mDS7fWhZANiAATsOk5BW04Z
pFaGGAKfQn+l2pqLxK6S4C4GquUoazAMZN748OqQVYZgZKJUUVSAvBOAFdm3LX1X
JE6o75rAxiGJZwilk2f537n1TKhLPxydsSiLIxw64NT+c0T9JTMmRyA=
-----END PRIVATE KEY-----
";

/// The same key, as `openssl ecparam -genkey` writes keys.
const SEC1: &str = "\
-----BEGIN EC PARAMETERS-----
BgUrgQQAIg==
-----END EC PARAMETERS-----
-----BEGIN EC PRIVATE KEY-----
MIGkAgEBBDBrnT2tLhuMHAWxmHW2ZZ9N4jw7Znvyl7qapHdAeHE32JbVck5McKgl
+HLJ6mDS7fWgBwYFK4EEACKhZANiAATsOk5BW04ZpFaGGAKfQn+l2pqLxK6S4C4G
quUoazAMZN748OqQVYZgZKJUUVSAvBOAFdm3LX1XJE6o75rAxiGJZwilk2f537n1
TKhLPxydsSiLIxw64NT+c0T9JTMmRyA=
-----END EC PRIVATE KEY-----
";

fn key() -> IdKey {
    IdKey::from_pem(PKCS8).unwrap()
}

fn block(launch: &str) -> IdBlock {
    let identity = Identity {
        family_id: [1; 16].into(),
        image_id: [2; 16].into(),
        guest_svn: 3,
        policy: GuestPolicy::DEFAULT,
    };
    IdBlock::new(Sha384::of(launch), &identity)
}

/// Whether the signature at one offset of an ID authentication is that of `message` under the key at another.
fn is_signed(auth: &IdAuth, signature: usize, key: usize, message: &[u8]) -> bool {
    let number = |at: usize| -> [u8; 48] {
        let mut bytes: Vec<u8> = auth.as_bytes()[at..at + 48].into();
        bytes.reverse();
        bytes.try_into().unwrap()
    };
    let coordinate = |at| FieldBytes::from(number(at));
    let point = EncodedPoint::from_affine_coordinates(&coordinate(key + 4), &coordinate(key + 0x4c), false);
    let signature = Signature::from_scalars(number(signature), number(signature + 72)).unwrap();
    let key = VerifyingKey::from_encoded_point(&point).unwrap();
    key.verify_prehash(Sha384::of(message).bytes(), &signature).is_ok()
}

/// Offsets from the tables of the specification.
#[test]
fn both_signatures_hold_and_hold_for_nothing_else() {
    let block = block("launch");
    let auth = IdAuth::signed(&block, &key()).with_author(&key());
    assert!(is_signed(&auth, 0x40, 0x240, block.as_bytes()));
    assert!(is_signed(&auth, 0x680, 0x880, &auth.as_bytes()[0x240..0x644]));
    let mut tampered: Vec<u8> = block.as_bytes().into();
    for at in 0..tampered.len() {
        tampered[at] ^= 1;
        assert!(!is_signed(&auth, 0x40, 0x240, &tampered), "byte {at}");
        tampered[at] ^= 1;
    }
    assert!(!is_signed(&auth, 0x680, 0x880, &auth.as_bytes()[0x240..0x643]));
}

#[test]
fn the_same_block_is_signed_the_same() {
    let auth = |key: &IdKey| IdAuth::signed(&block("launch"), key).to_string();
    assert_eq!(auth(&key()), auth(&IdKey::from_pem(SEC1).unwrap()));
}

/// Value of sev-snp-measure 0.0.13 (`id_block.pub_to_digest`).
#[test]
fn one_key_has_one_digest_for_every_block() {
    let digests = ["one", "another"].map(|launch| IdAuth::signed(&block(launch), &key()).id_key_digest());
    assert_eq!(digests[0], digests[1]);
    assert_eq!(
        digests[0].to_string(),
        "c82b87995cee050c98271728955809072da07aa8d48252f4a9b85e208d9487a659defd62868a10a46c0252fa230a3452"
    );
    let auth = IdAuth::signed(&block("one"), &key());
    assert_eq!(auth.author_key_digest(), None);
    assert_eq!(auth.with_author(&key()).author_key_digest(), Some(digests[0]));
}

#[test]
fn without_a_key_every_block_has_its_own() {
    let auth = |launch| IdAuth::key_less(&block(launch));
    for launch in ["one", "another", ""] {
        let signed = |block: &IdBlock| is_signed(&auth(launch), 0x40, 0x240, block.as_bytes());
        assert!(signed(&block(launch)) && !signed(&block("tampered")));
        assert_eq!(auth(launch).as_bytes()[0x40], 2);
        assert_eq!(auth(launch).as_bytes()[0x88], 1);
    }
    assert_eq!(auth("one").to_string(), auth("one").to_string());
    assert_ne!(auth("one").id_key_digest(), auth("another").id_key_digest());
}

#[test]
fn a_block_is_its_fields() {
    let bytes = block("launch").as_bytes().to_vec();
    let rest = [[1; 16], [2; 16]].concat();
    assert_eq!(bytes[..48], *Sha384::of("launch").bytes());
    assert_eq!(bytes[48..80], rest);
    assert_eq!(bytes[80..], [1, 0, 0, 0, 3, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0]);
    assert_eq!(block("launch").to_string().len(), 128);
}

#[test]
fn what_is_no_key_is_refused() {
    let refusal = |text: &str| IdKey::from_pem(text).err();
    let public: String = PKCS8.replace("PRIVATE", "PUBLIC");
    assert_eq!(refusal(&public), Some(NotAnIdKey::NoPrivateKey));
    let encrypted = PKCS8.replace("PRIVATE", "ENCRYPTED PRIVATE");
    assert_eq!(refusal(&encrypted), Some(NotAnIdKey::Encrypted));
    for (from, to) in [("AiBI", "BiBI"), ("MIG2", "MIG3"), ("-----END", "")] {
        assert_eq!(refusal(&PKCS8.replace(from, to)), Some(NotAnIdKey::Other), "{from}");
    }
    assert_eq!(refusal(&SEC1.replace("BBDB", "BBDC")), Some(NotAnIdKey::Other));
}
