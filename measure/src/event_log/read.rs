//! Reader of the logs that firmware keeps: TCG PC Client Platform Firmware Profile 1.06, section 10 (crypto-agile logs),
//! as a TPM's `binary_bios_measurements` and as the CCEL of a TD (UEFI 2.10, section 38.4).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::{Digests, Event, EventLog, EventType, Register, describe};
use crate::{Sha256, Sha384};

/// Whose log it is: both number registers, in different ways.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogOf {
    /// Events name PCRs, 0 to 23.
    Tpm,
    /// Events name MR indexes: 1 to 4 are RTMR0 to RTMR3.
    Td,
}

impl EventLog {
    /// Returns the events of a log in `bytes`. What follows its last event (memory filled with ones or zeros) is left
    /// alone. Digests of other banks than SHA-256 and SHA-384 are skipped.
    ///
    /// # Errors
    /// Bytes that are no crypto-agile log, or a log that is cut off or lies about its sizes.
    pub fn read(bytes: &[u8], of: LogOf) -> Result<Self, LogError> {
        let mut rest = Rest { bytes, offset: 0 };
        let banks = banks(&mut rest)?;
        let mut events = Vec::new();
        while !rest.is_over() {
            events.push(event(&mut rest, &banks, of)?);
        }
        Ok(Self { events })
    }

    /// Returns whose log the bytes are most likely: a TD's has no other bank than SHA-384 and no other index than 0 to
    /// 4, while every firmware with a TPM extends PCR 7.
    ///
    /// # Errors
    /// As [`EventLog::read`].
    pub fn guess(bytes: &[u8]) -> Result<LogOf, LogError> {
        let mut rest = Rest { bytes, offset: 0 };
        let only_sha384 = banks(&mut rest)?.keys().eq(&[SHA384]);
        let log = Self::read(bytes, LogOf::Tpm)?;
        let few = log.events.iter().all(|event| event.register <= Register::Pcr(4));
        Ok(if only_sha384 && few { LogOf::Td } else { LogOf::Tpm })
    }
}

/// What is wrong with a log. Offsets are in bytes from its start.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LogError {
    #[error("{field} at offset {offset:#x} ends outside the log of {size} bytes")]
    Truncated {
        field: &'static str,
        offset: usize,
        size: usize,
    },
    #[error("{field} at offset {offset:#x} is {value:#x}, expected {expected}")]
    Field {
        field: &'static str,
        offset: usize,
        value: u32,
        expected: &'static str,
    },
    #[error(
        "no crypto-agile log: its first event at offset 0 is no \"Spec ID Event03\"; logs with SHA-1 alone are not read"
    )]
    NotCryptoAgile,
}

/// What of the log was not read yet.
struct Rest<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Rest<'a> {
    fn take(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], LogError> {
        let end = self.offset.checked_add(length);
        let taken = end.and_then(|end| self.bytes.get(self.offset..end));
        let taken = taken.ok_or(LogError::Truncated {
            field,
            offset: self.offset,
            size: self.bytes.len(),
        })?;
        self.offset += length;
        Ok(taken)
    }

    fn read<T: FromBytes + Unaligned>(&mut self, field: &'static str) -> Result<T, LogError> {
        let offset = self.offset;
        let bytes = self.take(size_of::<T>(), field)?;
        T::read_from_bytes(bytes).map_err(|_| LogError::Truncated {
            field,
            offset,
            size: self.bytes.len(),
        })
    }

    /// Returns whether the log ends here: at its end, where memory is erased (index of ones), or in nothing but zeros.
    fn is_over(&self) -> bool {
        let rest = &self.bytes[self.offset..];
        rest.starts_with(&[0xff; 4]) || rest.iter().all(|byte| *byte == 0)
    }
}

/// Reads the first event and returns the size of the digests of each bank, in bytes.
fn banks(rest: &mut Rest) -> Result<BTreeMap<u16, usize>, LogError> {
    let first: FirstEvent = rest.read("header of the first event")?;
    let size = first.size.get() as usize;
    let bytes = rest.take(size, "first event")?;
    let mut event = Rest { bytes, offset: 0 };
    let specification: Specification = event.read("specification").map_err(|_| LogError::NotCryptoAgile)?;
    if first.kind != EventType::NO_ACTION.0 || specification.signature != *b"Spec ID Event03\0" {
        return Err(LogError::NotCryptoAgile);
    }
    let at = size_of::<FirstEvent>() + size_of::<Specification>();
    if specification.banks > BANKS {
        return Err(LogError::Field {
            field: "number of banks",
            offset: at - size_of::<U32>(),
            value: specification.banks.into(),
            expected: "no more than 16",
        });
    }
    let bank = |index: u32| bank(&mut event, at + index as usize * size_of::<Bank>());
    (0..specification.banks.get()).map(bank).collect()
}

/// Reads which bank comes next, and the size of its digests.
fn bank(event: &mut Rest, offset: usize) -> Result<(u16, usize), LogError> {
    let bank: Bank = event.read("banks of the first event")?;
    let known = SIZES.iter().find(|(algorithm, _)| *algorithm == bank.algorithm.get());
    if known.is_some_and(|(_, size)| *size != bank.size.get()) || bank.size > LONGEST {
        return Err(LogError::Field {
            field: "digest size of a bank",
            offset: offset + size_of::<U16>(),
            value: bank.size.get().into(),
            expected: "the size of its algorithm's digests",
        });
    }
    Ok((bank.algorithm.get(), bank.size.get().into()))
}

fn event(rest: &mut Rest, banks: &BTreeMap<u16, usize>, of: LogOf) -> Result<Event, LogError> {
    let offset = rest.offset;
    let header: Header = rest.read("header of an event")?;
    let kind = EventType(header.kind.get());
    let register = register(header.index.get(), kind, of).ok_or(LogError::Field {
        field: "register of an event",
        offset,
        value: header.index.get(),
        expected: match of {
            LogOf::Tpm => "a PCR from 0 to 23",
            LogOf::Td => "an MR index from 1 to 4",
        },
    })?;
    let count = header.digests.get();
    if count as usize != banks.len() {
        return Err(LogError::Field {
            field: "number of digests of an event",
            offset: offset + 2 * size_of::<U32>(),
            value: count,
            expected: "one for each bank of the log",
        });
    }
    let digests = digests(rest, banks)?;
    let size: U32 = rest.read("size of an event")?;
    let data = rest.take(size.get() as usize, "data of an event")?;
    let subject = describe::subject(register, kind, &digests, data);
    Ok(Event {
        register,
        kind,
        subject,
        digests,
    })
}

/// Returns the register that a log calls `index`. Events that extend nothing are sometimes said to be of index 0.
fn register(index: u32, kind: EventType, of: LogOf) -> Option<Register> {
    let index = u8::try_from(index).ok()?;
    match of {
        LogOf::Tpm => (index < 24).then_some(Register::Pcr(index)),
        LogOf::Td if index == 0 && kind == EventType::NO_ACTION => Some(Register::Rtmr(0)),
        LogOf::Td => index.checked_sub(1).filter(|index| *index < 4).map(Register::Rtmr),
    }
}

/// Reads the digests of an event: one of each bank.
fn digests(rest: &mut Rest, banks: &BTreeMap<u16, usize>) -> Result<Digests, LogError> {
    let mut digests = Digests::default();
    let mut left = banks.clone();
    for _ in 0..banks.len() {
        let offset = rest.offset;
        let algorithm: U16 = rest.read("algorithm of a digest")?;
        let size = left.remove(&algorithm.get()).ok_or(LogError::Field {
            field: "algorithm of a digest",
            offset,
            value: algorithm.get().into(),
            expected: "each bank of the log once",
        })?;
        let bytes = rest.take(size, "digest")?;
        match algorithm.get() {
            SHA256 => digests.sha256 = Sha256::read_from_bytes(bytes).ok(),
            SHA384 => digests.sha384 = Sha384::read_from_bytes(bytes).ok(),
            _ => {}
        }
    }
    Ok(digests)
}

const SHA256: u16 = 0xb;
const SHA384: u16 = 0xc;

/// Algorithms of TPM 2.0 and the size of their digests in bytes (TCG Algorithm Registry 1.34): SHA-1, SHA-256, SHA-384,
/// SHA-512, SM3-256.
const SIZES: [(u16, u16); 5] = [(4, 20), (SHA256, 32), (SHA384, 48), (0xd, 64), (0x12, 32)];

/// More banks than any TPM has.
const BANKS: u32 = 16;

/// A digest longer than any algorithm makes, in bytes.
const LONGEST: u16 = 64;

/// `TCG_PCR_EVENT`, in which the first event still is, up to its data.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct FirstEvent {
    index: U32,
    kind: U32,
    digest: [u8; 20],
    size: U32,
}

const _: () = assert!(size_of::<FirstEvent>() == 32);

/// `TCG_EfiSpecIDEvent`, up to its list of banks.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Specification {
    signature: [u8; 16],
    platform_class: U32,
    version: [u8; 4],
    banks: U32,
}

const _: () = assert!(size_of::<Specification>() == 28);

/// `TCG_EfiSpecIdEventAlgorithmSize`.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Bank {
    algorithm: U16,
    size: U16,
}

const _: () = assert!(size_of::<Bank>() == 4);

/// `TCG_PCR_EVENT2`, up to its digests.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    index: U32,
    kind: U32,
    digests: U32,
}

const _: () = assert!(size_of::<Header>() == 12);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_log::Subject;
    use alloc::vec;
    use proptest::prelude::*;

    /// A log with the banks SHA-1, SHA-256 and SHA-384 and one separator in each of these registers.
    fn log(registers: &[u32]) -> Vec<u8> {
        let mut log = [
            &[0; 4][..],
            &3_u32.to_le_bytes(),
            &[0; 20],
            &(28 + 12 + 1_u32).to_le_bytes(),
        ]
        .concat();
        log.extend(b"Spec ID Event03\0\0\0\0\0\0\x02\x00\x02\x03\0\0\0");
        log.extend([4, 0, 20, 0, 0xb, 0, 32, 0, 0xc, 0, 48, 0, 0]);
        for register in registers {
            let numbers = [*register, 4, 3];
            log.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
            log.extend([&[4, 0][..], &[0xaa; 20], &[0xb, 0], Sha256::of([0; 4]).bytes()].concat());
            log.extend([&[0xc, 0][..], Sha384::of([0; 4]).bytes(), &[4, 0, 0, 0], &[0; 4]].concat());
        }
        log
    }

    #[test]
    fn events_are_read_until_memory_is_erased() {
        for filling in [0, 0xff] {
            let bytes = [log(&[0, 7]), vec![filling; 100]].concat();
            let read = EventLog::read(&bytes, LogOf::Tpm).unwrap();
            let [first, second] = &read.events[..] else {
                panic!("{read:?}")
            };
            assert_eq!((first.register, second.register), (Register::Pcr(0), Register::Pcr(7)));
            assert_eq!(
                (&first.subject, first.digests),
                (&Subject::Separator, Digests::of([0; 4]))
            );
        }
    }

    #[test]
    fn what_lies_is_refused_by_field_and_offset() {
        let whole = log(&[1]);
        let refusal = |offset: usize, byte: u8, of| {
            let mut bytes = whole.clone();
            bytes[offset] = byte;
            EventLog::read(&bytes, of).unwrap_err()
        };
        assert_eq!(refusal(32, b'X', LogOf::Tpm), LogError::NotCryptoAgile);
        let field = |error| match error {
            LogError::Field {
                field, offset, value, ..
            } => (field, offset, value),
            other => panic!("{other}"),
        };
        assert_eq!(field(refusal(56, 17, LogOf::Tpm)), ("number of banks", 56, 17));
        assert_eq!(field(refusal(62, 31, LogOf::Tpm)), ("digest size of a bank", 62, 31));
        assert_eq!(field(refusal(73, 24, LogOf::Tpm)), ("register of an event", 73, 24));
        assert_eq!(field(refusal(73, 0, LogOf::Td)), ("register of an event", 73, 0));
        assert_eq!(
            field(refusal(81, 2, LogOf::Td)),
            ("number of digests of an event", 81, 2)
        );
        assert_eq!(field(refusal(85, 5, LogOf::Td)), ("algorithm of a digest", 85, 5));
    }

    proptest! {
        #[test]
        fn no_log_makes_the_reader_panic(cut in 0..300_usize, at in 0..250_usize, byte: u8) {
            let mut bytes = log(&[1, 2]);
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(cut);
            for of in [LogOf::Tpm, LogOf::Td] {
                let _ = EventLog::read(&bytes, of);
            }
        }
    }
}
