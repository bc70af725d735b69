//! Trustee's own policy and ours, in the engine that Trustee has, on claims of every launch of a release.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use xshell::{Shell, cmd};

use crate::host;

/// Runs Trustee's default policy with the reference values of a release: nothing but the policy is Trustee's, and it is
/// not in this repository.
#[derive(clap::Args)]
pub(crate) struct Trustee {
    /// Trustee's `attestation-service/src/ear_token/ear_default_policy_cpu.rego`
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// The folder of the release
    release: PathBuf,
}

/// The machine whose claims are those of [`snp`] and [`td`].
const PROFILE: &str = "
[snp]
tcb = [{ bootloader = 4, tee = 0, snp = 24, microcode = 219 }]
smt = true
tsme = false

[tdx]
xfam = [0x642e7]
kernel = \"as-is\"
";

/// Trust claims: executables, hardware, configuration.
type Claims = [i64; 3];

const AFFIRMED: Claims = [3, 2, 2];

/// What the policy has for a boot without the events that it looks for, as one of a UKI.
const WITHOUT_EVENTS: Claims = [4, 2, 2];

impl Trustee {
    pub(crate) fn run(self) -> Result<()> {
        let shell = host::shell()?;
        let release = fs::canonicalize(&self.release)?;
        let theirs = fs::read_to_string(&self.policy).context("cannot read Trustee's policy")?;
        let values: Value = serde_json::from_str(&export(&shell, "values", &release)?)?;
        let ours = export(&shell, "policy", &release)?;
        let measurements: Value = serde_json::from_str(&fs::read_to_string(release.join("measurements.json"))?)?;
        let launches = measurements["launches"].as_array().context("no launches")?;
        for launch in launches.iter().filter(|launch| launch["platform"] != "tpm") {
            let (name, claims, expected) = reported(launch)?;
            compare("Trustee's policy", &name, judge(&theirs, &values, &claims)?, expected)?;
            compare("policy.rego", &name, judge(&ours, &Value::Null, &claims)?, AFFIRMED)?;
        }
        Ok(())
    }
}

fn export(shell: &Shell, format: &str, release: &Path) -> Result<String> {
    let begat = host::begat(shell)?;
    let folder = tempfile::tempdir()?;
    let profile = folder.path().join("platform.toml");
    fs::write(&profile, PROFILE)?;
    let export = cmd!(shell, "{begat} export {format} {release} --profile {profile}");
    Ok(export.quiet().ignore_stderr().read()?)
}

fn compare(policy: &str, launch: &str, found: Claims, expected: Claims) -> Result<()> {
    let [executables, hardware, configuration] = found;
    println!("{policy}: {launch}: executables {executables}, hardware {hardware}, configuration {configuration}");
    ensure!(found == expected, "{policy} was expected to give {expected:?}");
    Ok(())
}

/// Evaluates a policy as `attestation-service/src/ear_token/broker.rs` does.
fn judge(policy: &str, values: &Value, claims: &Value) -> Result<Claims> {
    let mut engine = regorus::Engine::new();
    engine.add_policy(String::new(), policy.into())?;
    engine.set_input_json(&claims.to_string())?;
    let values = values.clone();
    let query = move |parameters: Vec<regorus::Value>| {
        let name = parameters.first().context("no name")?.as_string()?.to_string();
        Ok(serde_json::from_value(values.get(&name).cloned().unwrap_or_default())?)
    };
    engine.add_extension("query_reference_value".into(), 1, Box::new(query))?;
    let claims = serde_json::to_value(engine.eval_rule("data.policy.trust_claims".into())?)?;
    let claim = |name: &str| claims[name].as_i64().with_context(|| format!("no claim {name}"));
    Ok([claim("executables")?, claim("hardware")?, claim("configuration")?])
}

/// The name of a launch, what a guest of it reports, and what Trustee's policy makes of that.
fn reported(launch: &Value) -> Result<(String, Value, Claims)> {
    let text = |name: &str| launch[name].as_str().unwrap_or_default().to_owned();
    let (platform, boot) = (text("platform"), text("boot"));
    match (&*platform, &*boot) {
        ("snp", _) => {
            let name = format!("snp, {} × {}", launch["vcpus"], text("vcpu-type"));
            Ok((name, snp(launch)?, AFFIRMED))
        }
        ("tdx", "direct") => Ok(("tdx, direct boot".into(), td(launch)?, AFFIRMED)),
        ("tdx", "disk") => Ok(("tdx, disk boot".into(), td(launch)?, WITHOUT_EVENTS)),
        _ => bail!("a launch on {platform} by {boot} boot"),
    }
}

/// The value of a register; of several cases, the one that is true on a machine of [`PROFILE`].
fn value<'a>(launch: &'a Value, quantity: &Value) -> Result<&'a Value> {
    let values = launch["values"].as_array().into_iter().flatten();
    let mut values = values.filter(|value| value["of"] == *quantity);
    let patched = |value: &&Value| value["case"].as_str().is_some_and(|case| case.contains("patched"));
    let found = values.find(|value| !patched(value));
    found.with_context(|| format!("no value of {quantity}"))
}

fn snp(launch: &Value) -> Result<Value> {
    Ok(json!({"init_data": "11".repeat(32), "snp": {
        "chip_id": "ab".repeat(64),
        "measurement": value(launch, &json!("launch-digest"))?["sha384"],
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
    }}))
}

fn td(launch: &Value) -> Result<Value> {
    let [kernel, rest] = [1, 2].map(|index| value(launch, &json!({"rtmr": index})));
    let (kernel, rest) = (kernel?, rest?);
    let body = json!({
        "mr_config_id": "22".repeat(48),
        "mr_td": value(launch, &json!("mrtd"))?["sha384"],
        "rtmr_0": "77".repeat(48),
        "rtmr_1": kernel["sha384"],
        "rtmr_2": rest["sha384"],
        "rtmr_3": "00".repeat(48),
        "td_attributes": "0000001000000000",
        "xfam": "e742060000000000",
    });
    let header = json!({"tee_type": "81000000", "vendor_id": "939a7233f79c4ca9940a0db3957f0607", "version": "0400"});
    Ok(json!({"init_data": "22".repeat(48), "tdx": {
        "collateral_expiration_status": "0",
        "quote": {"body": body, "header": header},
        "tcb_status": "UpToDate",
        "td_attributes": {"debug": false, "septve_disable": true},
        "uefi_event_logs": events(launch, kernel, rest),
    }}))
}

/// The events of a log as Trustee shows them. Only in a direct boot has the kernel a path of its own.
fn events(launch: &Value, kernel: &Value, rest: &Value) -> Vec<Value> {
    let direct = launch["boot"] == "direct";
    let log = |value: &Value| value["log"].as_array().cloned().unwrap_or_default();
    let shown = |event: Value| {
        let details = match event["subject"].as_str() {
            Some("kernel") if direct => {
                json!({"device_paths": ["VenMedia(1428F772-B64A-441E-B8C3-9EBDD7F893C7,)", "File(kernel)"]})
            }
            Some("command-line") => json!({"string": "LOADED_IMAGE::LoadOptions"}),
            Some("initrd") => json!({"string": "Linux initrd"}),
            _ => json!({}),
        };
        let digests = json!([{"alg": "SHA-384", "digest": event["sha384"]}]);
        json!({"details": details, "digests": digests, "type_name": event["type"]})
    };
    log(kernel).into_iter().chain(log(rest)).map(shown).collect()
}
