//! What a quote says of registers: TPM 2.0 Library, revision 1.59, part 2, clauses 10.6 and 10.12.

use std::collections::BTreeMap;

use measure::evidence::Bytes;
use measure::{Sha256, Sha384, Sha512};

use super::wire::{Command, Cut, Rest};

/// The hash of a bank, by the name that the TCG gives it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Bank {
    pub(super) name: &'static str,
    pub(super) algorithm: u16,
}

/// The banks that are quoted, where the TPM has them.
pub(super) const BANKS: [Bank; 2] = [
    Bank {
        name: "sha256",
        algorithm: 0xb,
    },
    Bank {
        name: "sha384",
        algorithm: 0xc,
    },
];

/// The registers that are quoted: those of the firmware, the boot loader and the operating system.
pub(super) const REGISTERS: std::ops::Range<u8> = 0..16;

/// Values of registers by bank and index.
pub(super) type Values = BTreeMap<String, BTreeMap<u8, Bytes>>;

/// Some registers of one bank.
pub(super) type Selected = (u16, [u8; 3]);

/// Returns the `TPML_PCR_SELECTION` entry that selects `registers` of a bank.
pub(super) fn select(bank: Bank, registers: impl IntoIterator<Item = u8>) -> Selected {
    let mut bits = [0; 3];
    for register in registers {
        bits[usize::from(register / 8)] |= 1 << (register % 8);
    }
    (bank.algorithm, bits)
}

/// Appends a `TPML_PCR_SELECTION`.
pub(super) fn selection(command: Command, selected: &[Selected]) -> Command {
    let count = u32::try_from(selected.len()).expect("there are few banks");
    selected.iter().fold(command.u32(count), |command, (algorithm, bits)| {
        command.u16(*algorithm).raw(&[3]).raw(bits)
    })
}

/// Takes a `TPML_PCR_SELECTION`; selections of more than 24 registers are cut there.
pub(super) fn selections(rest: &mut Rest<'_>) -> Result<Vec<Selected>, Cut> {
    let mut selected = Vec::new();
    for _ in 0..rest.u32()? {
        let (algorithm, size) = (rest.u16()?, rest.u8()?);
        let mut bits = [0; 3];
        let from = rest.take(size.into())?;
        bits.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        selected.push((algorithm, bits));
    }
    Ok(selected)
}

/// What a `TPMS_ATTEST` of a quote says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Quoted {
    /// `extraData`.
    pub(super) data: Vec<u8>,
    pub(super) selected: Vec<Selected>,
    /// `pcrDigest`.
    pub(super) digest: Vec<u8>,
}

impl Quoted {
    /// Reads a `TPMS_ATTEST`; nothing where it is not of a quote.
    pub(super) fn read(attest: &[u8]) -> Result<Option<Self>, Cut> {
        const GENERATED: u32 = 0xff54_4347; // TPM_GENERATED_VALUE
        const QUOTE: u16 = 0x8018; // TPM_ST_ATTEST_QUOTE
        let mut rest = Rest(attest);
        if (rest.u32()?, rest.u16()?) != (GENERATED, QUOTE) {
            return Ok(None);
        }
        let (_signer, data) = (rest.sized()?, rest.sized()?.to_vec());
        rest.take(17 + 8)?; // clock and firmware version
        let (selected, digest) = (selections(&mut rest)?, rest.sized()?.to_vec());
        Ok(Some(Self { data, selected, digest }))
    }

    /// Whether the quote is of these values, hashed with the hash of this `TPMT_SIGNATURE`.
    pub(super) fn is_of(&self, values: &Values, signature: &[u8]) -> Result<bool, Cut> {
        let mut rest = Rest(signature);
        let (_scheme, hash) = (rest.u16()?, rest.u16()?);
        let all: Vec<u8> = values
            .values()
            .flat_map(BTreeMap::values)
            .flat_map(|value| value.iter().copied())
            .collect();
        Ok(match hash {
            0xb => self.digest == Sha256::of(all).bytes(),
            0xc => self.digest == Sha384::of(all).bytes(),
            0xd => self.digest == Sha512::of(all).bytes(),
            _ => false,
        })
    }
}
