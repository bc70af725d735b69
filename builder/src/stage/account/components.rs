//! What the views say of packages, payloads and files of the release, against the lock, the store, and the bytes.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use measure::{Sha256, Sha512};

use super::Finding;
use crate::mend::{Exit, OrMend as _};
use crate::model::file;
use crate::model::lock::{Lock, Package, Tree};
use crate::model::release::FileName;
use crate::stage::on_disk::OnDisk;
use crate::stage::origins::Packages;
use crate::stage::payload::Payloads;
use crate::stage::release::Hashes;
use crate::world::files;

/// Something that a view describes and that has a digest.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Component {
    pub(super) name: String,
    pub(super) version: Option<String>,
    /// Its package URL.
    pub(super) url: Option<String>,
    pub(super) sha256: Option<Sha256>,
    pub(super) sha512: Option<Sha512>,
}

/// What a view has to describe.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Wanted {
    /// A `.deb`, or a crate, which has no architecture.
    Package {
        name: String,
        version: String,
        architecture: Option<String>,
        sha256: Sha256,
        /// Where the store has it.
        sha512: Option<Sha512>,
    },
    /// A file of the release, or a payload; digests by which others go.
    Bytes {
        name: String,
        sha256: Sha256,
        sha512: Option<Sha512>,
    },
}

/// SHA-512 of what the store has, by SHA-256.
pub(super) type Known = BTreeMap<Sha256, Sha512>;

/// Returns the SHA-512 of packages, payloads and crates that were read out of the store.
pub(super) fn known(lock: &Lock, packages: &Packages, payloads: &Payloads) -> Known {
    let crates = payloads.iter().flat_map(|payload| &payload.crates);
    let crates = crates.map(|one| (one.sha256, one.sha512));
    let brought = lock.payload.iter().zip(payloads);
    let brought = brought.map(|(payload, brought)| (payload.sha256, brought.sha512));
    let packages = packages.iter().map(|(sha256, members)| (*sha256, members.sha512));
    packages.chain(brought).chain(crates).collect()
}

/// Returns what every view of a release has to describe: what is locked, and the files that boot.
pub(super) fn wanted(hashes: &Hashes, lock: &Lock, known: &Known) -> Vec<Wanted> {
    let packages = lock.package.iter().filter(|package| is_shipped(package));
    let packages = packages.map(|package| Wanted::Package {
        name: package.name.clone(),
        version: package.version.clone(),
        architecture: Some(package.architecture.clone()),
        sha256: package.sha256,
        sha512: known.get(&package.sha256).copied(),
    });
    let compiled = lock.payload.iter().filter_map(|payload| payload.compiled.as_ref());
    let crates = compiled.flat_map(|compiled| &compiled.crates).filter(|one| one.linked);
    let crates = crates.map(|one| Wanted::Package {
        name: one.name.clone(),
        version: one.version.clone(),
        architecture: None,
        sha256: one.sha256,
        sha512: known.get(&one.sha256).copied(),
    });
    let payloads = lock.payload.iter().map(|payload| Wanted::Bytes {
        name: payload.name.to_string(),
        sha256: payload.sha256,
        sha512: known.get(&payload.sha256).copied(),
    });
    let files = hashes.iter().map(|(name, (stamp, sha512))| Wanted::Bytes {
        name: name.to_string(),
        sha256: stamp.sha256,
        sha512: Some(*sha512),
    });
    packages.chain(crates).chain(payloads).chain(files).collect()
}

/// Whether a package leaves files in the release.
pub(super) fn is_shipped(package: &Package) -> bool {
    let shipped = [Tree::Root, Tree::Initrd, Tree::Kernel, Tree::Firmware];
    shipped.iter().any(|tree| package.why.contains_key(tree))
}

/// Returns the digests of the files of the release that boot, as they are.
///
/// # Errors
/// A file that cannot be read.
pub(super) fn files_that_boot(release: &OnDisk) -> Result<Hashes> {
    let manifest = release.manifest()?;
    let names: Vec<FileName> = manifest
        .files
        .into_keys()
        .filter(|name| file::boots(name.as_str()))
        .collect();
    let hashed = files::for_each(&names, |name| {
        release.file(name.as_str()).and_then(|file| file.stamp_and_sha512())
    });
    let hashes = names.into_iter().zip(hashed).map(|(name, hashed)| {
        let problem = format!("cannot read {name}");
        Ok((
            name,
            hashed.or_mend(Exit::No, problem, "name the folder of a whole release")?,
        ))
    });
    hashes.collect()
}

/// Compares what a view describes with what it has to, and with the packages that are `locked`.
pub(super) fn compare(
    document: &str,
    components: &[Component],
    wanted: &[Wanted],
    locked: &BTreeSet<Sha256>,
) -> Vec<Finding> {
    let found = wanted.iter().flat_map(|wanted| {
        let same: Vec<_> = components.iter().filter(|component| wanted.is(component)).collect();
        match same.is_empty() {
            true => vec![wanted.absent(document)],
            false => same
                .into_iter()
                .filter_map(|component| wanted.differs(document, component))
                .collect(),
        }
    });
    found.chain(strange(document, components, wanted, locked)).collect()
}

/// Packages that a view describes and that nothing accounts for; those of the tool tree may be in it.
fn strange(document: &str, components: &[Component], wanted: &[Wanted], locked: &BTreeSet<Sha256>) -> Vec<Finding> {
    let wanted = wanted.iter().map(Wanted::sha256);
    let known: BTreeSet<Sha256> = locked.iter().copied().chain(wanted).collect();
    let packages = components.iter().filter_map(|component| {
        let url = component.url.as_deref().filter(|url| packaged(url))?;
        let known = component.sha256.is_some_and(|sha256| known.contains(&sha256));
        (!known).then(|| Finding::PackageNotLocked {
            document: document.into(),
            url: url.to_owned(),
        })
    });
    packages.collect()
}

impl Wanted {
    fn sha256(&self) -> Sha256 {
        match self {
            Self::Package { sha256, .. } | Self::Bytes { sha256, .. } => *sha256,
        }
    }

    fn is(&self, component: &Component) -> bool {
        let of_kind = || match self {
            Self::Package { .. } => component.url.as_deref().is_some_and(packaged),
            Self::Bytes { name, .. } => component.name == *name,
        };
        component.sha256 == Some(self.sha256()) && of_kind()
    }

    fn absent(&self, document: &str) -> Finding {
        let document = document.to_owned();
        match self {
            Self::Package { name, version, .. } => Finding::PackageNotListed {
                document,
                package: name.clone(),
                version: version.clone(),
            },
            Self::Bytes { name, sha256, .. } => Finding::ComponentNotListed {
                document,
                component: name.clone(),
                sha256: *sha256,
            },
        }
    }

    /// What a view has another way.
    fn differs(&self, document: &str, component: &Component) -> Option<Finding> {
        let sha512 = |wanted: &Option<Sha512>| wanted.is_some_and(|wanted| component.sha512 != Some(wanted));
        let (name, parts) = match self {
            Self::Bytes { name, sha512: own, .. } => (name, [(sha512(own), "SHA-512")].to_vec()),
            Self::Package {
                name,
                version,
                architecture,
                sha512: own,
                ..
            } => {
                let url = component.url.as_deref().and_then(Coordinates::read);
                let wanted = Coordinates {
                    name: name.clone(),
                    version: version.clone(),
                    architecture: architecture.clone(),
                };
                let parts = [
                    (component.name != *name, "name"),
                    (component.version.as_ref() != Some(version), "version"),
                    (url != Some(wanted), "package URL"),
                    (sha512(own), "SHA-512"),
                ];
                (name, parts.to_vec())
            }
        };
        let other: Vec<_> = parts.into_iter().filter(|(differs, _)| *differs).collect();
        let what = other.iter().map(|(_, part)| *part).collect::<Vec<_>>().join(", ");
        (!other.is_empty()).then(|| Finding::ComponentDiffers {
            document: document.into(),
            component: name.clone(),
            what: format!("another {what}"),
        })
    }
}

/// Whether a package URL is that of a binary package of a distribution, or of a crate.
fn packaged(url: &str) -> bool {
    url.starts_with("pkg:cargo/") || (url.starts_with("pkg:deb/") && !url.contains("arch=source"))
}

/// What a package URL is of (purl specification 1.0).
#[derive(Debug, Eq, PartialEq)]
struct Coordinates {
    name: String,
    version: String,
    architecture: Option<String>,
}

impl Coordinates {
    fn read(url: &str) -> Option<Self> {
        let (path, qualifiers) = url.split_once('?').unwrap_or((url, ""));
        let (_, last) = path.rsplit_once('/')?;
        let (name, version) = last.split_once('@')?;
        let mut qualifiers = qualifiers.split('&').filter_map(|qualifier| qualifier.split_once('='));
        let architecture = qualifiers
            .find(|(key, _)| *key == "arch")
            .map(|(_, value)| decoded(value));
        Some(Self {
            name: decoded(name)?,
            version: decoded(version)?,
            architecture: architecture.map_or(Some(None), |decoded| decoded.map(Some))?,
        })
    }
}

/// Text without its percent-encoding (RFC 3986, section 2.1).
fn decoded(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package() -> Wanted {
        Wanted::Package {
            name: "login".into(),
            version: "1:4.16.0-2+really2.41-5".into(),
            architecture: Some("amd64".into()),
            sha256: Sha256::of("deb"),
            sha512: Some(Sha512::of("deb")),
        }
    }

    fn component() -> Component {
        Component {
            name: "login".into(),
            version: Some("1:4.16.0-2+really2.41-5".into()),
            url: Some("pkg:deb/debian/login@1:4.16.0-2%2Breally2.41-5?arch=amd64&distro=debian-13".into()),
            sha256: Some(Sha256::of("deb")),
            sha512: Some(Sha512::of("deb")),
        }
    }

    fn kernel() -> Wanted {
        Wanted::Bytes {
            name: "vmlinuz".into(),
            sha256: Sha256::of("kernel"),
            sha512: Some(Sha512::of("kernel")),
        }
    }

    #[track_caller]
    fn said(component: Component, wanted: Wanted) -> String {
        let findings = compare("bill", &[component], &[wanted], &BTreeSet::new());
        findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn a_package_that_is_described_as_it_is_has_no_findings() {
        assert_eq!(said(component(), package()), "");
    }

    #[test]
    fn attack_a_package_described_as_another() {
        type Change = fn(&mut Component);
        let changes: [(Change, &str); 6] = [
            (|one| one.name = "passwd".into(), "another name"),
            (|one| one.version = Some("2".into()), "another version"),
            (|one| one.version = None, "another version"),
            (
                |one| one.url = Some("pkg:deb/debian/login@2?arch=amd64".into()),
                "another package URL",
            ),
            (
                |one| one.url = Some("pkg:deb/debian/login@1:4.16.0-2%2Breally2.41-5".into()),
                "another package URL",
            ),
            (|one| one.sha512 = None, "another SHA-512"),
        ];
        for (change, why) in changes {
            let mut other = component();
            change(&mut other);
            assert_eq!(said(other, package()), format!("bill has {why} for login"));
        }
    }

    #[test]
    fn attack_a_package_of_other_bytes() {
        let other = Component {
            sha256: Some(Sha256::of("other")),
            ..component()
        };
        let said = said(other, package());
        assert!(said.starts_with("bill does not list the package login"), "{said}");
        assert!(said.contains("; bill lists pkg:deb/debian/login@"), "{said}");
    }

    #[test]
    fn attack_a_file_of_the_release_that_is_left_out_or_another() {
        let file = |bytes: &str| Component {
            name: "vmlinuz".into(),
            sha256: Some(Sha256::of(bytes)),
            sha512: Some(Sha512::of("kernel")),
            ..Component::default()
        };
        assert_eq!(said(file("kernel"), kernel()), "");
        for other in [file("other"), component()] {
            let said = said(other, kernel());
            assert!(
                said.starts_with("bill does not list vmlinuz with the SHA-256 "),
                "{said}"
            );
        }
        let other = Component {
            sha512: None,
            ..file("kernel")
        };
        assert_eq!(said(other, kernel()), "bill has another SHA-512 for vmlinuz");
    }

    #[test]
    fn a_url_that_is_not_encoded_as_it_should_be_is_none() {
        for text in ["%", "%2", "%2x", "%ff", "a%2Bb%"] {
            assert_eq!(decoded(text), None, "{text}");
        }
        assert_eq!(decoded("a%2Bb%c3%A4").as_deref(), Some("a+bä"));
    }
}
