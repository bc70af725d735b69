//! Values, their text form and their laws. Nothing here touches a file, a clock or the network.

pub mod artifacts;
pub mod contents;
pub mod init_data;
pub mod job;
pub mod key;
pub mod lock;
pub mod log;
pub mod measurements;
pub mod oci;
pub mod payload;
pub mod profile;
pub mod program;
pub mod quorum;
pub mod rebuild;
pub mod recipe;
pub mod record;
pub mod release;
pub mod request;
pub mod supplier;
pub mod trust;
pub mod volume;

pub use init_data::InitData;
pub use lock::Lock;
pub use measurements::Measurements;
pub use profile::Profile;
pub use recipe::Recipe;
pub use record::Record;
pub use release::Manifest;
pub use request::Request;
pub use supplier::Supplier;
pub use trust::Trust;

/// Returns the text that our JSON files have: keys sorted, two spaces, a final newline.
pub(crate) fn json(value: &impl serde::Serialize) -> String {
    json_of(serde_json::to_value(value).expect("keys are text and nothing is a float"))
}

/// As [`json`], of what is a value already: a large one is not copied. `json!` copies what it is made of, `into` does not.
pub(crate) fn json_of(mut value: serde_json::Value) -> String {
    value.sort_all_objects(); // they are sorted already, unless some crate asked serde_json to keep their order
    let mut text = serde_json::to_string_pretty(&value).expect("a value has a text");
    text.push('\n');
    text
}
