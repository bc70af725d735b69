//! Registers as they are selected, and as a quote has them: TPM 2.0 Library, revision 1.59, part 2, clause 10.6.

use std::collections::BTreeMap;

use measure::evidence::Bytes;
use measure::evidence::tpm::{HashId, Quote};
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
    select_of(bank.algorithm, registers)
}

fn select_of(algorithm: u16, registers: impl IntoIterator<Item = u8>) -> Selected {
    let mut bits = [0; 3];
    for register in registers {
        bits[usize::from(register / 8)] |= 1 << (register % 8);
    }
    (algorithm, bits)
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

/// Returns whether the registers that were quoted are those of `selected`, in that order.
pub(super) fn selects(quote: &Quote<'_>, selected: &[Selected]) -> bool {
    let quoted = quote.selections.iter().map(|selection| {
        let registers = selection.pcrs.iter().copied().filter(|register| *register < 24);
        select_of(selection.bank.0, registers)
    });
    quoted.eq(selected.iter().copied())
}

/// Returns whether these values, of banks in the order of their names, are those that were quoted; `hash` is that of the
/// signature.
pub(super) fn is_of(quote: &Quote<'_>, values: &Values, hash: HashId) -> bool {
    let values = values.values().flat_map(BTreeMap::values);
    let all: Vec<u8> = values.flat_map(|value| value.iter().copied()).collect();
    match hash {
        HashId::SHA256 => quote.pcr_digest == Sha256::of(all).bytes(),
        HashId::SHA384 => quote.pcr_digest == Sha384::of(all).bytes(),
        HashId::SHA512 => quote.pcr_digest == Sha512::of(all).bytes(),
        _ => false,
    }
}
