//! A small package archive for tests: its keys, its signed metadata and its packages, made of nothing.
//!
//! The same archive always has the same bytes: keys come from a seed, times from the caller.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test that includes this uses a part of it"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use lzma_rust2::{XzOptions, XzWriter};
use measure::Sha256;
use pgp::composed::{
    ArmorOptions, CleartextSignedMessage, KeyType, SecretKeyParamsBuilder, SignedKeyDetails, SignedPublicKey,
    SignedSecretKey,
};
use pgp::packet::{KeyFlags, SignatureConfig, SignatureType, Subpacket, SubpacketData, UserId};
use pgp::types::{Duration, KeyDetails as _, Password, SignedUser, Tag, Timestamp};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;

pub use pgp::crypto::hash::HashAlgorithm;

/// When keys of tests were made: 2020-01-01, in seconds since 1970.
const KEY_TIME: u32 = 1_577_836_800;

/// An archive's key.
pub struct Signer {
    secret: SignedSecretKey,
    public: SignedPublicKey,
}

impl Signer {
    /// Returns the key of this seed, which may sign for ever.
    pub fn new(seed: u64) -> Self {
        Self::with(seed, true, 0)
    }

    /// Returns the key of this seed; it expires after a `lifetime` in seconds, unless that is zero.
    pub fn with(seed: u64, can_sign: bool, lifetime: u32) -> Self {
        Self::of(KeyType::Ed25519Legacy, seed, can_sign, lifetime)
    }

    /// Returns an RSA key: other kinds do not even make signatures with weak hashes.
    pub fn rsa(seed: u64) -> Self {
        Self::of(KeyType::Rsa(2048), seed, true, 0)
    }

    fn of(kind: KeyType, seed: u64, can_sign: bool, lifetime: u32) -> Self {
        let mut key = SecretKeyParamsBuilder::default();
        key.key_type(kind).can_certify(true).can_sign(true);
        key.created_at(Timestamp::from_secs(KEY_TIME))
            .primary_user_id("Test <test@example.org>".into());
        let secret = key.build().unwrap().generate(ChaCha8Rng::seed_from_u64(seed)).unwrap();
        let public = certify(&secret, can_sign, lifetime);
        Self { secret, public }
    }

    /// Returns the public key, armoured.
    pub fn keyring(&self) -> Vec<u8> {
        self.public.to_armored_bytes(ArmorOptions::default()).unwrap()
    }

    /// Returns the fingerprint, in upper-case hex.
    pub fn fingerprint(&self) -> String {
        format!("{:X}", self.public.fingerprint())
    }

    /// Returns the text, signed with SHA-512.
    pub fn sign(&self, text: &str) -> String {
        self.sign_with(text, HashAlgorithm::Sha512)
    }

    /// Returns the signed text.
    pub fn sign_with(&self, text: &str, hash: HashAlgorithm) -> String {
        let config = self::config(&self.secret, SignatureType::Text, hash, Vec::new());
        let message = CleartextSignedMessage::new(text, config, &self.secret.primary_key, &Password::empty()).unwrap();
        message.to_armored_string(ArmorOptions::default()).unwrap()
    }
}

/// The public key with a signature over its user whose time is fixed.
fn certify(secret: &SignedSecretKey, can_sign: bool, lifetime: u32) -> SignedPublicKey {
    let user = UserId::from_str(Default::default(), "Test <test@example.org>").unwrap();
    let mut flags = KeyFlags::default();
    flags.set_certify(true);
    flags.set_sign(can_sign);
    let mut says = vec![SubpacketData::KeyFlags(flags)];
    says.extend((lifetime != 0).then(|| SubpacketData::KeyExpirationTime(Duration::from_secs(lifetime))));
    let config = config(secret, SignatureType::CertPositive, HashAlgorithm::Sha512, says);
    let (key, public) = (&secret.primary_key, secret.primary_key.public_key());
    let signature = config
        .sign_certification(key, public, &Password::empty(), Tag::UserId, &user)
        .unwrap();
    let users = vec![SignedUser::new(user, vec![signature])];
    let details = SignedKeyDetails::new(Vec::new(), Vec::new(), users, Vec::new());
    SignedPublicKey::new(public.clone(), details, Vec::new())
}

fn config(key: &SignedSecretKey, typ: SignatureType, hash: HashAlgorithm, says: Vec<SubpacketData>) -> SignatureConfig {
    let mut config = SignatureConfig::v4(typ, key.primary_key.algorithm(), hash);
    let time = SubpacketData::SignatureCreationTime(Timestamp::from_secs(KEY_TIME));
    let issuer = SubpacketData::IssuerFingerprint(key.primary_key.fingerprint());
    let packets = [time, issuer].into_iter().chain(says);
    config.hashed_subpackets = packets.map(|data| Subpacket::regular(data).unwrap()).collect();
    config
}

/// A package of an archive.
#[derive(Clone)]
pub struct Deb {
    pub name: String,
    pub version: String,
    /// Further lines of the control file, each with its line feed: `Depends: …`.
    pub fields: String,
    /// Paths below the root, and contents.
    pub files: Vec<(String, String)>,
    /// A last member that no package should have: its name as it is, and its kind.
    pub evil: Option<(String, tar::EntryType)>,
}

impl Deb {
    /// Returns a package of this name with version 1 and one file of documentation.
    pub fn new(name: &str, fields: &str) -> Self {
        Self {
            name: name.into(),
            version: "1".into(),
            fields: fields.into(),
            files: vec![(
                format!("usr/share/doc/{name}/copyright"),
                format!("{name} is in the public domain\n"),
            )],
            evil: None,
        }
    }

    fn control(&self) -> String {
        let Self {
            name, version, fields, ..
        } = self;
        format!(
            "Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: Test <test@example.org>\n\
             Description: {name}\n{fields}"
        )
    }

    fn data(&self) -> Vec<u8> {
        let mut bytes = tar(&self.files);
        if let Some((name, kind)) = &self.evil {
            let mut header = tar::Header::new_ustar();
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(0o644);
            header.set_size(0);
            header.set_cksum();
            let end = bytes.len() - 1024; // two empty blocks
            bytes.splice(end..end, *header.as_bytes());
        }
        bytes
    }

    fn path(&self) -> String {
        format!("pool/main/{}_{}_amd64.deb", self.name, self.version)
    }

    /// Returns the bytes of the `.deb`.
    pub fn bytes(&self) -> Vec<u8> {
        let control = tar(&[("control".into(), self.control())]);
        let members = [
            ("debian-binary", b"2.0\n".to_vec()),
            ("control.tar", control),
            ("data.tar", self.data()),
        ];
        let mut archive = ar::Builder::new(Vec::new());
        for (name, bytes) in members {
            let mut header = ar::Header::new(name.into(), bytes.len() as u64);
            header.set_mode(0o100_644);
            archive.append(&header, &bytes[..]).unwrap();
        }
        archive.into_inner().unwrap()
    }
}

fn tar(files: &[(String, String)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut folders = Vec::new();
    for (path, content) in files {
        let parents: Vec<_> = Path::new(path).ancestors().skip(1).collect();
        for folder in parents
            .into_iter()
            .rev()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            if !folders.contains(&folder) {
                folders.push(folder);
                append(
                    &mut archive,
                    &format!("./{}/", folder.display()),
                    tar::EntryType::Directory,
                    b"",
                );
            }
        }
        append(
            &mut archive,
            &format!("./{path}"),
            tar::EntryType::Regular,
            content.as_bytes(),
        );
    }
    archive.into_inner().unwrap()
}

fn append(archive: &mut tar::Builder<Vec<u8>>, path: &str, kind: tar::EntryType, content: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(if kind.is_dir() { 0o755 } else { 0o644 });
    header.set_size(content.len() as u64);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    archive.append_data(&mut header, path, content).unwrap();
}

/// A suite of an archive.
#[derive(Clone)]
pub struct Suite {
    pub codename: String,
    /// As `Release` spells it: `Sat, 12 Sep 2026 07:55:41 UTC`.
    pub date: String,
    pub valid_until: Option<String>,
    pub packages: Vec<Deb>,
}

impl Suite {
    /// Returns a suite of 2026-01-01 that does not expire.
    pub fn new(codename: &str, packages: Vec<Deb>) -> Self {
        Self {
            codename: codename.into(),
            date: "Thu, 01 Jan 2026 00:00:00 UTC".into(),
            valid_until: None,
            packages,
        }
    }

    /// Returns the text of the index.
    pub fn index(&self) -> String {
        let mut index = String::new();
        for deb in &self.packages {
            let bytes = deb.bytes();
            let (size, digest) = (bytes.len(), Sha256::of(&bytes));
            let place = format!("Filename: {}\nSize: {size}\nSHA256: {digest}\n", deb.path());
            writeln!(index, "{}{place}", deb.control()).unwrap();
        }
        index
    }

    /// Returns every file of the archive, by its path; `InRelease` is signed by `signer`.
    pub fn files(&self, signer: &Signer) -> BTreeMap<String, Vec<u8>> {
        let suite = format!("dists/{}", self.codename);
        let folder = "main/binary-amd64";
        let index = self.index().into_bytes();
        let packed = xz(&index);
        let release = self.release(&[
            (format!("{folder}/Packages"), &index),
            (format!("{folder}/Packages.xz"), &packed),
        ]);
        let by_hash = format!("{suite}/{folder}/by-hash/SHA256/{}", Sha256::of(&packed));
        let metadata = [
            (format!("{suite}/InRelease"), signer.sign(&release).into_bytes()),
            (format!("{suite}/{folder}/Packages"), index),
            (format!("{suite}/{folder}/Packages.xz"), packed.clone()),
            (by_hash, packed),
        ];
        let pool = self.packages.iter().map(|deb| (deb.path(), deb.bytes()));
        metadata.into_iter().chain(pool).collect()
    }

    fn release(&self, indices: &[(String, &Vec<u8>)]) -> String {
        let Self { codename, date, .. } = self;
        let end = self
            .valid_until
            .iter()
            .map(|end| format!("Valid-Until: {end}\n"))
            .collect::<String>();
        let mut release = format!(
            "Origin: Test\nSuite: {codename}\nCodename: {codename}\nDate: {date}\n{end}Acquire-By-Hash: yes\n\
             Architectures: amd64\nComponents: main\nSHA256:\n"
        );
        for (path, bytes) in indices {
            writeln!(release, " {} {} {path}", Sha256::of(bytes), bytes.len()).unwrap();
        }
        release
    }
}

/// Returns Debian, small.
pub fn trixie() -> Suite {
    let tools = [
        "apt",
        "cryptsetup-bin",
        "debian-archive-keyring",
        "erofs-utils",
        "mkosi",
        "systemd-boot-efi",
        "systemd-repart",
        "xz-utils",
        "zstd",
        "qemu-system-x86",
        "swtpm",
    ];
    let mut packages: Vec<_> = tools
        .into_iter()
        .map(|name| Deb::new(name, "Depends: libc6\n"))
        .collect();
    packages.extend([
        Deb::new("base-files", "Essential: yes\n"),
        Deb::new("guest", "Depends: libc6 (>= 1), kmod\n"),
        Deb::new("kmod", ""),
        Deb::new("libc6", "Source: glibc\n"),
        Deb::new("linux-image-cloud-amd64", "Depends: linux-image-6-cloud-amd64 (= 1)\n"),
        Deb::new("linux-image-6-cloud-amd64", "Depends: kmod, linux-modules-6 (= 1)\n"),
        Deb::new("linux-modules-6", ""),
        Deb::new("ovmf", "Depends: libc6\n"),
    ]);
    Suite::new("trixie", packages)
}

/// Writes the files of an archive below `root`.
pub fn write(root: &Path, files: &BTreeMap<String, Vec<u8>>) {
    for (path, bytes) in files {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut writer = XzWriter::new(Vec::new(), XzOptions::with_preset(1)).unwrap();
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}
