//! What a release consists of or comes from, one by one.

use measure::{Sha256, Sha512};

use super::agent::{self, Agent};
use super::{Crate, Role, purl};
use crate::model::payload;

/// Something that a release consists of or comes from.
#[derive(Clone, Debug)]
pub(super) struct Component<'a> {
    pub(super) kind: Kind<'a>,
    pub(super) name: &'a str,
    pub(super) version: String,
    pub(super) sha256: Option<Sha256>,
    pub(super) sha512: Option<Sha512>,
    /// The name of the file that has these digests.
    pub(super) file: Option<&'a str>,
    /// Who hands it out; none where nobody says so.
    pub(super) supplier: Option<Agent<'a>>,
    pub(super) originator: Option<Agent<'a>>,
    /// An SPDX expression; none where it is not known.
    pub(super) licence: Option<&'a str>,
    /// Its package URL.
    pub(super) url: Option<String>,
    pub(super) homepage: Option<&'a str>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind<'a> {
    Artifact(Role<'a>),
    /// A measured section of the UKI that is no artifact of its own.
    Section,
    /// A `.deb`, and its source package.
    Binary {
        source: (&'a str, &'a str),
    },
    /// A package of cargo's registry.
    Crate,
    /// Files from elsewhere: in an archive, or one that may run.
    Payload {
        kind: payload::Kind,
        archive: bool,
        executable: bool,
    },
    Source,
    /// The distribution that the root image is of.
    System,
}

/// What BSI TR-03183-2, section 5.2.2, asks of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    /// It has code that runs.
    pub(super) executable: bool,
    /// It consists of other files.
    pub(super) archive: bool,
    /// These can be told apart.
    pub(super) structured: bool,
}

impl<'a> Component<'a> {
    /// Nothing that is not known.
    pub(super) fn new(kind: Kind<'a>, name: &'a str, version: String) -> Self {
        Self {
            kind,
            name,
            version,
            sha256: None,
            sha512: None,
            file: None,
            supplier: None,
            originator: None,
            licence: None,
            url: None,
            homepage: None,
        }
    }

    pub(super) fn of_crate(one: &'a Crate) -> Self {
        Self {
            sha256: Some(one.sha256),
            sha512: Some(one.sha512),
            file: Some(&one.file),
            supplier: Some(agent::RUST),
            originator: Agent::author(one),
            licence: one.licence.as_deref(),
            url: Some(purl::cargo(&one.name, &one.version)),
            homepage: one.homepage.as_deref(),
            ..Self::new(Kind::Crate, &one.name, one.version.clone())
        }
    }

    /// Whether it is something that somebody packages, and no file.
    pub(super) fn is_package(&self) -> bool {
        matches!(
            self.kind,
            Kind::Binary { .. } | Kind::Crate | Kind::Payload { .. } | Kind::Source | Kind::System
        )
    }

    /// The name that vulnerability databases have for Debian: CPE 2.3, formatted string.
    pub(super) fn cpe(&self) -> Option<String> {
        let debian = self.kind == Kind::System && self.name == "debian";
        debian.then(|| format!("cpe:2.3:o:debian:debian_linux:{}:*:*:*:*:*:*:*", self.version))
    }

    pub(super) fn form(&self) -> Form {
        let (executable, archive) = match self.kind {
            Kind::Artifact(Role::Disk | Role::Initrd | Role::Root | Role::Volume)
            | Kind::Binary { .. }
            | Kind::Crate => (false, true),
            Kind::Artifact(Role::Firmware { .. } | Role::Kernel { .. }) => (true, false),
            Kind::Artifact(Role::Uki { .. }) => (true, true),
            Kind::Payload {
                archive, executable, ..
            } => (executable, archive),
            _ => (false, false),
        };
        Form {
            executable,
            archive,
            structured: archive,
        }
    }
}
