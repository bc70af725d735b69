//! `reference-values.json`: name → value, with the JSON types that Trustee's default policy compares.
//!
//! The policy asks for `in` where it wants a list of strings and for `==` where it wants a bare value; the wrong type
//! silently lowers the verdict. Nothing is written here that an image builder cannot know: the versions of a platform's
//! firmware are for its operator to add.

use std::collections::{BTreeMap, BTreeSet};

use measure::Sha384;
use measure::event_log::Register;
use serde_json::Value;

use crate::model;
use crate::model::measurements::{self, EXECUTABLES, Measurements, Quantity};

/// Returns the text of the file.
pub fn text(measurements: &Measurements) -> String {
    model::json(&reference_values(measurements))
}

/// Returns each name that the predictions have a value for.
///
/// A launch digest alone makes Trustee approve the executables. One that covers the firmware only, as that of a disk
/// boot does, would approve every kernel: it is left out. `mr_td` never stands alone in that policy.
pub fn reference_values(measurements: &Measurements) -> BTreeMap<&'static str, Value> {
    let mut values: BTreeMap<_, BTreeSet<Sha384>> = BTreeMap::new();
    for value in measurements.launches.iter().flat_map(|launch| &launch.values) {
        if let Some((name, digest)) = name(value).zip(value.digests.sha384) {
            values.entry(name).or_default().insert(digest);
        }
    }
    values
        .into_iter()
        .map(|(name, digests)| (name, list(&digests)))
        .collect()
}

/// The name by which `ear_default_policy_cpu.rego` asks for a value.
fn name(value: &measurements::Value) -> Option<&'static str> {
    let whole = || EXECUTABLES.iter().all(|part| value.covers.contains(part));
    match value.quantity {
        Quantity::LaunchDigest => whole().then_some("snp_launch_measurement"),
        Quantity::Mrtd => Some("mr_td"),
        Quantity::Register(Register::Rtmr(1)) => Some("rtmr_1"),
        Quantity::Register(Register::Rtmr(2)) => Some("rtmr_2"),
        Quantity::Register(_) => None,
    }
}

/// A list of strings, which the policy searches with `in`.
fn list(digests: &BTreeSet<Sha384>) -> Value {
    digests.iter().map(|digest| digest.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use measure::Sha256;
    use measure::event_log::{Digests, EventLog, Part};
    use serde_json::json;

    use super::*;
    use crate::model::measurements::{Boot, FirmwareFile, Launch, Measurement, Platform};

    /// A launch that reports one value.
    fn launch(quantity: Quantity, data: &str, covers: &[Part]) -> Measurement {
        let value = measurements::Value {
            quantity,
            case: None,
            digests: Digests::of(data),
            covers: covers.iter().copied().collect(),
            varies_with: BTreeSet::new(),
            pre_vmsa: None,
            log: EventLog::default(),
        };
        let firmware = FirmwareFile {
            name: "OVMF.fd".into(),
            sha256: Sha256::of("ovmf"),
        };
        Measurement {
            launch: Launch {
                platform: Platform::Tdx,
                boot: Boot::Direct,
                firmware,
            },
            values: vec![value],
        }
    }

    fn snp(data: &str) -> Measurement {
        launch(Quantity::LaunchDigest, data, &EXECUTABLES)
    }

    fn tdx(data: &str) -> Measurement {
        launch(Quantity::Mrtd, data, &[Part::Firmware])
    }

    fn rtmr(index: u8, data: &str) -> Measurement {
        launch(Quantity::Register(Register::Rtmr(index)), data, &[Part::Kernel])
    }

    /// SHA-384 of "a" and of "abc": FIPS 180-4.
    const A: &str = "54a59b9f22b0b80880d8427e548b7c23abd873486e1f035dce9cd697e85175033caa88e6d57bc35efae0b5afd3145f31";
    const ABC: &str =
        "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7";

    #[test]
    fn types_are_those_that_the_default_policy_compares() {
        let table = [
            (vec![], json!({})),
            (vec![tdx("abc")], json!({"mr_td": [ABC]})),
            (vec![snp("abc")], json!({"snp_launch_measurement": [ABC]})),
            (
                vec![
                    snp("abc"),
                    snp("a"),
                    tdx("a"),
                    tdx("a"),
                    rtmr(0, "a"),
                    rtmr(1, "a"),
                    rtmr(2, "abc"),
                ],
                json!({"mr_td": [A], "rtmr_1": [A], "rtmr_2": [ABC], "snp_launch_measurement": [A, ABC]}),
            ),
        ];
        for (launches, expected) in table {
            let values = reference_values(&Measurements { launches });
            assert_eq!(json!(values), expected);
        }
    }

    #[test]
    fn a_launch_digest_that_any_kernel_has_is_no_reference_value() {
        let launches = vec![launch(Quantity::LaunchDigest, "abc", &[Part::Firmware])];
        assert_eq!(text(&Measurements { launches }), "{}\n");
    }
}
