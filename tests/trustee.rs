//! What verifiers are told of releases: as strict readers of our own take it, and as a real Rego engine judges by it.
//!
//! The tables are those of Trustee 0.21: `ear_default_policy_cpu.rego`, `rvps/src/lib.rs`, `reference_value.rs` and
//! `deps/key-value-storage`.

#![expect(clippy::unwrap_used, reason = "what cannot be read is a failed test")]

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use builder::document::launches::{Generation, Predicted};
use builder::document::reference_values::ReferenceValues;
use builder::document::trustee::Trustee;
use builder::document::{corim, policy, rvps};
use builder::model::measurements::{
    Boot, EXECUTABLES, FirmwareFile, Launch, Measurement, Measurements, Platform, Quantity, Value as Measured, Vmm,
    case_of_pages,
};
use builder::model::recipe::Name;
use builder::model::release::FileName;
use builder::model::{InitData, Profile};
use data_encoding::{BASE64, BASE64URL, HEXLOWER};
use measure::boot::KernelImage;
use measure::event_log::{Digests, Event, EventLog, EventType, HostChoice, Part, Register, Subject};
use measure::tdx::PageOrder;
use measure::{Sha256, Sha384};
use serde_json::{Value, json};

/// A machine whose claims are those of [`snp`] and [`td`].
const PROFILE: &str = r#"
[snp]
tcb = [
    { bootloader = 4, tee = 0, snp = 24, microcode = 219 },
    { bootloader = 10, tee = 0, snp = 23, microcode = 84 },
]
smt = true
tsme = false

[tdx]
xfam = [0x642e7]
kernel = "as-is"

[tpm]
trusted-aks = ["MFkw"]
"#;

fn profile() -> Profile {
    Profile::parse("platform.toml", PROFILE).unwrap()
}

/// A made-up release: two sizes on SEV-SNP, and both boots of a TD and of a machine with a TPM.
struct Release {
    name: Name,
    measurements: Measurements,
}

impl Release {
    fn new(name: &str) -> Self {
        let launches = vec![
            launch(snp_with(1), Boot::Direct, vec![launch_digest(name, 1)]),
            launch(snp_with(2), Boot::Direct, vec![launch_digest(name, 2)]),
            launch(Platform::Tdx, Boot::Direct, direct_td(name)),
            launch(Platform::Tdx, Boot::Disk, disk_td(name)),
            launch(
                Platform::Tpm,
                Boot::Disk,
                vec![register(Register::Pcr(11), None, &[(Subject::Uki, name)])],
            ),
        ];
        Self {
            name: name.to_owned().try_into().unwrap(),
            measurements: Measurements { launches },
        }
    }

    fn predicted<'a>(&'a self, profile: Option<&'a Profile>) -> Predicted<'a> {
        Predicted::new(
            &self.name,
            Sha256::of(self.name.to_string()),
            &self.measurements,
            profile,
        )
    }

    fn values(&self, profile: Option<&Profile>) -> ReferenceValues {
        ReferenceValues::of(&self.predicted(profile), Trustee::CURRENT)
    }
}

fn launch(platform: Platform, boot: Boot, values: Vec<Measured>) -> Measurement {
    let firmware = FirmwareFile {
        name: FileName::try_from("OVMF.fd".to_owned()).unwrap(),
        sha256: Sha256::of("OVMF.fd"),
    };
    let launch = Launch {
        platform,
        boot,
        firmware,
    };
    Measurement { launch, values }
}

fn snp_with(vcpus: u32) -> Platform {
    Platform::Snp {
        vcpus: NonZeroU32::new(vcpus).unwrap(),
        vcpu_type: "EPYC-v4".into(),
        guest_features: 1,
        vmm: Vmm::Qemu,
    }
}

fn launch_digest(image: &str, vcpus: u32) -> Measured {
    Measured {
        covers: EXECUTABLES.into(),
        ..value(Quantity::LaunchDigest, None, &format!("{image} on {vcpus}"))
    }
}

fn value(quantity: Quantity, case: Option<String>, data: &str) -> Measured {
    Measured {
        quantity,
        case,
        digests: Digests {
            sha256: None,
            sha384: Some(Sha384::of(data)),
        },
        covers: [Part::Firmware].into(),
        varies_with: BTreeSet::new(),
        pre_vmsa: None,
        log: EventLog::default(),
    }
}

/// Firmware is the same in every release.
fn mrtd() -> [Measured; 2] {
    [PageOrder::Single, PageOrder::Two].map(|order| {
        let case = case_of_pages(order);
        value(Quantity::Mrtd, Some(case.into()), case)
    })
}

fn register(register: Register, case: Option<String>, events: &[(Subject, &str)]) -> Measured {
    let event = |(subject, data): &(Subject, &str)| Event {
        register,
        kind: EventType::IPL,
        subject: subject.clone(),
        digests: Digests::of(data),
    };
    let mut value = Measured::of_register(register, events.iter().map(event).collect());
    value.varies_with.extend(case.as_ref().map(|_| HostChoice::VmmVersion));
    value.case = case;
    value
}

fn direct_td(image: &str) -> Vec<Measured> {
    let kernel = |case: KernelImage| {
        let case = case.to_string();
        let data = format!("{image}, {case}");
        register(Register::Rtmr(1), Some(case), &[(Subject::Kernel, &data)])
    };
    let kernels = KernelImage::candidates(4 << 30).map(kernel);
    let command_line = format!("{image} root=");
    let rest = [(Subject::CommandLine, &*command_line), (Subject::Initrd, image)];
    let rest = [register(Register::Rtmr(2), None, &rest)];
    mrtd().into_iter().chain(kernels).chain(rest).collect()
}

fn disk_td(image: &str) -> Vec<Measured> {
    let (uki, kernel, command_line) = (
        format!("{image} UKI"),
        format!("{image} kernel"),
        format!("{image} end"),
    );
    let started = [(Subject::Uki, &*uki), (Subject::Kernel, &*kernel)];
    let rest = [
        (Subject::Section(".linux".into()), &*kernel),
        (Subject::CommandLine, &*command_line),
    ];
    let rest = [
        register(Register::Rtmr(1), None, &started),
        register(Register::Rtmr(2), None, &rest),
    ];
    mrtd().into_iter().chain(rest).collect()
}

/// The digest of one value of a launch, the first of several cases.
fn digest(measurement: &Measurement, quantity: Quantity) -> String {
    let value = measurement.of(quantity).next().unwrap();
    value.digests.sha384.unwrap().to_string()
}

const RTMR1: Quantity = Quantity::Register(Register::Rtmr(1));
const RTMR2: Quantity = Quantity::Register(Register::Rtmr(2));

/// What Trustee's policy compares a name with: `in` a list, or `==` one value.
#[derive(Clone, Copy, PartialEq)]
enum Operator {
    In,
    Equals,
}

/// Every name that is ours to give, with the operator and the type of the claim.
const TABLE: [(&str, Operator, &str); 19] = [
    ("mr_td", Operator::In, "hex 96"),
    ("rtmr_1", Operator::In, "hex 96"),
    ("rtmr_2", Operator::In, "hex 96"),
    ("snp_bootloader", Operator::In, "number"),
    ("snp_guest_abi_major", Operator::Equals, "number"),
    ("snp_guest_abi_minor", Operator::Equals, "number"),
    ("snp_launch_measurement", Operator::In, "hex 96"),
    ("snp_microcode", Operator::In, "number"),
    ("snp_single_socket", Operator::Equals, "bool"),
    ("snp_smt_allowed", Operator::Equals, "bool"),
    ("snp_smt_enabled", Operator::Equals, "bool"),
    ("snp_snp_svn", Operator::In, "number"),
    ("snp_tee_svn", Operator::In, "number"),
    ("snp_tsme_enabled", Operator::Equals, "bool"),
    ("tdvfkernel", Operator::Equals, "hex 96"),
    ("tdvfkernelparams", Operator::Equals, "hex 96"),
    ("tpm_pcr11", Operator::In, "hex 64"),
    ("trusted_aks", Operator::In, "base64"),
    ("xfam", Operator::In, "hex 16"),
];

fn is(value: &Value, kind: &str) -> bool {
    let hex = |length: &str| {
        let text = value.as_str().unwrap_or_default();
        let lower = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        text.len().to_string() == length && text.bytes().all(lower)
    };
    match kind.split_once(' ') {
        Some(("hex", length)) => hex(length),
        _ if kind == "number" => value.is_u64(),
        _ if kind == "bool" => value.is_boolean(),
        _ => value
            .as_str()
            .is_some_and(|text| BASE64.decode(text.as_bytes()).is_ok()),
    }
}

#[test]
fn every_name_has_the_type_that_its_operator_compares() {
    let profile = profile();
    let values = Release::new("one").values(Some(&profile)).json();
    let names: Vec<_> = TABLE.iter().map(|(name, ..)| *name).collect();
    assert_eq!(values.keys().copied().collect::<Vec<_>>(), names);
    for (name, operator, kind) in TABLE {
        let value = &values[name];
        match operator {
            Operator::Equals => assert!(is(value, kind), "{name}: {value}"),
            Operator::In => {
                let list = value.as_array().unwrap_or_else(|| panic!("{name} is no list: {value}"));
                assert!(
                    !list.is_empty() && list.iter().all(|value| is(value, kind)),
                    "{name}: {value}"
                );
            }
        }
    }
    // SEV-SNP ABI: 0x30000 is SMT and the reserved bit; Trustee's docs/tcb_claims.md: XFAM as the quote has it
    assert_eq!(values["snp_guest_abi_major"], 0);
    assert_eq!(values["snp_smt_allowed"], true);
    assert_eq!(values["snp_single_socket"], false);
    assert_eq!(values["snp_bootloader"], json!([4, 10]));
    assert_eq!(values["xfam"], json!(["e742060000000000"]));
}

/// The first trap: a list, where the policy has `==`, would lower `executables` from 3 to 4 and nobody would know.
#[test]
fn a_name_that_can_have_one_value_is_left_out_where_there_are_several_and_that_is_said() {
    let release = Release::new("one");
    let values = release.values(None);
    assert!(!values.json().contains_key("tdvfkernel") && values.json()["tdvfkernelparams"].is_string());
    let said: Vec<String> = values.shortfalls().iter().map(ToString::to_string).collect();
    let expected = "tdx: executables will be weaker: 4 instead of 3, several values for tdvfkernel";
    assert!(said.iter().any(|said| said.starts_with(expected)), "{said:#?}");

    let profile = profile();
    let mut both = release.values(Some(&profile));
    both.merge(Release::new("two").values(Some(&profile)));
    assert!(!both.json().contains_key("tdvfkernel") && !both.json().contains_key("tdvfkernelparams"));
    assert_eq!(both.json()["snp_smt_enabled"], true); // of both
    assert_eq!(both.json()["snp_launch_measurement"].as_array().unwrap().len(), 4);
}

/// The kernel of a UKI is an event too, but not the one that the policy looks for.
#[test]
fn a_disk_boot_gives_no_kernel_event() {
    let mut release = Release::new("one");
    release
        .measurements
        .launches
        .retain(|launch| launch.launch.boot == Boot::Disk);
    let values = release.values(None).json();
    assert!(
        !values.contains_key("tdvfkernel") && !values.contains_key("tdvfkernelparams"),
        "{values:?}"
    );
    assert!(values.contains_key("rtmr_1"));
}

/// The second trap: a launch measurement alone leaves the verdict contraindicated.
#[test]
fn what_will_not_be_affirmed_without_a_profile_is_said_for_each_claim() {
    let said = |profile: Option<&Profile>| -> Vec<String> {
        let shortfalls = Release::new("one").values(profile).shortfalls();
        let claim = |said: String| said.split(',').next().unwrap().to_owned();
        shortfalls
            .iter()
            .map(|shortfall| claim(shortfall.to_string()))
            .collect()
    };
    assert_eq!(
        said(None),
        [
            "snp: hardware will not be affirmed: 97 instead of 2",
            "snp: configuration will be weaker: 3 instead of 2",
            "tdx: executables will be weaker: 4 instead of 3",
            "tdx: configuration will not be affirmed: 36 instead of 2",
            "tpm: executables will not be affirmed: 33 instead of 3",
        ]
    );
    assert_eq!(said(Some(&profile())), [""; 0]);
}

/// The third trap: names are global, and Azure's have no prefix. Its firmware is none of ours.
#[test]
fn nothing_is_said_of_the_virtual_machines_of_somebody_else() {
    let names = Release::new("one").values(Some(&profile())).json();
    for name in [
        "measurement",
        "snp_pcr11",
        "tdx_pcr11",
        "abi_major",
        "smt_enabled",
        "tcb_snp",
    ] {
        assert!(!names.contains_key(name), "{name}");
    }
}

/// The fourth trap: before 0.18, Trustee compared base64.
#[test]
fn old_versions_get_a_launch_digest_in_both_encodings() {
    let release = Release::new("one");
    let list = |version: &str| {
        let values = ReferenceValues::of(&release.predicted(None), version.parse().unwrap()).json();
        values["snp_launch_measurement"].as_array().unwrap().clone()
    };
    assert_eq!(list("0.18").len(), 2);
    let both = list("0.17");
    assert_eq!(both.len(), 4);
    assert_eq!(both.iter().filter(|value| is(value, "hex 96")).count(), 2);
    let base64 = BASE64.encode(Sha384::of("one on 1").bytes());
    assert_eq!(base64.len(), 64);
    assert!(both.contains(&json!(base64)));
}

/// A strict reading of what RVPS takes: fields, version, type, alphabet of names, size.
fn register_message(text: &str) -> Result<BTreeMap<String, Value>, String> {
    if text.len() > 4_194_304 {
        return Err("gRPC takes 4194304 bytes".into());
    }
    let message: BTreeMap<String, String> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let field = |name: &str| message.get(name).ok_or(format!("missing field `{name}`"));
    if message
        .keys()
        .any(|key| !["payload", "type", "version"].contains(&&**key))
    {
        return Err("a field that RVPS does not know".into());
    }
    if field("version")? != "0.1.0" {
        return Err("Version unmatched!".into());
    }
    if field("type")? != "sample" {
        return Err("only `sample` keeps names and types".into());
    }
    let payload = BASE64
        .decode(field("payload")?.as_bytes())
        .map_err(|error| error.to_string())?;
    let values: BTreeMap<String, Value> = serde_json::from_slice(&payload).map_err(|error| error.to_string())?;
    let valid = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    match values.keys().find(|name| name.is_empty() || !name.chars().all(valid)) {
        Some(name) => Err(format!("key contains invalid characters: {name}")),
        None => Ok(values),
    }
}

#[test]
fn rvps_takes_the_message_and_keeps_names_and_types() {
    let values = Release::new("one").values(Some(&profile())).json();
    let messages = rvps::messages(&values).unwrap();
    assert_eq!(messages.lines().count(), 1);
    let registered = register_message(&messages).unwrap();
    assert_eq!(json!(registered), json!(values));
}

#[test]
fn rvps_refuses_messages_that_somebody_has_changed() {
    let message = rvps::messages(&Release::new("one").values(None).json()).unwrap();
    let refusal = |from: &str, to: &str| {
        let changed = message.replacen(from, to, 1);
        assert_ne!(changed, message);
        register_message(&changed).unwrap_err()
    };
    assert!(refusal("0.1.0", "0.2.0").contains("Version unmatched"));
    assert!(refusal("sample", "in-toto").contains("only `sample`"));
    assert!(refusal("payload", "provenance").contains("does not know"));
    assert!(refusal("\"payload\":\"", "\"payload\":\"-").contains("invalid"));
    let named = |name: &str| {
        let payload = BASE64.encode(json!({name: []}).to_string().as_bytes());
        register_message(&json!({"payload": payload, "type": "sample", "version": "0.1.0"}).to_string())
    };
    assert!(
        named("rvps:///github.com/acme/mr_td:1")
            .unwrap_err()
            .contains("invalid characters")
    );
    assert!(named("mr_td").is_ok());
}

/// The `ConfigMap` is what RVPS finds in its folder: JSON in YAML, values in URL-safe base64 in it.
#[test]
fn the_operator_mounts_what_rvps_stores() {
    let values = Release::new("one").values(Some(&profile())).json();
    let epoch = "2026-02-28T01:02:03.5Z".parse().unwrap();
    let text = rvps::config_map(&values, epoch, Trustee::CURRENT).unwrap();
    let (head, data) = text.split_once("  reference_value: |\n").unwrap();
    assert_eq!(
        head,
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: rvps-reference-values\ndata:\n"
    );
    assert!(data.lines().all(|line| line.starts_with("    ")));
    let stored: BTreeMap<String, String> = serde_json::from_str(data).unwrap();
    assert!(stored.keys().eq(values.keys()));
    for (name, encoded) in stored {
        let value: Value = serde_json::from_slice(&BASE64URL.decode(encoded.as_bytes()).unwrap()).unwrap();
        let expiration = "2027-02-28T01:02:03Z"; // whole seconds, as RVPS parses nothing else
        let expected = json!({"expiration": expiration, "name": name, "value": values[&*name], "version": "0.1.0"});
        assert_eq!(value, expected);
    }

    let old = rvps::config_map(&values, epoch, "0.18".parse().unwrap()).unwrap();
    let (_, list) = old.split_once("  reference-values.json: |\n").unwrap();
    let list: Vec<Value> = serde_json::from_str(list).unwrap();
    assert_eq!(list.len(), values.len());
    assert_eq!(list[0]["name"], "mr_td");
}

/// RVPS replaces a value that is registered again, and forgets none.
#[test]
fn an_upgrade_is_the_union_and_revocation_overwrites() {
    let (old, new) = (Release::new("old"), Release::new("new"));
    let mut values = new.values(None);
    values.merge(old.values(None));
    let mut other_way = old.values(None);
    other_way.merge(new.values(None));
    assert_eq!(values, other_way);
    let list = |values: &ReferenceValues, name: &str| values.json()[name].as_array().unwrap().clone();
    assert_eq!(list(&values, "snp_launch_measurement").len(), 4);
    assert_eq!(list(&values, "mr_td").len(), 2); // the same firmware

    let mut revoked = new.values(None);
    revoked.revoke(&old.values(Some(&profile())));
    assert_eq!(
        list(&revoked, "snp_launch_measurement"),
        list(&new.values(None), "snp_launch_measurement")
    );
    assert!(list(&revoked, "snp_bootloader").is_empty());

    let shared = new.values(None).shared(&old.values(None));
    assert_eq!(shared, ["mr_td"].into());

    let mut nothing = ReferenceValues::default();
    nothing.revoke(&old.values(Some(&profile())));
    assert!(nothing.json().values().all(|value| *value == json!([])) && nothing.json().len() == TABLE.len());
}

/// Trust claims: executables, hardware, configuration.
type Claims = [i64; 3];

const AFFIRMED: Claims = [3, 2, 2];

/// Judges claims by a policy as Trustee does: `attestation-service/src/ear_token/broker.rs`.
fn judge(policy: &str, claims: &Value) -> (Claims, Value) {
    let mut engine = regorus::Engine::new();
    engine.add_policy(String::new(), policy.into()).unwrap();
    engine.set_input_json(&claims.to_string()).unwrap();
    let nothing = |_: Vec<regorus::Value>| Ok(regorus::Value::Null);
    engine
        .add_extension("query_reference_value".into(), 1, Box::new(nothing))
        .unwrap();
    let mut rule = |name: &str| {
        let value = engine.eval_rule(format!("data.policy.{name}")).unwrap();
        serde_json::to_value(value).unwrap()
    };
    let (trust, extensions) = (rule("trust_claims"), rule("extensions"));
    assert_eq!(trust.as_object().unwrap().len(), 8);
    (
        ["executables", "hardware", "configuration"].map(|claim| trust[claim].as_i64().unwrap()),
        extensions,
    )
}

/// The claims of a guest of SEV-SNP that runs `launch`.
fn snp(launch: &Measurement) -> Value {
    json!({
        "init_data": "11".repeat(32),
        "snp": {
            "measurement": digest(launch, Quantity::LaunchDigest),
            "platform_smt_enabled": true,
            "platform_tsme_enabled": false,
            "policy_abi_major": 0,
            "policy_abi_minor": 0,
            "policy_debug_allowed": false,
            "policy_migrate_ma": false,
            "policy_single_socket": false,
            "policy_smt_allowed": true,
            "reported_tcb_bootloader": 4,
            "reported_tcb_microcode": 219,
            "reported_tcb_snp": 24,
            "reported_tcb_tee": 0,
        },
    })
}

/// The claims of a TD that runs `launch`.
fn td(launch: &Measurement) -> Value {
    json!({
        "init_data": "22".repeat(48),
        "tdx": {
            "collateral_expiration_status": "0",
            "quote": {
                "body": {
                    "mr_td": digest(launch, Quantity::Mrtd),
                    "rtmr_0": "00".repeat(48),
                    "rtmr_1": digest(launch, RTMR1),
                    "rtmr_2": digest(launch, RTMR2),
                    "td_attributes": "0000001000000000",
                    "xfam": "e742060000000000",
                },
                "header": {"tee_type": "81000000", "vendor_id": "939a7233f79c4ca9940a0db3957f0607"},
            },
            "tcb_status": "UpToDate",
            "td_attributes": {"debug": false},
        },
    })
}

/// The policy for these releases on the machines of [`PROFILE`].
fn policy_for(releases: &[&Release]) -> String {
    let profile = profile();
    let predicted: Vec<_> = releases
        .iter()
        .map(|release| release.predicted(Some(&profile)))
        .collect();
    policy::text(&predicted, Some(&profile), &[], Trustee::CURRENT, 0)
}

/// Sets the field that a JSON pointer names.
fn tampered(claims: &Value, pointer: &str, value: impl Into<Value>) -> Value {
    let mut tampered = claims.clone();
    *tampered.pointer_mut(pointer).unwrap() = value.into();
    assert_ne!(tampered, *claims);
    tampered
}

#[test]
fn every_launch_of_a_release_is_affirmed_and_named_in_the_token() {
    let release = Release::new("one");
    let policy = policy_for(&[&release]);
    for launch in &release.measurements.launches {
        let claims = match launch.launch.platform {
            Platform::Snp { .. } => snp(launch),
            Platform::Tdx => td(launch),
            Platform::Tpm => continue,
        };
        let (claims, extensions) = judge(&policy, &claims);
        assert_eq!(claims, AFFIRMED, "{}", launch.launch);
        assert_eq!(extensions[0]["name"], "begat.launches");
        assert_eq!(extensions[0]["value"][0]["launch"], launch.launch.to_string());
        assert_eq!(extensions[0]["value"][0]["image"], "one");
        assert!(extensions[0]["value"][0].get("reports").is_none());
    }
}

#[test]
fn registers_of_two_releases_mixed_are_refused() {
    let (old, new) = (Release::new("old"), Release::new("new"));
    let policy = policy_for(&[&old, &new]);
    let genuine = td(&old.measurements.launches[2]);
    assert_eq!(judge(&policy, &genuine).0, AFFIRMED);
    let other = &new.measurements.launches[2];
    let disk = &old.measurements.launches[3];
    for mixed in [
        tampered(&genuine, "/tdx/quote/body/rtmr_1", digest(other, RTMR1)),
        tampered(&genuine, "/tdx/quote/body/rtmr_2", digest(other, RTMR2)),
        tampered(&genuine, "/tdx/quote/body/rtmr_2", digest(disk, RTMR2)),
        tampered(&genuine, "/tdx/quote/body/mr_td", "00".repeat(48)),
    ] {
        let (claims, extensions) = judge(&policy, &mixed);
        assert_eq!(claims, [33, 97, 2], "{mixed}");
        assert_eq!(extensions[0]["value"], json!([]));
    }
}

#[test]
fn an_image_that_nobody_wants_is_refused() {
    let policy = policy_for(&[&Release::new("new")]);
    let old = Release::new("old");
    assert_eq!(judge(&policy, &snp(&old.measurements.launches[0])).0, [33, 97, 2]);
    assert_eq!(judge(&policy, &td(&old.measurements.launches[2])).0, [33, 97, 2]);
    let nothing = policy::text(&[], Some(&profile()), &[], Trustee::CURRENT, 0);
    assert_eq!(judge(&nothing, &snp(&old.measurements.launches[0])).0, [33, 97, 2]);
}

#[test]
fn a_register_that_is_not_reported_is_refused() {
    let release = Release::new("one");
    let policy = policy_for(&[&release]);
    let mut claims = td(&release.measurements.launches[2]);
    let body = claims.pointer_mut("/tdx/quote/body").unwrap().as_object_mut().unwrap();
    body.remove("rtmr_2").unwrap();
    assert_eq!(judge(&policy, &claims).0, [33, 97, 2]);
}

#[test]
fn a_tcb_below_every_minimum_is_refused_and_a_newer_one_is_not() {
    let release = Release::new("one");
    let policy = policy_for(&[&release]);
    let genuine = snp(&release.measurements.launches[0]);
    let with = |field: &str, version: u8| tampered(&genuine, &format!("/snp/reported_tcb_{field}"), version);
    for old in [with("bootloader", 3), with("snp", 22), with("microcode", 83)] {
        assert_eq!(judge(&policy, &old).0, [3, 97, 2], "{old}");
    }
    // levels count as a whole too: enough of each in some level is not enough of all in one
    assert_eq!(judge(&policy, &with("snp", 23)).0, [3, 97, 2]);
    for new in [
        with("bootloader", 5),
        with("snp", 25),
        with("microcode", 220),
        with("tee", 1),
    ] {
        assert_eq!(judge(&policy, &new).0, AFFIRMED, "{new}");
    }
    let td = td(&release.measurements.launches[2]);
    for old in [
        tampered(&td, "/tdx/tcb_status", "OutOfDate"),
        tampered(&td, "/tdx/collateral_expiration_status", "1"),
        tampered(&td, "/tdx/quote/header/vendor_id", "00".repeat(16)),
        tampered(&td, "/tdx/quote/header/tee_type", "00000000"),
    ] {
        assert_eq!(judge(&policy, &old).0, [3, 97, 2], "{old}");
    }
}

#[test]
fn guests_that_the_host_can_read_or_move_are_contraindicated() {
    let release = Release::new("one");
    let policy = policy_for(&[&release]);
    let (snp, td) = (
        snp(&release.measurements.launches[0]),
        td(&release.measurements.launches[2]),
    );
    for unsafe_guest in [
        tampered(&snp, "/snp/policy_debug_allowed", true),
        tampered(&snp, "/snp/policy_migrate_ma", true),
        tampered(&td, "/tdx/td_attributes/debug", true),
    ] {
        assert_eq!(judge(&policy, &unsafe_guest).0, [3, 2, 96], "{unsafe_guest}");
    }
    for other in [
        tampered(&snp, "/snp/platform_smt_enabled", false),
        tampered(&snp, "/snp/policy_abi_minor", 1),
        tampered(&td, "/tdx/quote/body/xfam", "e702060000000000"),
    ] {
        assert_eq!(judge(&policy, &other).0, [3, 2, 36], "{other}");
    }
}

#[test]
fn without_a_profile_the_machine_is_not_affirmed() {
    let release = Release::new("one");
    let policy = policy::text(&[release.predicted(None)], None, &[], Trustee::CURRENT, 0);
    assert_eq!(judge(&policy, &snp(&release.measurements.launches[0])).0, [3, 97, 3]);
    assert_eq!(judge(&policy, &td(&release.measurements.launches[2])).0, [3, 2, 36]);
}

#[test]
fn init_data_of_somebody_else_is_contraindicated() {
    const INIT_DATA: &str = "version = \"0.1.0\"\nalgorithm = \"sha384\"\n[data]\n";
    let release = Release::new("one");
    let wanted = InitData::of("initdata.toml", INIT_DATA.as_bytes()).unwrap();
    let profile = profile();
    let policy = policy::text(
        &[release.predicted(Some(&profile))],
        Some(&profile),
        &[wanted],
        Trustee::CURRENT,
        0,
    );
    let (snp, td) = (
        snp(&release.measurements.launches[0]),
        td(&release.measurements.launches[2]),
    );
    assert_eq!(judge(&policy, &snp).0, [3, 2, 96]);
    assert_eq!(judge(&policy, &td).0, [3, 2, 96]);
    let ours = [
        tampered(&snp, "/init_data", wanted.host_data.to_string()),
        tampered(&td, "/init_data", wanted.mr_config_id.to_string()),
    ];
    for ours in ours {
        assert_eq!(judge(&policy, &ours).0, AFFIRMED, "{ours}");
    }
    let mut none = snp;
    none.as_object_mut().unwrap().remove("init_data").unwrap();
    assert_eq!(judge(&policy, &none).0, [3, 2, 96]);
}

/// The engine has the clock; these windows are far from it.
#[test]
fn an_expired_generation_is_refused() {
    let release = Release::new("one");
    let profile = profile();
    let policy = |not_before: &str, not_after: &str| {
        let generation = Generation {
            number: 3,
            not_before: Some(not_before.parse().unwrap()),
            not_after: Some(not_after.parse().unwrap()),
        };
        policy::text(
            &[of_generation(&release, &profile, generation)],
            Some(&profile),
            &[],
            Trustee::CURRENT,
            3,
        )
    };
    let claims = snp(&release.measurements.launches[0]);
    let valid = policy("2026-01-01T00:00:00Z", "2200-01-01T00:00:00Z");
    let (affirmed, extensions) = judge(&valid, &claims);
    assert_eq!(affirmed, AFFIRMED);
    assert_eq!(extensions[0]["value"][0]["generation"], 3);

    let refused = |policy: &str| judge(policy, &claims).0 == [33, 97, 2];
    assert!(
        refused(&policy("2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z")),
        "expired"
    );
    assert!(
        refused(&policy("2200-01-01T00:00:00Z", "2201-01-01T00:00:00Z")),
        "not yet valid"
    );
}

fn of_generation<'a>(release: &'a Release, profile: &'a Profile, generation: Generation) -> Predicted<'a> {
    Predicted {
        generation: Some(generation),
        ..release.predicted(Some(profile))
    }
}

/// The floor is the verifier's, and not the lowest of what is exported, which nothing is below.
#[test]
fn attack_a_generation_below_the_floor() {
    let (old, new, profile) = (Release::new("old"), Release::new("new"), profile());
    let of = |release, number| {
        let generation = Generation {
            number,
            not_before: None,
            not_after: None,
        };
        of_generation(release, &profile, generation)
    };
    let policy = |floor| {
        let releases = [of(&old, 2), of(&new, 3)];
        policy::text(&releases, Some(&profile), &[], Trustee::CURRENT, floor)
    };
    let judged = |floor| [&old, &new].map(|release| judge(&policy(floor), &snp(&release.measurements.launches[0])).0);
    let rolled_back = [33, 97, 2];
    assert_eq!(judged(0), [AFFIRMED, AFFIRMED]);
    assert_eq!(judged(2), [AFFIRMED, AFFIRMED]);
    assert_eq!(judged(3), [rolled_back, AFFIRMED]);
    assert_eq!(judged(4), [rolled_back, rolled_back]);
    // what has no record is of no generation
    let unknown = policy::text(
        &[new.predicted(Some(&profile))],
        Some(&profile),
        &[],
        Trustee::CURRENT,
        1,
    );
    assert_eq!(judge(&unknown, &snp(&new.measurements.launches[0])).0, rolled_back);
}

/// In Rego any text is more than any number, and `"9"` more than `"10"`.
#[test]
fn attack_numbers_given_as_text() {
    let release = Release::new("one");
    let policy = policy_for(&[&release]);
    let genuine = snp(&release.measurements.launches[0]);
    for field in ["bootloader", "tee", "snp", "microcode"] {
        for text in [
            json!("0"),
            json!("255"),
            json!([255]),
            json!({"is": 255}),
            json!(true),
            json!(null),
        ] {
            let claims = tampered(&genuine, &format!("/snp/reported_tcb_{field}"), text);
            assert_eq!(judge(&policy, &claims).0, [3, 97, 2], "{claims}");
        }
    }
    for (field, text) in [
        ("policy_abi_major", json!("0")),
        ("policy_abi_minor", json!(false)),
        ("platform_smt_enabled", json!("true")),
        ("platform_tsme_enabled", json!(0)),
    ] {
        let claims = tampered(&genuine, &format!("/snp/{field}"), text);
        assert_eq!(judge(&policy, &claims).0, [3, 2, 36], "{claims}");
    }
    for field in ["policy_debug_allowed", "policy_migrate_ma"] {
        let claims = tampered(&genuine, &format!("/snp/{field}"), "false");
        assert_eq!(judge(&policy, &claims).0, [3, 2, 96], "{claims}");
        let claims = tampered(&genuine, &format!("/snp/{field}"), Value::Null);
        assert_ne!(judge(&policy, &claims).0[2], 2, "{claims}");
    }
}

/// What one TEE cannot say, another says for it; or the right claims stand under a name that is not the TEE's own.
#[test]
fn attack_claims_of_another_tee() {
    let release = Release::new("one");
    let policy = policy_for(&[&release]);
    let (snp, td) = (
        snp(&release.measurements.launches[0]),
        td(&release.measurements.launches[2]),
    );
    let mut both = snp.clone();
    both["tdx"] = td["tdx"].clone();
    let nothing = [33, 97, 36];
    assert_eq!(judge(&policy, &both).0, nothing);
    let old = tampered(&both, "/snp/reported_tcb_snp", 0);
    assert_eq!(judge(&policy, &old).0, nothing, "TDX is current, SEV-SNP is not");
    let debugged = tampered(&both, "/tdx/td_attributes/debug", true);
    assert_eq!(judge(&policy, &debugged).0, nothing);
    for other in ["sample", "tpm", "az-snp-vtpm", "az-tdx-vtpm", "cca", "tee of next year"] {
        for genuine in [&snp, &td] {
            let mut beside = genuine.clone();
            beside[other] = json!({});
            assert_eq!(judge(&policy, &beside).0, nothing, "{other}");
        }
        let renamed = json!({"init_data": snp["init_data"], other: snp["snp"]});
        assert_eq!(judge(&policy, &renamed).0, nothing, "{other}");
    }
    let swapped = json!({"init_data": snp["init_data"], "tdx": snp["snp"]});
    assert_eq!(judge(&policy, &swapped).0[..2], nothing[..2]);
    let nested = json!({"snp": {"snp": snp["snp"]}});
    assert_eq!(judge(&policy, &nested).0, nothing);
    // what Trustee puts beside them is no TEE
    let mut whole = snp;
    whole["report_data"] = json!("00");
    whole["init_data_claims"] = json!({"tdx": {}});
    whole["runtime_data_claims"] = json!({});
    assert_eq!(judge(&policy, &whole).0, AFFIRMED);
}

/// As the quote has them; the names that Trustee gives to some of the bits say less.
#[test]
fn attack_attributes_of_a_td_that_nobody_allowed() {
    let release = Release::new("one");
    let policy = policy_for(&[&release]);
    let genuine = td(&release.measurements.launches[2]);
    let with = |bits: u64| {
        tampered(
            &genuine,
            "/tdx/quote/body/td_attributes",
            HEXLOWER.encode(&bits.to_le_bytes()),
        )
    };
    const SEPT_VE_DISABLE: u64 = 1 << 28;
    for bit in [0, 4, 5, 6, 16, 17, 27, 29, 30, 31, 62, 63] {
        assert_eq!(judge(&policy, &with(SEPT_VE_DISABLE | 1 << bit)).0, [3, 2, 96], "{bit}");
    }
    assert_eq!(judge(&policy, &with(0)).0, [3, 2, 96]);
    let mut silent = genuine.clone();
    let body = silent.pointer_mut("/tdx/quote/body").unwrap().as_object_mut().unwrap();
    body.remove("td_attributes").unwrap();
    assert_eq!(judge(&policy, &silent).0, [3, 2, 96]);
    let mut service = genuine.clone();
    service["tdx"]["quote"]["body"]["mr_servicetd"] = json!("00".repeat(48));
    assert_eq!(judge(&policy, &service).0, AFFIRMED);
    for bound in [json!("07".repeat(48)), json!(""), json!(0), json!(null)] {
        service["tdx"]["quote"]["body"]["mr_servicetd"] = bound;
        assert_eq!(judge(&policy, &service).0, [3, 2, 96], "{service}");
    }
    // machines whose TDs have protection keys
    let machines = PROFILE.replace("xfam", "attributes = [0x50000000]\nxfam");
    let machines = Profile::parse("platform.toml", &machines).unwrap();
    let predicted = release.predicted(Some(&machines));
    let policy = policy::text(&[predicted], Some(&machines), &[], Trustee::CURRENT, 0);
    assert_eq!(judge(&policy, &with(SEPT_VE_DISABLE | 1 << 30)).0, AFFIRMED);
    assert_eq!(judge(&policy, &genuine).0, [3, 2, 96]);
}

#[test]
fn whatever_else_attests_is_not_affirmed() {
    let policy = policy_for(&[&Release::new("one")]);
    for claims in [
        json!({}),
        json!({"sample": {"svn": "1", "launch_digest": "abcde"}}),
        json!({"tpm": {"pcr11": "00"}}),
        json!({"snp": {}}),
        json!({"tdx": {}}),
        json!({"snp": null, "tdx": []}),
    ] {
        assert_eq!(judge(&policy, &claims).0, [33, 97, 36], "{claims}");
    }
}

/// Resource policies that read them find the same identifiers as with Trustee's own policy.
#[test]
fn the_identifiers_of_a_workload_stay_in_the_token() {
    let policy = policy_for(&[&Release::new("one")]);
    let container = json!({"OCI": {
        "Annotations": {"io.kubernetes.cri.image-name": "registry.example/builder@sha256:00"},
        "Process": {"User": {"UID": 1000}},
    }});
    let claims = json!({"init_data_claims": {"agent_policy_claims": {"containers": [container]}}});
    let (_, extensions) = judge(&policy, &claims);
    assert_eq!(extensions[1]["name"], "ear.trustee.identifiers");
    assert_eq!(
        extensions[1]["value"]["validated"],
        json!({"container_images": ["registry.example/builder@sha256:00"], "container_uids": [1000]})
    );
    assert_eq!(judge(&policy, &json!({})).1[1]["value"], json!({"validated": {}}));
}

/// Made with cbor2 of Python, and checked against the CDDL of draft-ietf-rats-corim-11 with cddl-verifier: one triple for
/// the launch on SEV-SNP, one for each MRTD of the disk boot of a TD, with both RTMRs in each.
#[test]
fn a_corim_has_a_triple_for_each_whole_launch() {
    const SHA256: &str = "eee0f73b66b05d0c5393eb2989077740dc15657780c17d74f520e981f55dc90d";
    let mut release = Release::new("one");
    let [_, two, _, disk, tpm] = &release.measurements.launches[..] else {
        panic!("five launches");
    };
    release.measurements.launches = [two, disk, tpm].map(Clone::clone).into();
    let bytes = corim::bytes(&[release.predicted(None)]).unwrap();
    assert_eq!((bytes.len(), Sha256::of(&bytes).to_string()), (666, SHA256.to_owned()));
}

#[test]
fn a_corim_needs_a_launch_that_is_predicted_as_a_whole() {
    let mut release = Release::new("one");
    release
        .measurements
        .launches
        .retain(|launch| launch.launch.platform == Platform::Tpm);
    assert!(corim::bytes(&[release.predicted(None)]).is_err());
    assert!(corim::bytes(&[]).is_err());
}
