//! What verifiers are told of a release: its launches, each with all that the platform reports of it.

use std::borrow::Cow;
use std::collections::BTreeSet;

use jiff::Timestamp;
use measure::event_log::Register;
use measure::{Sha256, Sha384};

use crate::model::Profile;
use crate::model::measurements::{EXECUTABLES, Launch, Measurement, Measurements, Platform, Quantity, Value};
use crate::model::recipe::Name;

/// What is predicted of a release on certain machines.
#[derive(Clone, Debug)]
pub struct Predicted<'a> {
    pub name: &'a Name,
    /// The digest of the lock: with the name, it says which release it is.
    pub lock: Sha256,
    pub profile: Option<&'a Profile>,
    /// Without the cases that do not happen on these machines.
    pub measurements: Cow<'a, Measurements>,
    /// Known where there is a generation record.
    pub generation: Option<Generation>,
}

/// A release's place in its chain, and when it may be run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Generation {
    pub number: u32,
    pub not_before: Option<Timestamp>,
    pub not_after: Option<Timestamp>,
}

/// What the platform reports of a launch: each register with the values that it can have, one for each case.
#[derive(Clone, Debug)]
pub struct Reported<'a> {
    pub launch: &'a Launch,
    pub tee: Tee,
    pub registers: Vec<(Quantity, BTreeSet<Sha384>)>,
}

/// What signs a report of a whole launch.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Tee {
    Snp,
    Tdx,
}

/// What decides about all the code of a TD. RTMR0 is of the machine, and RTMR3 of what runs later.
const TD: [Quantity; 3] = [
    Quantity::Mrtd,
    Quantity::Register(Register::Rtmr(1)),
    Quantity::Register(Register::Rtmr(2)),
];

impl<'a> Predicted<'a> {
    /// Returns what is predicted of a release, of which nothing but itself is known.
    pub fn new(name: &'a Name, lock: Sha256, measurements: &'a Measurements, profile: Option<&'a Profile>) -> Self {
        let selected = profile.map(|profile| Cow::Owned(profile.select(measurements)));
        Self {
            name,
            lock,
            profile,
            measurements: selected.unwrap_or(Cow::Borrowed(measurements)),
            generation: None,
        }
    }

    /// Returns the launches of which everything that decides about the code is predicted, in their order.
    ///
    /// A launch digest that covers the firmware only would approve every kernel: such a launch is none of them.
    pub fn launches(&self) -> impl Iterator<Item = Reported<'_>> {
        self.measurements.launches.iter().filter_map(Reported::of)
    }
}

impl<'a> Reported<'a> {
    fn of(measurement: &'a Measurement) -> Option<Self> {
        let (tee, quantities) = match measurement.launch.platform {
            Platform::Snp { .. } => (Tee::Snp, &[Quantity::LaunchDigest][..]),
            Platform::Tdx => (Tee::Tdx, &TD[..]),
            Platform::Tpm => return None,
        };
        let registers = quantities
            .iter()
            .map(|quantity| Some((*quantity, values(measurement, *quantity)?)));
        Some(Self {
            launch: &measurement.launch,
            tee,
            registers: registers.collect::<Option<_>>()?,
        })
    }
}

/// The values of a register, at least one.
fn values(measurement: &Measurement, quantity: Quantity) -> Option<BTreeSet<Sha384>> {
    let whole = |value: &&_| quantity != Quantity::LaunchDigest || covers_everything(value);
    let values = measurement.of(quantity).filter(whole);
    let digests: BTreeSet<_> = values.filter_map(|value| value.digests.sha384).collect();
    (!digests.is_empty()).then_some(digests)
}

/// Whether nothing that a direct boot runs could be exchanged without another value.
pub(super) fn covers_everything(value: &Value) -> bool {
    EXECUTABLES.iter().all(|part| value.covers.contains(part))
}
