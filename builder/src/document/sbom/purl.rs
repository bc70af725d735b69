//! Package URLs: purl specification 1.0; of Debian packages, type `deb`, with what scanners look up.

use std::fmt::Write as _;

use measure::Sha256;

use super::{Artifact, Distribution};
use crate::model::lock::Package;
use crate::model::recipe::Name;

/// Returns the URL of a binary package; `upstream` names its source package, by which Debian tracks vulnerabilities.
pub(in crate::document) fn binary(package: &Package, distribution: Option<Distribution<'_>>) -> String {
    let (name, version) = package.source_package();
    let upstream = match version == package.version {
        true => name.to_owned(),
        false => format!("{name}@{version}"),
    };
    let tail = format!("&upstream={}", encoded(&upstream));
    url(&package.name, &package.version, &package.architecture, distribution) + &tail
}

/// Returns the URL of a source package.
pub(super) fn source(name: &str, version: &str, distribution: Option<Distribution<'_>>) -> String {
    url(name, version, "source", distribution)
}

/// Returns the URL of a package of cargo's registry.
pub(in crate::document) fn cargo(name: &str, version: &str) -> String {
    format!("pkg:cargo/{}@{}", encoded(name), encoded(version))
}

/// Returns the URL of the source of a program, of type `generic`: it goes by its digest.
pub(in crate::document) fn program(name: &str, version: &str, source: Sha256) -> String {
    format!(
        "pkg:generic/{}@{}?checksum=sha256:{source}",
        encoded(name),
        encoded(version)
    )
}

/// Returns the URL of a file of a release, of type `generic`: it goes by its digest.
pub(super) fn artifact(release: &Name, artifact: &Artifact<'_>) -> String {
    let (release, file) = (encoded(&release.to_string()), encoded(artifact.name));
    format!("pkg:generic/{release}/{file}?checksum=sha256:{}", artifact.stamp.sha256)
}

/// Qualifiers are in alphabetical order; a distribution goes by its number, since by code name scanners find nothing.
fn url(name: &str, version: &str, architecture: &str, distribution: Option<Distribution<'_>>) -> String {
    let (name, version, architecture) = (encoded(name), encoded(version), encoded(architecture));
    let distro = distribution.map(|Distribution { id, version }| encoded(&format!("{id}-{version}")));
    let distro = distro.map(|distro| format!("&distro={distro}")).unwrap_or_default();
    format!("pkg:deb/debian/{name}@{version}?arch={architecture}{distro}")
}

/// Percent-encoding of everything but what RFC 3986, section 2.3, calls unreserved, and the colon.
fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        let _ = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => {
                encoded.write_char(byte.into())
            }
            _ => write!(encoded, "%{byte:02X}"),
        };
    }
    encoded
}
