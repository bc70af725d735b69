//! Reader of quotes: `TPMS_ATTEST` of TPM 2.0 Library 1.59, part 2, section 10.12.12.

use alloc::vec::Vec;

use super::algorithm::HashId;
use super::fields::Fields;
use crate::FieldError;
use crate::fields::check;

/// What the TPM signed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Quote<'a> {
    /// `qualifiedSigner`: the name of the key in its hierarchy.
    pub signer: &'a [u8],
    /// `extraData`, which the caller chose: at most 66 bytes.
    pub extra_data: &'a [u8],
    /// For how long the TPM has been running, over all its life, in milliseconds.
    pub clock: u64,
    /// How often the TPM was reset: once a boot.
    pub reset_count: u32,
    /// How often it was resumed since.
    pub restart_count: u32,
    /// As the vendor counts versions.
    pub firmware_version: u64,
    /// Which PCRs were quoted, in the order in which they were hashed.
    pub selections: Vec<Selection>,
    /// Digest of the values of these PCRs.
    pub pcr_digest: &'a [u8],
}

/// PCRs of one bank: `TPMS_PCR_SELECTION`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Selection {
    pub bank: HashId,
    /// In ascending order.
    pub pcrs: Vec<u8>,
}

/// `TPM_GENERATED_VALUE`: no other structure that a restricted key signs begins with it.
const MAGIC: u32 = 0xff54_4347;

/// `TPM_ST_ATTEST_QUOTE`.
const QUOTE: u16 = 0x8018;

/// Of a `TPMT_HA` with the longest digest: names and data of the caller are no longer. In bytes.
const LONGEST: u16 = 66;

/// Banks that a TPM can have.
const BANKS: u32 = 16;

impl<'a> Quote<'a> {
    /// Returns the quote that is all of `bytes`.
    ///
    /// # Errors
    /// Something else that a TPM signs, or anything else.
    pub fn read(bytes: &'a [u8]) -> Result<Self, FieldError> {
        let mut fields = Fields::new(bytes);
        let magic = fields.u32("magic of the quote")?;
        check(
            magic == MAGIC,
            "magic of the quote",
            0,
            magic,
            "0xff544347, what a TPM made",
        )?;
        let kind = fields.u16("type of the attestation")?;
        check(kind == QUOTE, "type of the attestation", 4, kind, "0x8018, a quote")?;
        let signer = fields.sized("size of the qualified signer", LONGEST, "no more than 66")?;
        let extra_data = fields.sized("size of the extra data", LONGEST, "no more than 66")?;
        let clock = fields.u64("clock")?;
        let reset_count = fields.u32("reset count")?;
        let restart_count = fields.u32("restart count")?;
        let (offset, safe) = (fields.offset(), fields.u8("safe")?);
        check(safe <= 1, "safe", offset, safe, "0 or 1")?;
        let firmware_version = fields.u64("firmware version")?;
        let selections = selections(&mut fields)?;
        let pcr_digest = fields.sized("size of the PCR digest", 64, "no more than 64")?;
        fields.end("bytes after the quote")?;
        Ok(Self {
            signer,
            extra_data,
            clock,
            reset_count,
            restart_count,
            firmware_version,
            selections,
            pcr_digest,
        })
    }
}

/// Reads a `TPML_PCR_SELECTION`. A bank that is there twice would have its values hashed twice: no caller asks for that.
fn selections(fields: &mut Fields) -> Result<Vec<Selection>, FieldError> {
    let offset = fields.offset();
    let count = fields.u32("number of banks")?;
    check(count <= BANKS, "number of banks", offset, count, "no more than 16")?;
    let mut selections: Vec<Selection> = Vec::new();
    for _ in 0..count {
        let offset = fields.offset();
        let bank = HashId(fields.u16("bank")?);
        let new = selections.iter().all(|selection| selection.bank != bank);
        check(new, "bank", offset, bank.0, "each bank once")?;
        let size = fields.u8("size of a selection")?;
        check(size <= 4, "size of a selection", offset + 2, size, "no more than 4")?;
        let bits = fields.take("selection", size.into())?;
        selections.push(Selection { bank, pcrs: pcrs(bits) });
    }
    Ok(selections)
}

/// Returns which PCRs have their bit set: bit `n` of byte `m` is that of PCR `8 m + n`.
fn pcrs(bits: &[u8]) -> Vec<u8> {
    let set = |pcr: &u8| {
        bits.get(usize::from(pcr / 8))
            .is_some_and(|byte| byte >> (pcr % 8) & 1 == 1)
    };
    (0..32).filter(set).collect()
}
