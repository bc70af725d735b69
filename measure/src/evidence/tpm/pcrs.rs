//! Values of PCRs: against the digest that was signed, and against the event log that explains them.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use data_encoding::HEXLOWER;

use super::algorithm::HashId;
use super::finding::TpmFinding;
use super::quote::{Quote, Selection};
use crate::event_log::{Digests, EventLog, LogOf, Register};
use crate::evidence::Bytes;
use crate::tpm;
use crate::{Sha256, Sha384};

/// Values as evidence has them: by the name of the bank and the index.
pub(super) type Values = BTreeMap<String, BTreeMap<u8, Bytes>>;

/// Returns what was quoted, or what contradicts it: a bank of SHA-1, values that are missing or that nothing vouches
/// for, a digest of other values. `hash` is that of the signature.
pub(super) fn quoted(values: &Values, quote: &Quote, hash: HashId) -> Result<BTreeMap<u8, Digests>, Vec<TpmFinding>> {
    let mut findings: Vec<_> = quote.selections.iter().filter_map(refused).collect();
    let mut pcrs: BTreeMap<u8, Digests> = BTreeMap::new();
    let mut hashed = Vec::new();
    for (bank, pcr) in quoted_indexes(quote) {
        let value = values.get(&*bank.name()).and_then(|values| values.get(&pcr));
        match value.and_then(|value| digests(bank, value).zip(Some(value))) {
            Some((digests, value)) => {
                hashed.extend_from_slice(value);
                let known = pcrs.entry(pcr).or_default();
                known.sha256 = known.sha256.or(digests.sha256);
                known.sha384 = known.sha384.or(digests.sha384);
            }
            None => findings.extend(size(bank).map(|size| missing(bank, pcr, size))),
        }
    }
    findings.extend(unvouched(values, quote));
    let computed = hash.digest(&hashed).filter(|computed| computed != quote.pcr_digest);
    if let Some(computed) = computed.filter(|_| findings.is_empty()) {
        findings.push(TpmFinding::TpmPcrDigestDiffers {
            quoted: HEXLOWER.encode(quote.pcr_digest),
            computed: HEXLOWER.encode(&computed),
        });
    }
    if findings.is_empty() { Ok(pcrs) } else { Err(findings) }
}

/// Returns every PCR that was quoted, in the order in which their values are hashed.
fn quoted_indexes(quote: &Quote) -> impl Iterator<Item = (HashId, u8)> {
    let pairs = |selection: &Selection| {
        let bank = selection.bank;
        selection.pcrs.clone().into_iter().map(move |pcr| (bank, pcr))
    };
    quote.selections.iter().flat_map(pairs)
}

/// Returns the size of the digests of a bank whose values mean something to us, in bytes.
const fn size(bank: HashId) -> Option<usize> {
    match bank {
        HashId::SHA256 => Some(32),
        HashId::SHA384 => Some(48),
        _ => None,
    }
}

fn digests(bank: HashId, value: &[u8]) -> Option<Digests> {
    let digests = match bank {
        HashId::SHA256 => Digests {
            sha256: Some(Sha256::from(<[u8; 32]>::try_from(value).ok()?)),
            sha384: None,
        },
        HashId::SHA384 => Digests {
            sha256: None,
            sha384: Some(Sha384::from(<[u8; 48]>::try_from(value).ok()?)),
        },
        _ => return None,
    };
    Some(digests)
}

fn refused(selection: &Selection) -> Option<TpmFinding> {
    let refused = size(selection.bank).is_none();
    refused.then(|| TpmFinding::TpmHashRefused {
        of: "a quoted bank of PCRs",
        hash: selection.bank.name().into(),
        expected: "sha256 or sha384",
    })
}

fn missing(bank: HashId, pcr: u8, size: usize) -> TpmFinding {
    let bank = bank.name().into();
    TpmFinding::TpmPcrMissing { bank, pcr, size }
}

/// Returns a finding for each value that nobody signed.
fn unvouched(values: &Values, quote: &Quote) -> impl Iterator<Item = TpmFinding> {
    let quoted: BTreeSet<(String, u8)> = quoted_indexes(quote)
        .map(|(bank, pcr)| (bank.name().into(), pcr))
        .collect();
    let all = values
        .iter()
        .flat_map(|(bank, values)| values.keys().map(|pcr| (bank.clone(), *pcr)));
    let mut unvouched: Vec<_> = all.collect();
    unvouched.retain(|value| !quoted.contains(value));
    unvouched
        .into_iter()
        .map(|(bank, pcr)| TpmFinding::TpmPcrUnvouched { bank, pcr })
}

/// Returns the log if it explains the PCRs that were quoted: those of the firmware, 0 to 7, of which it has every event,
/// and any other that it has events of.
///
/// What systemd extends PCR 11 with as it starts is in no log of the firmware: where it explains the value, its events
/// are added.
pub(super) fn explained(log: &[u8], pcrs: &BTreeMap<u8, Digests>) -> Result<EventLog, TpmFinding> {
    let mut log = EventLog::read(log, LogOf::Tpm).map_err(|error| TpmFinding::TpmMalformed {
        what: "event log",
        why: error.to_string(),
    })?;
    if let Some(held) = pcrs.get(&11) {
        let phases = phases(&log, held);
        log.events.extend(phases);
    }
    let replayed = log.replay();
    for (pcr, quoted) in pcrs {
        let value = replayed.get(&Register::Pcr(*pcr));
        let value = value.or((*pcr < 8).then_some(&Digests::ZERO));
        if let Some(replayed) = value.filter(|value| !value.agree(quoted)) {
            return Err(TpmFinding::TpmLogDiffers {
                pcr: *pcr,
                quoted: shown(quoted),
                replayed: shown(replayed),
            });
        }
    }
    Ok(log)
}

/// Returns the events of userspace that lead from the end of the log to what PCR 11 holds; none, if no such do.
fn phases(log: &EventLog, held: &Digests) -> Vec<crate::event_log::Event> {
    let register = Register::Pcr(11);
    let candidates = tpm::phases_so_far().map(|names| tpm::phases(names.iter().copied()).collect::<Vec<_>>());
    let mut fitting = candidates.filter(|events| {
        let all: EventLog = log.of(register).chain(events).cloned().collect();
        let value = all.replay().get(&register).copied().unwrap_or(Digests::ZERO);
        value.agree(held)
    });
    fitting.next().unwrap_or_default()
}

/// Returns a value of a PCR as text.
pub(super) fn shown(digests: &Digests) -> String {
    let sha256 = digests.sha256.map(|digest| format!("sha256:{digest}"));
    let sha384 = digests.sha384.map(|digest| format!("sha384:{digest}"));
    let both: Vec<_> = sha256.into_iter().chain(sha384).collect();
    if both.is_empty() {
        "nothing".into()
    } else {
        both.join(" ")
    }
}
