//! Values, their text form and their laws. Nothing here touches a file, a clock or the network.

pub mod artifacts;
pub mod contents;
pub mod file;
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
    json_in_order(&value)
}

/// As [`json`], of what has its keys sorted: they are written as they come.
pub(crate) fn json_in_order(value: &impl serde::Serialize) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("keys are text and nothing is a float");
    text.push('\n');
    text
}

/// A list of values of which each is made when it is written, and gone afterwards: together they have many times the size
/// of their text.
pub(crate) struct OneByOne<F>(pub(crate) F);

impl<F: Fn() -> I, I: IntoIterator<Item = serde_json::Value>> serde::Serialize for OneByOne<F> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let sorted = (self.0)().into_iter().map(|mut value| {
            value.sort_all_objects();
            value
        });
        serializer.collect_seq(sorted)
    }
}
