//! What fills a register: the list of events, predicted from files or read from a machine, and the replay of it.
//!
//! A predicted and an observed log are one type, so that they can be compared event by event.

mod compare;
mod describe;
mod hasher;
mod kind;
mod read;
mod subject;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

pub use compare::{Row, compare};
pub use hasher::Hasher;
pub use kind::{EventType, NotAnEventType};
pub use read::{LogError, LogOf};
pub use subject::{HostChoice, Part, Subject};

use crate::{Sha256, Sha384};

/// One extend of one register.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Event {
    pub register: Register,
    #[serde(rename = "type")]
    pub kind: EventType,
    /// What the event is about, as far as it is known.
    pub subject: Subject,
    #[serde(flatten)]
    pub digests: Digests,
}

/// A register that is only ever extended.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Register {
    /// Platform configuration register of a TPM, 0 to 23.
    Pcr(u8),
    /// Runtime measurement register of a TD, 0 to 3.
    Rtmr(u8),
}

/// What an event extends each bank with; a bank that the log does not have is absent.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Digests {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha384: Option<Sha384>,
}

/// Events in the order in which they were extended.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct EventLog {
    pub events: Vec<Event>,
}

impl Digests {
    /// Returns the digests of `data` in both banks.
    pub fn of(data: impl AsRef<[u8]>) -> Self {
        let data = data.as_ref();
        Self {
            sha256: Some(Sha256::of(data)),
            sha384: Some(Sha384::of(data)),
        }
    }

    /// Returns whether both are equal in every bank that both have, and there is one such bank.
    pub fn agree(&self, other: &Self) -> bool {
        let sha256 = self.sha256.zip(other.sha256).map(|(ours, theirs)| ours == theirs);
        let sha384 = self.sha384.zip(other.sha384).map(|(ours, theirs)| ours == theirs);
        sha256.or(sha384).is_some() && sha256.unwrap_or(true) && sha384.unwrap_or(true)
    }

    /// Returns a register that holds `self` after it is extended with `digests`, in the banks that both have.
    fn extended(&self, digests: &Self) -> Self {
        Self {
            sha256: self
                .sha256
                .zip(digests.sha256)
                .map(|(old, new)| Sha256::of([*old.bytes(), *new.bytes()].concat())),
            sha384: self
                .sha384
                .zip(digests.sha384)
                .map(|(old, new)| Sha384::of([*old.bytes(), *new.bytes()].concat())),
        }
    }

    /// Returns what PCR 0 holds before its first event if the TPM was started at this locality: TPM 2.0 Part 3, 9.3.
    fn at_locality(locality: u8) -> Self {
        let (mut sha256, mut sha384) = ([0; 32], [0; 48]);
        (sha256[31], sha384[47]) = (locality, locality);
        Self {
            sha256: Some(sha256.into()),
            sha384: Some(sha384.into()),
        }
    }

    /// What a register holds before its first event.
    pub(crate) const ZERO: Self = Self {
        sha256: Some(Sha256::ZERO),
        sha384: Some(Sha384::ZERO),
    };
}

impl Event {
    /// Returns the event that ends what comes before the boot: `EV_SEPARATOR` over four zero bytes.
    pub fn separator(register: Register) -> Self {
        Self {
            register,
            kind: EventType::SEPARATOR,
            subject: Subject::Separator,
            digests: Digests::of([0; 4]),
        }
    }
}

impl EventLog {
    /// Returns what each register holds that the log extends; a bank that one of its events lacks is absent.
    pub fn replay(&self) -> BTreeMap<Register, Digests> {
        let mut registers = BTreeMap::new();
        for event in &self.events {
            let value = registers.entry(event.register);
            match event.subject {
                Subject::StartupLocality(locality) => drop(value.or_insert(Digests::at_locality(locality))),
                _ if event.kind == EventType::NO_ACTION => {}
                _ => {
                    let value = value.or_insert(Digests::ZERO);
                    *value = value.extended(&event.digests);
                }
            }
        }
        registers
    }

    /// Returns whether there is no event at all.
    pub const fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Returns the events of one register, in their order.
    pub fn of(&self, register: Register) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(move |event| event.register == register)
    }
}

impl FromIterator<Event> for EventLog {
    fn from_iter<I: IntoIterator<Item = Event>>(events: I) -> Self {
        Self {
            events: events.into_iter().collect(),
        }
    }
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pcr(index) => write!(f, "PCR {index}"),
            Self::Rtmr(index) => write!(f, "RTMR{index}"),
        }
    }
}
