//! `policy.rego`: the companion policy, which takes the values of a launch together or not at all.
//!
//! Rego v1 for Trustee 0.21, whose engine is regorus. The text says itself what it does: `policy.rego` beside this file has
//! the rules, and what is wanted is added at their end.

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::HEXLOWER;
use measure::Sha384;
use measure::event_log::Register;
use serde_json::{Value, json};

use super::launches::{Predicted, Reported, Tee};
use super::trustee::Trustee;
use crate::model;
use crate::model::measurements::Quantity;
use crate::model::profile::{Snp, Tdx, default_attributes};
use crate::model::{InitData, Profile};

/// Returns the text of a policy that affirms these releases on these machines, with any init-data where none is given, and
/// no generation below `floor`; a release of which no generation is known is of none.
pub fn text(
    releases: &[Predicted<'_>],
    machines: Option<&Profile>,
    init_data: &[InitData],
    trustee: Trustee,
    floor: u32,
) -> String {
    const RULES: &str = include_str!("policy.rego");
    let launches = |release| launches(release, trustee);
    let attributes = machines.and_then(|machines| machines.tdx.as_ref());
    let attributes = attributes.map_or_else(default_attributes, |tdx| tdx.attributes.clone());
    let mut wanted = json!({
        "launches": releases.iter().flat_map(launches).collect::<Vec<_>>(),
        "minimum_generation": floor,
        "platforms": machines.map(platforms).unwrap_or_default(),
        "td_attributes": attributes.iter().map(|attributes| HEXLOWER.encode(&attributes.bytes())).collect::<BTreeSet<_>>(),
    });
    if !init_data.is_empty() {
        wanted["init_data"] = init_data.iter().flat_map(digests).collect();
    }
    format!("{RULES}wanted := {}", model::json(&wanted))
}

/// One compound value for each launch: everything that the platform reports of it.
fn launches(release: &Predicted<'_>, trustee: Trustee) -> Vec<Value> {
    let launch = |reported: Reported<'_>| {
        let registers = reported.registers.iter();
        let registers = registers.map(|(quantity, digests)| (register(*quantity), claims(*quantity, digests, trustee)));
        let mut launch = json!({
            "image": release.name,
            "launch": reported.launch.to_string(),
            "lock": release.lock,
            "platform": platform(reported.tee),
            "reports": registers.collect::<BTreeMap<_, _>>(),
        });
        if let Some(generation) = release.generation {
            launch["generation"] = generation.number.into();
            let ends = [
                ("not_after", generation.not_after),
                ("not_before", generation.not_before),
            ];
            for (name, end) in ends.into_iter().filter_map(|(name, end)| Some((name, end?))) {
                launch[name] = json!(end);
            }
        }
        launch
    };
    release.launches().map(launch).collect()
}

/// How claims can show these digests.
fn claims(quantity: Quantity, digests: &BTreeSet<Sha384>, trustee: Trustee) -> Vec<String> {
    let shown = |digest: &Sha384| match quantity {
        Quantity::LaunchDigest => trustee.launch_digests(digest),
        _ => vec![digest.to_string()],
    };
    digests.iter().flat_map(shown).collect()
}

const fn platform(tee: Tee) -> &'static str {
    match tee {
        Tee::Snp => "snp",
        Tee::Tdx => "tdx",
    }
}

/// The name of a register in Trustee's claims.
fn register(quantity: Quantity) -> &'static str {
    match quantity {
        Quantity::LaunchDigest => "measurement",
        Quantity::Mrtd => "mr_td",
        Quantity::Register(Register::Rtmr(1)) => "rtmr_1",
        Quantity::Register(_) => "rtmr_2",
    }
}

fn digests(init_data: &InitData) -> [Value; 2] {
    [
        init_data.host_data.to_string().into(),
        init_data.mr_config_id.to_string().into(),
    ]
}

/// What the machines must be.
fn platforms(machines: &Profile) -> BTreeMap<&'static str, Value> {
    let snp = machines.snp.as_ref().map(|machine| ("snp", snp(machine)));
    let tdx = machines.tdx.as_ref().map(|machine| ("tdx", tdx(machine)));
    snp.into_iter().chain(tdx).collect()
}

fn snp(snp: &Snp) -> Value {
    let (major, minor) = snp.policy.abi();
    json!({
        "claims": {
            "platform_smt_enabled": snp.smt,
            "platform_tsme_enabled": snp.tsme,
            "policy_abi_major": major,
            "policy_abi_minor": minor,
            "policy_single_socket": snp.policy.is_single_socket(),
            "policy_smt_allowed": snp.policy.allows_smt(),
        },
        "tcb": snp.tcb.iter().collect::<BTreeSet<_>>(),
    })
}

fn tdx(tdx: &Tdx) -> Value {
    let xfam: BTreeSet<_> = tdx.xfam.iter().map(|xfam| HEXLOWER.encode(&xfam.bytes())).collect();
    json!({ "xfam": xfam })
}
