//! Reference values in the forms in which Trustee's reference value provider (RVPS) takes them: messages to register,
//! and the `ConfigMap` of the Trustee operator.
//!
//! Written for RVPS 0.21 (`rvps/src/lib.rs`, `reference_value.rs`) and the operator of 2026-08; the list of Trustee
//! 0.14 to 0.18 on request.

use std::collections::BTreeMap;

use anyhow::Result;
use data_encoding::{BASE64, BASE64URL};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use serde::Serialize;
use serde_json::Value;

use super::trustee::Trustee;
use crate::mend::Exit;
use crate::model;

/// Values by name.
pub type Values = BTreeMap<&'static str, Value>;

/// The version of messages and of stored values.
const VERSION: &str = "0.1.0";

/// A message: `sample` is the one kind that keeps names and types as they are.
#[derive(Serialize)]
struct Message {
    payload: String,
    #[serde(rename = "type")]
    kind: &'static str,
    version: &'static str,
}

/// The name of the file in a release.
pub use crate::model::file::MESSAGE as FILE;

/// In bytes: gRPC takes 4 MiB, and the message has a little around it.
const LIMIT: usize = (4 << 20) - 1024;

/// Returns the messages that register these values, one a line: one, or as many as their size needs.
///
/// A name that is registered again is replaced, so that each message is whole.
///
/// # Errors
/// A name that alone has more values than a message can take.
pub fn messages(values: &Values) -> Result<String> {
    split(values, LIMIT)
}

fn split(values: &Values, limit: usize) -> Result<String> {
    let message = message(values);
    if message.len() <= limit {
        return Ok(message);
    }
    let mut rest = values.clone();
    let Some(middle) = values.keys().nth(values.len() / 2).filter(|_| values.len() > 1) else {
        let names: Vec<_> = values.keys().copied().collect();
        let problem = format!(
            "the values of {} need more than the {limit} bytes of a message",
            names.join(", ")
        );
        return Err(Exit::Unsupported.because(problem, "use policy.rego, or fewer launches in a recipe"));
    };
    let second = rest.split_off(middle);
    Ok(split(&rest, limit)? + &split(&second, limit)?)
}

fn message(values: &Values) -> String {
    let message = Message {
        payload: BASE64.encode(compact(values).as_bytes()),
        kind: "sample",
        version: VERSION,
    };
    compact(&message) + "\n"
}

fn compact(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("keys are text and nothing is a float")
}

/// A value as RVPS stores it.
#[derive(Serialize)]
struct Stored<'a> {
    expiration: String,
    name: &'a str,
    value: &'a Value,
    version: &'static str,
}

/// Returns the `ConfigMap` that the Trustee operator mounts into RVPS, without a namespace: `kubectl apply -n` has it.
///
/// What RVPS is sent expires a year later; here that is a year after `epoch`. No version of RVPS looks at it.
///
/// # Errors
/// An epoch at the end of time.
pub fn config_map(values: &Values, epoch: Timestamp, trustee: Trustee) -> Result<String> {
    let later = epoch.to_zoned(TimeZone::UTC).checked_add(1.year())?;
    let expiration = later.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let stored = |(name, value): (&&'static str, _)| Stored {
        expiration: expiration.clone(),
        name,
        value,
        version: VERSION,
    };
    let stored = values.iter().map(stored);
    let (key, text) = if trustee.keeps_a_map() {
        let encoded = stored.map(|value| (value.name, BASE64URL.encode(compact(&value).as_bytes())));
        ("reference_value", model::json(&encoded.collect::<BTreeMap<_, _>>()))
    } else {
        ("reference-values.json", model::json(&stored.collect::<Vec<_>>()))
    };
    let indented: String = text.lines().map(|line| format!("    {line}\n")).collect();
    Ok(format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: rvps-reference-values\ndata:\n  {key}: |\n{indented}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Values {
        ["a", "b", "c", "d", "e"]
            .map(|name| (name, serde_json::json!(vec![name; 40])))
            .into()
    }

    #[test]
    fn a_large_message_is_split_between_names() {
        let messages = split(&values(), 600).unwrap();
        let mut registered = BTreeMap::new();
        for message in messages.lines() {
            assert!(message.len() < 600, "{}", message.len());
            let message: Value = serde_json::from_str(message).unwrap();
            let payload = BASE64.decode(message["payload"].as_str().unwrap().as_bytes()).unwrap();
            let values: BTreeMap<String, Value> = serde_json::from_slice(&payload).unwrap();
            assert!(!values.is_empty());
            registered.extend(values);
        }
        assert_eq!(messages.lines().count(), 3); // a and b, c, d and e
        assert_eq!(serde_json::json!(registered), serde_json::json!(values()));
        assert_eq!(messages_of(&values()), 1);
    }

    fn messages_of(values: &Values) -> usize {
        messages(values).unwrap().lines().count()
    }

    #[test]
    fn a_name_with_more_values_than_a_message_takes_is_an_error() {
        let error = split(&values(), 100).unwrap_err();
        assert!(error.to_string().contains("the values of a need more than"), "{error}");
        assert_eq!(messages_of(&Values::new()), 1);
    }

    #[test]
    fn real_limits_hold() {
        let digest = "0".repeat(96);
        let list = |length: usize| serde_json::json!(vec![&digest; length]);
        assert_eq!(messages_of(&[("snp_launch_measurement", list(30_000))].into()), 1);
        assert!(messages(&[("snp_launch_measurement", list(40_000))].into()).is_err());
        let two = [("mr_td", list(20_000)), ("snp_launch_measurement", list(30_000))];
        assert_eq!(messages_of(&two.into()), 2);
    }
}
