//! `reference.corim`: the same values as a Concise Reference Integrity Manifest (draft-ietf-rats-corim-11), unsigned.
//!
//! One reference triple says what one launch reports, so that values which belong together stay together; where a
//! register can have one of a few values, each combination is a triple. Vendor, model and keys are those of IGVM
//! (`AMD`, `SEV-SNP`, `MEASUREMENT`; `Intel`, `TDX`, `MRTD`), and `RTMR1` and `RTMR2` beside them.
//!
//! For Veraison and others. Trustee's RVPS reads it too, but files all launches of a platform under one name, of which
//! the last stays: it is better given `rvps-message.json`.

use anyhow::{Context as _, Result};
use corim::builder::{ComidBuilder, CorimBuilder};
use corim::types::common::{MeasuredElement, TagIdChoice};
use corim::types::corim::CorimId;
use corim::types::environment::EnvironmentMap;
use corim::types::measurement::{Digest, MeasurementMap, MeasurementValuesMap};
use corim::types::triples::ReferenceTriple;
use measure::Sha384;
use measure::event_log::Register;

use super::launches::{Predicted, Reported, Tee};
use crate::mend::Exit;
use crate::model::measurements::Quantity;

/// SHA-384 in the registry of Named Information Hash Algorithms (RFC 6920).
const SHA384: i64 = 7;

/// Returns the bytes of the manifest: deterministic CBOR (RFC 8949, section 4.2.1), one tag a release.
///
/// # Errors
/// No release; a release without a launch of which everything is predicted has no tag, and one at least is needed.
pub fn bytes(releases: &[Predicted<'_>]) -> Result<Vec<u8>> {
    let tags: Vec<_> = releases
        .iter()
        .filter_map(|release| tag(release).transpose())
        .collect::<Result<_>>()?;
    let ids: Vec<String> = releases.iter().map(id).collect();
    let mut manifest = CorimBuilder::new(CorimId::Text(ids.join(" ")));
    if tags.is_empty() {
        let problem = "no release has a launch on SEV-SNP or TDX that is predicted as a whole";
        return Err(Exit::Unsupported.because(problem, "add such a [[launch]] to the recipe"));
    }
    for tag in tags {
        manifest = manifest.add_comid_tag(tag)?;
    }
    manifest.build_bytes().context("cannot encode reference.corim")
}

fn id(release: &Predicted<'_>) -> String {
    format!("{}:{}", release.name, release.lock)
}

/// The tag of one release; none where nothing is predicted as a whole.
fn tag(release: &Predicted<'_>) -> Result<Option<corim::types::comid::ComidTag>> {
    let triples: Vec<_> = release.launches().flat_map(|reported| triples(&reported)).collect();
    if triples.is_empty() {
        return Ok(None);
    }
    let tag = ComidBuilder::new(TagIdChoice::Text(id(release)));
    let tag = triples.into_iter().fold(tag, ComidBuilder::add_reference_triple);
    tag.build().map(Some).context("cannot encode reference.corim")
}

/// Every combination of what the registers of a launch can hold.
fn triples(reported: &Reported<'_>) -> Vec<ReferenceTriple> {
    let mut combinations = vec![Vec::new()];
    for (quantity, digests) in &reported.registers {
        let extended = combinations.iter().flat_map(|known| {
            let with = move |digest: &Sha384| [&known[..], &[(*quantity, *digest)]].concat();
            digests.iter().map(with)
        });
        combinations = extended.collect();
    }
    let environment = match reported.tee {
        Tee::Snp => EnvironmentMap::for_class("AMD", "SEV-SNP"),
        Tee::Tdx => EnvironmentMap::for_class("Intel", "TDX"),
    };
    let triple =
        |values: Vec<_>| ReferenceTriple::new(environment.clone(), values.into_iter().map(measurement).collect());
    combinations.into_iter().map(triple).collect()
}

fn measurement((quantity, digest): (Quantity, Sha384)) -> MeasurementMap {
    let key = match quantity {
        Quantity::LaunchDigest => "MEASUREMENT".into(),
        Quantity::Mrtd => "MRTD".into(),
        Quantity::Register(Register::Rtmr(index)) => format!("RTMR{index}"),
        Quantity::Register(Register::Pcr(index)) => format!("PCR{index}"),
    };
    let mut mval = MeasurementValuesMap::default();
    mval.digests = Some(vec![Digest::new(SHA384, digest.bytes().to_vec())]);
    MeasurementMap {
        mkey: Some(MeasuredElement::Text(key)),
        mval,
        authorized_by: None,
    }
}
