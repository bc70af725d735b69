//! Who signs a release, and what is found out when somebody changes what was signed; tests are named after what was done.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made is a failed test")]

mod fixture;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use builder::document::claims::Claims;
use builder::document::dsse::{self, Bundle};
use builder::document::provenance;
use builder::mend::{self, Exit};
use builder::model::key::SigningKey;
use builder::model::record::{RECORD, Record, Terms};
use builder::stage::release::{Existing, Staging, Stamps};
use builder::stage::signatures::Demand;
use builder::stage::verify::{self, Verdict};
use builder::stage::{secure_boot, sign};
use fixture::{fill, origin, publish};
use serde_json::{Value, json};
use tempfile::TempDir;

const PROVENANCE: &str = "provenance.sigstore.json";

/// A release that one key has signed, and the folder that it lies in.
struct Signed {
    parent: TempDir,
    release: PathBuf,
    key: SigningKey,
}

impl Signed {
    fn new() -> Self {
        Self::on(Terms::default())
    }

    fn on(terms: Terms) -> Self {
        let unsigned = Self::unsigned("console=ttyS0");
        unsigned.sign(&unsigned.key, terms);
        unsigned
    }

    fn unsigned(command_line: &str) -> Self {
        let parent = tempfile::tempdir().unwrap();
        let release = parent.path().join("minimal");
        let staging = Staging::begin(&release, Existing::Refuse).unwrap();
        fill(staging.folder());
        fs::write(staging.folder().join("cmdline"), command_line).unwrap();
        fs::write(
            staging.folder().join("sbom.spdx.json"),
            r#"{"spdxVersion": "SPDX-2.3"}"#,
        )
        .unwrap();
        staging.publish(origin(), Stamps::new()).unwrap();
        Self {
            parent,
            release,
            key: key(1),
        }
    }

    fn sign(&self, key: &SigningKey, terms: Terms) {
        let claims = self.claims(terms, key);
        sign::append(&self.release, &claims.signed_by(key)).unwrap();
    }

    fn claims(&self, terms: Terms, key: &SigningKey) -> Claims {
        sign::claims(&self.release, Existing::Replace, terms, &key.public()).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.release.join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Changes the text of a file.
    fn change(&self, name: &str, from: &str, to: &str) {
        let text = self.text(name);
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{name} has no {from}");
        fs::write(self.path(name), changed).unwrap();
    }

    /// Puts other bytes under a good signature.
    fn sign_other(&self, name: &str, payload: &str, key: &SigningKey) {
        let bundle = Bundle {
            payload: payload.as_bytes().into(),
            signature: key.sign(&dsse::pae(payload.as_bytes())),
            key: key.public().id().to_string(),
        };
        fs::write(self.path(name), bundle.text()).unwrap();
    }

    fn verdict(&self, demanded: Option<&SigningKey>, at: &str) -> Verdict {
        let demand = Demand {
            key: demanded.map(SigningKey::public),
            at: at.parse().unwrap(),
        };
        let mut verdict = verify::verify_whole(&self.release, None, &demand).unwrap();
        fixture::forgive(&mut verdict.findings);
        verdict
    }

    /// What there is to be said against it, where its key is demanded.
    fn findings(&self) -> Vec<String> {
        codes(&self.verdict(Some(&self.key), NOW))
    }
}

const NOW: &str = "2026-11-01T00:00:00Z";

fn key(seed: u8) -> SigningKey {
    SigningKey::from_random([seed; 32]).unwrap()
}

/// Codes of findings, with the file and what else names them.
fn codes(verdict: &Verdict) -> Vec<String> {
    let code = |finding| {
        let json = serde_json::to_value(finding).unwrap();
        let parts = ["code", "path", "file", "subject", "field"].map(|key| json[key].as_str().map(str::to_owned));
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    };
    verdict.findings.iter().map(code).collect()
}

#[test]
fn a_signed_release_has_no_findings_and_is_still_the_same_release() {
    let unsigned = Signed::unsigned("console=ttyS0");
    let before = verify::verify(&unsigned.release, None).unwrap().release;
    let file = || fs::metadata(unsigned.path("OVMF.fd")).unwrap().ino();
    let inode = file();
    unsigned.sign(&unsigned.key, Terms::default());
    let verdict = unsigned.verdict(Some(&unsigned.key), NOW);
    assert_eq!(codes(&verdict), Vec::<String>::new());
    assert_eq!(verdict.release, before);
    assert_eq!(verdict.record.map(|record| Some(record.release)), Some(before));
    assert_eq!(file(), inode, "files are not copied");
    assert_eq!(
        fs::read_dir(unsigned.parent.path()).unwrap().count(),
        1,
        "nothing is left beside it"
    );
}

#[test]
fn there_is_one_bundle_for_each_statement() {
    let signed = Signed::new();
    let record = Record::parse(&signed.text(RECORD)).unwrap();
    let names: Vec<&str> = record
        .statements
        .iter()
        .map(|statement| statement.name.as_str())
        .collect();
    assert_eq!(names, ["provenance", "sbom.spdx", "reference-values"]);
    for name in names.iter().chain(&["record"]) {
        let bundle = Bundle::parse(&signed.text(&format!("{name}.sigstore.json"))).unwrap();
        assert!(bundle.is_signed_by(&signed.key.public()), "{name}");
    }
    let bundle = Bundle::parse(&signed.text(PROVENANCE)).unwrap();
    assert_eq!(bundle.payload, signed.text(provenance::FILE).as_bytes());
}

#[test]
fn provenance_names_every_file_and_every_entry_of_the_lock() {
    let signed = Signed::new();
    let statement: Value = serde_json::from_str(&signed.text(provenance::FILE)).unwrap();
    let names = |list: &Value| -> Vec<String> {
        let names = list.as_array().unwrap().iter();
        names.map(|named| named["name"].as_str().unwrap().to_owned()).collect()
    };
    let mut files: Vec<String> = fs::read_dir(&signed.release)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with(".sigstore.json") && name != RECORD && name != provenance::FILE)
        .map(|name| {
            if name == "volumes" {
                "volumes/model.erofs".into()
            } else {
                name
            }
        })
        .collect();
    files.sort();
    let mut subjects = names(&statement["subject"]);
    subjects.sort();
    assert_eq!(subjects, files);
    let definition = &statement["predicate"]["buildDefinition"];
    let dependencies = names(&definition["resolvedDependencies"]);
    for package in ["systemd", "libc6", "util-linux", "mkosi"] {
        assert!(
            dependencies.contains(&format!("{package}_1-1_amd64.deb")),
            "{package}: {dependencies:?}"
        );
    }
    let uris = definition["resolvedDependencies"].to_string();
    assert!(
        uris.contains("pkg:deb/debian/systemd@1-1?arch=amd64&upstream=systemd"),
        "{uris}"
    );
    let builder = &statement["predicate"]["runDetails"]["builder"]["id"];
    assert!(builder.as_str().unwrap().ends_with("/unattested"), "{builder}");
}

#[test]
fn signatures_without_a_demand_agree_with_the_record_only() {
    let signed = Signed::new();
    assert_eq!(codes(&signed.verdict(None, NOW)), Vec::<String>::new());
    signed.sign(&key(2), Terms::default());
    assert_eq!(codes(&signed.verdict(None, NOW)), Vec::<String>::new());
}

#[test]
fn another_key() {
    let signed = Signed::new();
    assert_eq!(codes(&signed.verdict(Some(&key(2)), NOW)), ["key-differs"]);
    signed.sign(&key(2), Terms::default());
    assert_eq!(
        signed.findings(),
        ["key-differs"],
        "signed anew, all of it, by somebody else"
    );
}

#[test]
fn no_signature_where_a_key_is_demanded() {
    let signed = Signed::new();
    publish(&signed.release, Existing::Replace);
    assert_eq!(signed.findings(), ["unsigned"]);
    assert_eq!(codes(&signed.verdict(None, NOW)), Vec::<String>::new());
}

#[test]
fn one_bundle_signed_by_another_key() {
    let signed = Signed::new();
    signed.sign_other(PROVENANCE, &signed.text(provenance::FILE), &key(2));
    let expected = ["key-id-differs", "signature-invalid"].map(|code| format!("{code} {PROVENANCE}"));
    assert_eq!(signed.findings(), expected);
}

#[test]
fn another_key_that_takes_the_name_of_ours() {
    let signed = Signed::new();
    signed.sign_other(PROVENANCE, &signed.text(provenance::FILE), &key(2));
    let (ours, theirs) = (signed.key.public().id().to_string(), key(2).public().id().to_string());
    signed.change(PROVENANCE, &theirs, &ours);
    signed.change(PROVENANCE, &theirs, &ours);
    assert_eq!(signed.findings(), [format!("signature-invalid {PROVENANCE}")]);
}

#[test]
fn two_signatures() {
    let signed = Signed::new();
    let mut bundle: Value = serde_json::from_str(&signed.text(PROVENANCE)).unwrap();
    let signatures = bundle["dsseEnvelope"]["signatures"].as_array_mut().unwrap();
    signatures.push(signatures[0].clone());
    fs::write(signed.path(PROVENANCE), bundle.to_string()).unwrap();
    assert_eq!(signed.findings(), [format!("signature-unreadable {PROVENANCE}")]);
}

#[test]
fn one_flipped_bit_of_a_signature() {
    let signed = Signed::new();
    let mut bundle = Bundle::parse(&signed.text(PROVENANCE)).unwrap();
    *bundle.signature.last_mut().unwrap() ^= 1;
    fs::write(signed.path(PROVENANCE), bundle.text()).unwrap();
    assert_eq!(signed.findings(), [format!("signature-invalid {PROVENANCE}")]);
}

#[test]
fn edited_provenance() {
    let signed = Signed::new();
    signed.change(provenance::FILE, "mkosi_1-1", "mkosi_1-2");
    assert_eq!(signed.findings(), [format!("statement-differs {}", provenance::FILE)]);
}

#[test]
fn a_good_signature_over_the_statement_of_another_release() {
    let (signed, other) = (Signed::new(), Signed::unsigned("init=/bin/sh"));
    other.sign(&signed.key, Terms::default());
    for file in ["sbom.spdx.sigstore.json", PROVENANCE] {
        fs::copy(other.path(file), signed.path(file)).unwrap();
    }
    let expected = [
        format!("subject-differs {PROVENANCE} cmdline"),
        format!("subject-differs {PROVENANCE} manifest.json"),
        "subject-differs sbom.spdx.sigstore.json cmdline".into(),
    ];
    assert_eq!(signed.findings(), expected);
}

#[test]
fn a_good_signature_over_another_statement_about_the_same_release() {
    let signed = Signed::new();
    let claims = signed.claims(Terms::default(), &signed.key);
    let values = claims
        .statements
        .iter()
        .find(|statement| statement.name == "reference-values");
    signed.sign_other("sbom.spdx.sigstore.json", &values.unwrap().text, &signed.key);
    assert_eq!(signed.findings(), ["statement-differs sbom.spdx.sigstore.json"]);
}

/// Whoever has the key says less, or more, than there is.
fn with_subjects(change: impl Fn(&mut Vec<Value>)) -> Vec<String> {
    let signed = Signed::new();
    let mut statement: Value = serde_json::from_str(&signed.text(provenance::FILE)).unwrap();
    change(statement["subject"].as_array_mut().unwrap());
    let text = format!("{statement:#}\n");
    fs::write(signed.path(provenance::FILE), &text).unwrap();
    signed.sign_other(PROVENANCE, &text, &signed.key);
    signed.findings()
}

#[test]
fn a_subject_that_is_missing() {
    let findings = with_subjects(|subjects| subjects.retain(|subject| subject["name"] != "vmlinuz"));
    let files = [provenance::FILE, PROVENANCE];
    assert_eq!(findings, files.map(|file| format!("subject-missing {file} vmlinuz")));
}

#[test]
fn a_subject_that_is_no_file_of_the_release() {
    let subject = json!({"name": "evil", "digest": {"sha256": "00"}});
    let findings = with_subjects(|subjects| subjects.push(subject.clone()));
    let files = [provenance::FILE, PROVENANCE];
    assert_eq!(findings, files.map(|file| format!("subject-unknown {file} evil")));
}

#[test]
fn removed_files() {
    for file in [RECORD, provenance::FILE, PROVENANCE, "record.sigstore.json"] {
        let signed = Signed::new();
        fs::remove_file(signed.path(file)).unwrap();
        assert_eq!(signed.findings(), [format!("signature-missing {file}")]);
    }
}

#[test]
fn added_files() {
    let signed = Signed::new();
    for file in ["evil.sigstore.json", "evil.intoto.json"] {
        fs::write(signed.path(file), "{}").unwrap();
    }
    assert_eq!(
        signed.findings(),
        ["not-listed evil.intoto.json", "not-listed evil.sigstore.json"]
    );
}

#[test]
fn symlink_instead_of_bundle() {
    let signed = Signed::new();
    let elsewhere = signed.parent.path().join("elsewhere");
    fs::rename(signed.path(PROVENANCE), &elsewhere).unwrap();
    symlink(&elsewhere, signed.path(PROVENANCE)).unwrap();
    let expected = ["not-listed", "signature-unreadable"].map(|code| format!("{code} {PROVENANCE}"));
    assert_eq!(signed.findings(), expected);
}

#[test]
fn a_record_with_a_longer_life() {
    let signed = Signed::on(Terms {
        not_after: Some("2026-10-01T00:00:00Z".parse().unwrap()),
        ..Terms::default()
    });
    signed.change(RECORD, "2026-10-01", "2036-10-01");
    assert_eq!(signed.findings(), ["statement-differs record.sigstore.json"]);
}

#[test]
fn a_record_of_another_release() {
    let (signed, other) = (Signed::new(), Signed::unsigned("init=/bin/sh"));
    other.sign(&signed.key, Terms::default());
    fs::copy(other.path(RECORD), signed.path(RECORD)).unwrap();
    let findings = signed.findings();
    let expected = ["build", "release", "statements"].map(|field| format!("record-differs {field}"));
    assert_eq!(findings, expected);
}

#[test]
fn a_record_in_another_text() {
    let signed = Signed::new();
    fs::write(signed.path(RECORD), signed.text(RECORD) + "\n").unwrap();
    assert_eq!(signed.findings(), ["signature-unreadable record.json"]);
}

#[test]
fn a_statement_of_another_builder() {
    let signed = Signed::new();
    signed.change(provenance::FILE, "builder/v1/unattested", "builder/v1/snp");
    assert!(
        signed.findings().contains(&format!("statement-differs {PROVENANCE}")),
        "{:?}",
        signed.findings()
    );
    signed.change(provenance::FILE, "builder/v1/snp", "builder/v1/best");
    assert_eq!(signed.findings(), [format!("signature-unchecked {}", provenance::FILE)]);
}

#[test]
fn a_release_is_valid_from_its_first_to_its_last_instant() {
    let signed = Signed::on(Terms {
        not_before: Some("2026-10-01T00:00:00Z".parse().unwrap()),
        not_after: Some("2026-12-01T00:00:00Z".parse().unwrap()),
        ..Terms::default()
    });
    for (at, expected) in [
        ("2026-09-30T23:59:59Z", vec!["not-yet-valid"]),
        ("2026-10-01T00:00:00Z", vec![]),
        ("2026-12-01T00:00:00Z", vec![]),
        ("2026-12-01T00:00:01Z", vec!["expired"]),
    ] {
        assert_eq!(codes(&signed.verdict(Some(&signed.key), at)), expected, "{at}");
    }
}

#[test]
fn what_is_not_what_its_manifest_says_is_not_signed() {
    let unsigned = Signed::unsigned("console=ttyS0");
    fs::write(unsigned.path("cmdline"), "init=/bin/sh").unwrap();
    let claims = sign::claims(
        &unsigned.release,
        Existing::Refuse,
        Terms::default(),
        &unsigned.key.public(),
    );
    assert_eq!(mend::exit_code(&claims.expect_err("a file differs")), Exit::No);
}

#[test]
fn signatures_are_replaced_only_where_it_is_asked_for() {
    let signed = Signed::new();
    let claims = sign::claims(
        &signed.release,
        Existing::Refuse,
        Terms::default(),
        &signed.key.public(),
    );
    let error = claims.expect_err("it is signed already");
    assert_eq!(mend::exit_code(&error), Exit::Usage);
    assert!(mend::report(&error).contains("--force"), "{error}");
}

/// What the owner of a key that is elsewhere does with what was given out.
fn sign_elsewhere(folder: &Path, key: &SigningKey) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        fs::write(path.with_extension("sig"), key.sign(&fs::read(&path).unwrap())).unwrap();
    }
}

/// A release whose statements were given out.
fn given_out(key: &SigningKey) -> (Signed, PathBuf) {
    let unsigned = Signed::unsigned("console=ttyS0");
    let folder = unsigned.parent.path().join("to-sign");
    sign::detach(&unsigned.claims(Terms::default(), key), &folder).unwrap();
    (unsigned, folder)
}

fn refusal(release: &Path, folder: &Path) -> String {
    let error = sign::attach(release, Existing::Refuse, folder).expect_err("something was changed");
    mend::report(&error)
}

#[test]
fn a_key_that_is_elsewhere_signs_in_two_steps() {
    let key = key(3);
    let (release, folder) = given_out(&key);
    sign_elsewhere(&folder, &key);
    let (_, files) = sign::attach(&release.release, Existing::Refuse, &folder).unwrap();
    sign::append(&release.release, &files).unwrap();
    assert_eq!(codes(&release.verdict(Some(&key), NOW)), Vec::<String>::new());
}

#[test]
fn a_statement_changed_while_it_was_given_out() {
    let key = key(3);
    let (release, folder) = given_out(&key);
    let path = folder.join("provenance.pae");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("mkosi_1-1", "mkosi_1-2", 1)).unwrap();
    sign_elsewhere(&folder, &key);
    let report = refusal(&release.release, &folder);
    assert!(
        report.contains("provenance.pae is not the provenance statement of this release"),
        "{report}"
    );
}

#[test]
fn a_release_changed_while_its_statements_were_given_out() {
    let key = key(3);
    let (_release, folder) = given_out(&key);
    sign_elsewhere(&folder, &key);
    let report = refusal(&Signed::unsigned("init=/bin/sh").release, &folder);
    assert!(
        report.contains("is not the provenance statement of this release"),
        "{report}"
    );
}

#[test]
fn signatures_of_another_key_come_back() {
    let (release, folder) = given_out(&key(3));
    sign_elsewhere(&folder, &key(4));
    let report = refusal(&release.release, &folder);
    assert!(
        report.contains("provenance.sig is no signature of provenance.pae"),
        "{report}"
    );
    assert_eq!(codes(&release.verdict(None, NOW)), Vec::<String>::new());
    assert!(!release.path(RECORD).exists());
}

/// A PE32+ image with one section, and, where it has one, this certificate.
fn uki(code: u8, certificate: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 0x1000];
    let mut put = |offset: usize, value: &[u8]| bytes[offset..offset + value.len()].copy_from_slice(value);
    let (coff, optional) = (0x40, 0x58);
    let table = optional + 112 + 6 * 8;
    put(0, b"MZ");
    put(0x3c, &[0x40]);
    put(coff, b"PE\0\0\x64\x86\x01");
    put(coff + 20, &(112_u16 + 6 * 8).to_le_bytes());
    put(optional, &0x20b_u16.to_le_bytes());
    put(optional + 56, &0x1000_0000_u32.to_le_bytes());
    put(optional + 60, &0x1000_u32.to_le_bytes());
    put(optional + 68, &[10]);
    put(optional + 108, &[6]);
    put(table, b".text");
    for (field, value) in [512_u32, 0x10000, 512, 0x1000].into_iter().enumerate() {
        put(table + 8 + 4 * field, &value.to_le_bytes());
    }
    if !certificate.is_empty() {
        put(optional + 64, &[1, 2, 3, 4]); // sbsign writes the checksum, too
        put(optional + 112 + 32, &0x1200_u32.to_le_bytes());
        put(optional + 112 + 36, &(certificate.len() as u32).to_le_bytes());
    }
    bytes.resize(0x1200, code);
    bytes.extend_from_slice(certificate);
    bytes
}

/// The form of an Authenticode signature: who made it is the firmware's business.
const CERTIFICATE: &[u8] = b"\x10\0\0\0\x00\x02\x02\x00\x30\x06\0\0\0\0\0\0";

/// A release with a UKI.
fn with_uki() -> (TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let release = parent.path().join("minimal");
    let staging = Staging::begin(&release, Existing::Refuse).unwrap();
    fill(staging.folder());
    fs::write(staging.folder().join("uki.efi"), uki(1, b"")).unwrap();
    staging.publish(origin(), Stamps::new()).unwrap();
    (parent, release)
}

#[test]
fn a_uki_signed_for_secure_boot_lies_beside_the_one_that_is_reproduced() {
    let (parent, release) = with_uki();
    let signed = parent.path().join("signed.efi");
    fs::write(&signed, uki(1, CERTIFICATE)).unwrap();
    let before = verify::verify(&release, None).unwrap().release;
    secure_boot::attach(&release, &signed).unwrap();
    let verdict = verify::verify(&release, None).unwrap();
    assert_eq!((codes(&verdict), verdict.release), (vec![], before));
}

#[test]
fn another_uki_signed_for_secure_boot() {
    let (parent, release) = with_uki();
    let signed = parent.path().join("signed.efi");
    fs::write(&signed, uki(2, CERTIFICATE)).unwrap();
    let error = secure_boot::attach(&release, &signed).expect_err("its code is another");
    assert!(
        mend::report(&error).contains("firmware measures another digest"),
        "{error}"
    );
    fs::copy(&signed, release.join(secure_boot::SIGNED)).unwrap();
    assert_eq!(codes(&verify::verify(&release, None).unwrap()), ["uki-differs"]);
}

#[test]
fn attack_a_uki_that_is_said_to_be_signed() {
    let (parent, release) = with_uki();
    let signed = parent.path().join("signed.efi");
    for certificate in [&b""[..], b"12345678"] {
        fs::write(&signed, uki(1, certificate)).unwrap();
        let error = secure_boot::attach(&release, &signed).expect_err("nobody has signed it");
        let report = mend::report(&error);
        assert!(report.contains("there is no signature in it"), "{report}");
        fs::copy(&signed, release.join(secure_boot::SIGNED)).unwrap();
        assert_eq!(codes(&verify::verify(&release, None).unwrap()), ["uki-differs"]);
        fs::remove_file(release.join(secure_boot::SIGNED)).unwrap();
    }
}
