//! `record.json`, the generation record: the small object that ties a release to its statements, its key and its
//! parent. It is what evidence binds and what a log stores.
//!
//! A record has one text only, the canonical one of RFC 8785, so that whoever parses and writes it anew hashes the same
//! bytes: a Trustee attestation service does, when given the record as structured runtime data.

use std::collections::BTreeMap;

use anyhow::Result;
use data_encoding::BASE64;
use jiff::Timestamp;
use measure::{Sha256, Sha384};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::key::PublicKey;
use super::release::{FileName, Manifest};
use crate::mend::{Exit, OrMend as _};

/// The name of the record in a release.
pub use super::file::RECORD;

/// The version of the format that this begat writes and reads.
const VERSION: u32 = 1;

/// What a generation is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Record {
    /// The build, as its provenance names it.
    pub build: Uuid,
    #[serde(flatten)]
    pub terms: Terms,
    /// The digest of the lock.
    pub lock: Sha256,
    /// The digest of `measurements.json`: what was predicted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measurements: Option<Sha256>,
    /// The key that signs the statements: its SPKI in DER, as base64.
    pub public_key: String,
    /// The digest of the recipe's folder.
    pub recipe: Sha256,
    /// The digest of the manifest, which names the release.
    pub release: Sha256,
    /// The digest of each bill of materials.
    pub sbom: BTreeMap<FileName, Sha256>,
    /// The statements about the release, that of its provenance first.
    pub statements: Vec<Named>,
    version: u32,
}

/// What the one who signs decides about a generation.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Terms {
    /// How evidence binds this record; evidence that binds it another way does not count.
    pub binding: Binding,
    /// The digest of the job that the builder was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<Sha256>,
    /// The number of the generation; 0 is built by nobody who was attested.
    pub generation: u32,
    /// The digest of the record of the generation that this one was built in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Sha384>,
    /// When the release begins to be valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// The last instant at which it is valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Timestamp>,
}

/// A statement by the digest of its text.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    pub name: String,
    pub sha256: Sha256,
}

/// How evidence binds a record.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Binding {
    /// SHA-384 of the canonical text, padded with zeros to 64 bytes: the rule of the KBS protocol. A TPM quote carries
    /// the 48 bytes as they are.
    #[default]
    Sha384,
    /// The 64 lower-case hex characters of the SHA-256 of the canonical text, for guest components older than 0.21.
    Sha256Hex,
}

impl Record {
    /// Returns the record of the release with this manifest, made by this build and signed with this key.
    pub fn new(manifest: &Manifest, build: Uuid, terms: Terms, key: &PublicKey, statements: Vec<Named>) -> Self {
        let origin = &manifest.origin;
        let files = manifest.files.iter().map(|(name, stamp)| (name.clone(), stamp.sha256));
        let measurements = files.clone().find(|(name, _)| name.as_str() == "measurements.json");
        let sbom = files.filter(|(name, _)| name.as_str().starts_with("sbom."));
        Self {
            build,
            terms,
            lock: origin.lock,
            measurements: measurements.map(|(_, sha256)| sha256),
            public_key: key_text(key),
            recipe: origin.recipe,
            release: manifest.digest(),
            sbom: sbom.collect(),
            statements,
            version: VERSION,
        }
    }

    /// Reads the text of a record.
    ///
    /// # Errors
    /// Text that is no record, not the canonical one, or of an unknown version.
    pub fn parse(text: &str) -> Result<Self> {
        const MEND: &str = "fetch the release again, or sign it anew: begat sign RELEASE --force";
        let record: Self = serde_json::from_str(text).or_mend(Exit::No, "cannot read record.json", MEND)?;
        if record.version != VERSION {
            let problem = format!("record.json has version {}, this begat reads {VERSION}", record.version);
            return Err(Exit::Unsupported.because(problem, "use the begat that wrote it"));
        }
        if record.text() != text {
            return Err(Exit::No.because("record.json is not in its canonical form, that of RFC 8785", MEND));
        }
        Ok(record)
    }

    /// Returns the one text that this record has.
    pub fn text(&self) -> String {
        canonical(self)
    }

    /// Returns the digest that names the record.
    pub fn digest(&self) -> Sha384 {
        Sha384::of(self.text())
    }

    /// Returns the key that signs the statements.
    ///
    /// # Errors
    /// Text that is no such key.
    pub fn key(&self) -> Result<PublicKey> {
        let spki = BASE64.decode(self.public_key.as_bytes());
        let none = |_| Exit::No.because("the key of record.json is no base64", "sign the release anew");
        PublicKey::from_spki(&spki.map_err(none)?)
    }

    /// Returns what evidence carries that binds this record.
    pub fn report_data(&self) -> [u8; 64] {
        self.terms.binding.report_data(&self.text())
    }
}

impl Binding {
    /// Every way there is.
    pub const ALL: [Self; 2] = [Self::Sha384, Self::Sha256Hex];

    /// Returns how files name this way.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha384 => "sha384",
            Self::Sha256Hex => "sha256-hex",
        }
    }

    /// Returns the bytes that bind this canonical text, 48 or 64: a TPM quote carries them as they are.
    pub fn data(self, text: &str) -> Vec<u8> {
        match self {
            Self::Sha384 => Sha384::of(text).bytes().to_vec(),
            Self::Sha256Hex => Sha256::of(text).to_string().into_bytes(),
        }
    }

    /// Returns the 64 bytes that a report or a TDX quote carries that binds this canonical text.
    pub fn report_data(self, text: &str) -> [u8; 64] {
        let (mut report_data, data) = ([0; 64], self.data(text));
        report_data[..data.len()].copy_from_slice(&data);
        report_data
    }
}

/// Returns a key as records and requests have it: its SPKI in DER, as base64.
pub(super) fn key_text(key: &PublicKey) -> String {
    BASE64.encode(&key.spki())
}

/// Returns the canonical text of RFC 8785.
pub(super) fn canonical(value: &impl Serialize) -> String {
    serde_json_canonicalizer::to_string(value).expect("keys are text and no number is infinite")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::key::SigningKey;
    use crate::model::release::{Origin, Stamp};

    /// The vector of `parse_runtime_data` in Trustee's attestation service: SHA-384 of the canonical text.
    #[test]
    fn the_binding_is_that_of_the_kbs_protocol() {
        let text = canonical(&json!({"b": 1, "a": "test", "c": {"d": "e"}}));
        assert_eq!(text, r#"{"a":"test","b":1,"c":{"d":"e"}}"#);
        let data = Binding::Sha384.report_data(&text);
        assert_eq!(
            data_encoding::HEXLOWER.encode(&data),
            "e71ce8e70d814ba6639c3612ebee0ff1f76f650f8dbb5e47157e0f3f525cd22c4597480a186427c813ca941da78870c3\
             00000000000000000000000000000000"
        );
    }

    /// SHA-256 of "abc": FIPS 180-4.
    #[test]
    fn old_guest_components_bind_text() {
        assert_eq!(
            &Binding::Sha256Hex.report_data("abc"),
            b"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    fn record() -> Record {
        let digest = Sha256::of("x");
        let named = |name: &str| Named {
            name: name.into(),
            sha256: digest,
        };
        let terms = Terms {
            generation: 3,
            previous: Some(Sha384::of("previous")),
            not_after: Some("2027-01-01T00:00:00Z".parse().unwrap()),
            ..Terms::default()
        };
        let origin = Origin {
            name: "minimal".to_owned().try_into().unwrap(),
            epoch: Timestamp::UNIX_EPOCH,
            recipe: digest,
            lock: digest,
        };
        let stamp = Stamp {
            sha256: digest,
            size: 1,
        };
        let files = ["measurements.json", "sbom.spdx.json", "vmlinuz"];
        let files = files.map(|name| (FileName::try_from(name.to_owned()).unwrap(), stamp));
        let manifest = Manifest {
            origin,
            files: files.into(),
        };
        let key = SigningKey::from_random([1; 32]).unwrap().public();
        Record::new(
            &manifest,
            Uuid::nil(),
            terms,
            &key,
            vec![named("provenance"), named("alpha")],
        )
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let text = record().text();
        assert_eq!(Record::parse(&text).unwrap(), record());
        assert!(!text.contains("vmlinuz"), "{text}");
        assert!(text.contains(r#""generation":3,"lock":"#), "{text}");
        assert!(text.contains(r#""not-after":"2027-01-01T00:00:00Z""#), "{text}");
        let provenance = text.find("provenance").unwrap();
        assert!(
            provenance < text.find("alpha").unwrap(),
            "provenance comes first: {text}"
        );
    }

    #[test]
    fn any_other_text_is_refused() {
        let text = record().text();
        for (from, to, why) in [
            ("{\"binding\"", "{ \"binding\"", "not in its canonical form"),
            (
                "\"generation\":3",
                "\"generation\":3,\"generation\":3",
                "duplicate field",
            ),
            ("\"generation\":3", "\"generation\":-3", "invalid value"),
            ("\"version\":1", "\"version\":2", "has version 2"),
            (
                "\"generation\":3",
                "\"generation\":3,\"xtra\":3",
                "not in its canonical form",
            ),
            ("\"sha384\"", "\"sha512\"", "unknown variant"),
        ] {
            let wrong = text.replacen(from, to, 1);
            assert_ne!(wrong, text, "{from}");
            let report = crate::mend::report(&Record::parse(&wrong).expect_err(from));
            assert!(report.contains(why), "{from}: {report}");
        }
    }
}
