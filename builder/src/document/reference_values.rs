//! `reference-values.json`: name → value, with the JSON types that Trustee's default policy compares.
//!
//! The policy asks for `in` where it wants a list of strings and for `==` where it wants a bare value; the wrong type
//! silently lowers the verdict. Nothing is written here that an image builder cannot know: the versions of a platform's
//! firmware are for its operator to add.

use std::collections::{BTreeMap, BTreeSet};

use measure::Sha384;
use serde_json::Value;

use crate::model;
use crate::model::measurements::{Measurement, Measurements, Part};

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
    for launch in &measurements.launches {
        if let Some(name) = name(launch) {
            values.entry(name).or_default().insert(launch.value());
        }
    }
    values
        .into_iter()
        .map(|(name, digests)| (name, list(&digests)))
        .collect()
}

/// The name by which `ear_default_policy_cpu.rego` asks for the value of a launch.
fn name(launch: &Measurement) -> Option<&'static str> {
    match launch {
        Measurement::Snp(snp) => Part::ALL
            .iter()
            .all(|part| snp.covers.contains(part))
            .then_some("snp_launch_measurement"),
        Measurement::Tdx(_) => Some("mr_td"),
    }
}

/// A list of strings, which the policy searches with `in`.
fn list(digests: &BTreeSet<Sha384>) -> Value {
    digests.iter().map(|digest| digest.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use measure::Sha256;
    use measure::tdx::PageOrder;
    use serde_json::json;

    use super::*;
    use crate::model::measurements::{Boot, FirmwareFile, Snp, Tdx, Vmm};

    fn snp(value: &str, covers: &[Part]) -> Measurement {
        Measurement::Snp(Snp {
            boot: Boot::Direct,
            firmware: firmware(),
            vcpus: NonZeroU32::MIN,
            vcpu_type: value.into(),
            guest_features: 1,
            vmm: Vmm::Qemu,
            launch_digest: Sha384::of(value),
            covers: covers.iter().copied().collect(),
            varies_with: BTreeSet::new(),
        })
    }

    fn tdx(value: &str) -> Measurement {
        Measurement::Tdx(Tdx {
            boot: Boot::Disk,
            firmware: firmware(),
            page_order: PageOrder::Single,
            mrtd: Sha384::of(value),
            covers: [Part::Firmware].into(),
            varies_with: BTreeSet::new(),
        })
    }

    fn firmware() -> FirmwareFile {
        FirmwareFile {
            name: "OVMF.fd".into(),
            sha256: Sha256::of("ovmf"),
        }
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
            (vec![snp("abc", &Part::ALL)], json!({"snp_launch_measurement": [ABC]})),
            (
                vec![snp("abc", &Part::ALL), snp("a", &Part::ALL), tdx("a"), tdx("a")],
                json!({"mr_td": [A], "snp_launch_measurement": [A, ABC]}),
            ),
        ];
        for (launches, expected) in table {
            let values = reference_values(&Measurements::new(launches));
            assert_eq!(json!(values), expected);
        }
    }

    #[test]
    fn a_launch_digest_that_any_kernel_has_is_no_reference_value() {
        let measurements = Measurements::new([snp("abc", &[Part::Firmware])]);
        assert_eq!(text(&measurements), "{}\n");
    }
}
