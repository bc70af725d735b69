//! Signatures: DSSE 1.0.2 (one envelope, one signature) in a Sigstore bundle of version 0.3.

use std::borrow::Cow;

use data_encoding::BASE64;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::model::{self, key::PublicKey};

/// The type of a payload that is an in-toto statement; cosign takes no other.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

/// Returns what is signed, the pre-authentication encoding of DSSE: the payload with its type and both lengths.
pub fn pae(payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// Returns the payload of what was to be signed; nothing where it is not the encoding of one.
pub fn payload_of(encoded: &[u8]) -> Option<&[u8]> {
    let head = format!("DSSEv1 {} {PAYLOAD_TYPE} ", PAYLOAD_TYPE.len());
    let rest = encoded.strip_prefix(head.as_bytes())?;
    let space = rest.iter().position(|byte| *byte == b' ')?;
    let payload = &rest[space + 1..];
    (pae(payload) == encoded).then_some(payload)
}

/// A payload and its signature by one key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bundle<'a> {
    pub payload: Cow<'a, [u8]>,
    pub signature: Vec<u8>,
    /// What names the key.
    pub key: String,
}

impl Bundle<'_> {
    /// Returns the text of the bundle.
    ///
    /// The payload, which may have dozens of MiB, is encoded in its place; base64 has nothing that JSON would escape.
    pub fn text(&self) -> String {
        const BEFORE: &str = "\"payload\": \"";
        let frame = self.frame();
        let start = frame.find(BEFORE).expect("the frame has room for a payload") + BEFORE.len();
        let mut text = String::with_capacity(frame.len() + BASE64.encode_len(self.payload.len()));
        text.push_str(&frame[..start]);
        BASE64.encode_append(&self.payload, &mut text);
        text.push_str(&frame[start..]);
        text
    }

    /// The text of the bundle without its payload.
    fn frame(&self) -> String {
        let signature = Signature {
            keyid: self.key.clone(),
            sig: BASE64.encode(&self.signature),
        };
        model::json(&Written {
            media_type: BUNDLE.into(),
            verification_material: Material {
                public_key: Hint { hint: self.key.clone() },
                tlog_entries: Vec::new(),
                timestamp_verification_data: None,
            },
            dsse_envelope: Envelope {
                payload: "".into(),
                payload_type: PAYLOAD_TYPE.into(),
                signatures: vec![signature],
            },
        })
    }

    /// Reads a bundle: exactly one signature, over an in-toto statement, whose key id is the hint. Nothing is verified.
    ///
    /// # Errors
    /// Why it is no such bundle.
    pub fn parse(text: &str) -> Result<Self, String> {
        Encoded::parse(text)?.decode()
    }

    /// Whether `key` has signed the payload.
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        key.verifies(&pae(&self.payload), &self.signature)
    }
}

/// A bundle whose payload is as it was written: it may have dozens of MiB.
#[derive(Debug)]
pub struct Encoded<'a> {
    payload: Cow<'a, str>,
    pub signature: Vec<u8>,
    /// What names the key.
    pub key: String,
}

impl<'a> Encoded<'a> {
    /// Reads a bundle as [`Bundle::parse`] does.
    ///
    /// # Errors
    /// Why it is no such bundle.
    pub fn parse(text: &'a str) -> Result<Self, String> {
        let written: Written<'a> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let envelope = written.dsse_envelope;
        same("media type", &written.media_type, BUNDLE)?;
        same("payload type", &envelope.payload_type, PAYLOAD_TYPE)?;
        let [signature] = envelope.signatures.as_slice() else {
            return Err(format!("it has {} signatures, expected 1", envelope.signatures.len()));
        };
        same(
            "key id",
            &signature.keyid,
            &written.verification_material.public_key.hint,
        )?;
        Ok(Self {
            payload: envelope.payload,
            signature: decode(&signature.sig)?,
            key: signature.keyid.clone(),
        })
    }

    /// Whether its payload is this one; nothing is decoded for it.
    pub fn is_of(&self, payload: &[u8]) -> bool {
        /// A multiple of what has no padding in base64, in bytes.
        const PIECE: usize = 3 << 14;
        let mut left = self.payload.as_bytes();
        let same = payload.chunks(PIECE).all(|piece| {
            let rest = left.strip_prefix(BASE64.encode(piece).as_bytes());
            left = rest.unwrap_or_default();
            rest.is_some()
        });
        same && left.is_empty()
    }

    /// Returns the bundle with its payload.
    ///
    /// # Errors
    /// A payload that is no base64.
    pub fn decode(self) -> Result<Bundle<'static>, String> {
        Ok(Bundle {
            payload: decode(&self.payload)?.into(),
            signature: self.signature,
            key: self.key,
        })
    }
}

fn decode(text: &str) -> Result<Vec<u8>, String> {
    BASE64.decode(text.as_bytes()).map_err(|error| error.to_string())
}

fn same(what: &str, found: &str, wanted: &str) -> Result<(), String> {
    match found == wanted {
        true => Ok(()),
        false => Err(format!("its {what} is {found:?}, expected {wanted:?}")),
    }
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Written<'a> {
    #[serde(borrow)]
    dsse_envelope: Envelope<'a>,
    media_type: String,
    verification_material: Material,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Material {
    public_key: Hint,
    /// Entries of a log and time stamps that somebody has added: they may be there, and are not read.
    #[expect(dead_code, reason = "they are not read")]
    #[serde(default, skip_serializing)]
    tlog_entries: Vec<IgnoredAny>,
    #[expect(dead_code, reason = "they are not read")]
    #[serde(default, skip_serializing)]
    timestamp_verification_data: Option<IgnoredAny>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Hint {
    hint: String,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Envelope<'a> {
    #[serde(borrow)]
    payload: Cow<'a, str>,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    keyid: String,
    sig: String,
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// The example of the DSSE specification's protocol.md, with our type in place of its own.
    #[test]
    fn what_is_signed_has_type_and_lengths_in_front() {
        assert_eq!(
            pae(b"hello world"),
            b"DSSEv1 28 application/vnd.in-toto+json 11 hello world"
        );
        assert_eq!(payload_of(&pae(b"hello world")), Some(&b"hello world"[..]));
        assert_eq!(
            payload_of(b"DSSEv1 28 application/vnd.in-toto+json 12 hello world"),
            None
        );
        assert_eq!(payload_of(b"DSSEv1 4 text 11 hello world"), None);
    }

    fn bundle() -> Bundle<'static> {
        Bundle {
            payload: b"{}".into(),
            signature: vec![1, 2, 3],
            key: "id".into(),
        }
    }

    #[test]
    fn a_bundle_is_read_as_it_was_written() {
        assert_eq!(Bundle::parse(&bundle().text()), Ok(bundle()));
    }

    #[test]
    fn a_payload_is_compared_as_it_is_written() {
        for length in [0, 1, 2, 3, 49_151, 49_152, 49_153, 200_000] {
            let payload = vec![7; length];
            let bundle = Bundle {
                payload: payload.as_slice().into(),
                ..bundle()
            };
            let text = bundle.text();
            let encoded = Encoded::parse(&text).unwrap();
            assert!(encoded.is_of(&payload), "{length}");
            assert!(!encoded.is_of(&[payload.as_slice(), b"x"].concat()), "{length}");
            assert!(length == 0 || !encoded.is_of(&payload[1..]), "{length}");
            assert!(length == 0 || !encoded.is_of(&vec![8; length]), "{length}");
            assert_eq!(encoded.decode().unwrap().payload, payload);
        }
    }

    #[test]
    fn a_bundle_has_the_text_that_all_our_json_has() {
        for payload in [&b""[..], b"{}", &[0xff; 4096]] {
            let bundle = Bundle {
                payload: payload.into(),
                ..bundle()
            };
            let value: Value = serde_json::from_str(&bundle.text()).unwrap();
            assert_eq!(bundle.text(), model::json_of(value));
        }
    }

    #[test]
    fn any_other_bundle_is_refused() {
        let text = bundle().text();
        let (open, one) = (
            "\"signatures\": [",
            "{\n        \"keyid\": \"id\",\n        \"sig\": \"AQID\"\n      }",
        );
        assert!(text.contains(one), "{text}");
        for (from, to, why) in [
            (one, String::new(), "it has 0 signatures, expected 1"),
            (open, format!("{open}{one},"), "it has 2 signatures, expected 1"),
            (
                "\"hint\": \"id\"",
                "\"hint\": \"other\"".into(),
                "its key id is \"id\", expected \"other\"",
            ),
            ("in-toto", "other".into(), "its payload type is"),
            ("v0.3", "v0.1".into(), "its media type is"),
            ("AQID", "AQI".into(), "invalid length"),
            (
                "\"keyid\": \"id\"",
                "\"keyid\": \"id\", \"keyid\": \"id\"".into(),
                "duplicate field",
            ),
            ("\"publicKey\"", "\"certificate\"".into(), "unknown field"),
        ] {
            let wrong = text.replacen(from, &to, 1);
            assert_ne!(wrong, text, "{from}");
            let error = Bundle::parse(&wrong).expect_err(from);
            assert!(error.contains(why), "{from}: {error}");
        }
    }
}
