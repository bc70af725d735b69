//! The variables of Secure Boot that an image brings: edk2-stable202508, MdeModulePkg/Include/Guid/VariableFormat.h, and
//! the events about them: TCG PC Client Platform Firmware Profile 1.06, section 3.3.4.8.

use alloc::vec::Vec;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::generation::utf16;
use super::volume::VolumeHeader;
use crate::Guid;
use crate::event_log::{Digests, Event, EventType, Register, Subject};

/// What Secure Boot knows before the first boot.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SecureBoot {
    /// Whether the firmware has Secure Boot at all.
    pub built_in: bool,
    /// Each as the variable holds it, a list of `EFI_SIGNATURE_LIST`; empty where there is no such variable.
    pub platform_key: Vec<u8>,
    pub key_exchange_keys: Vec<u8>,
    pub signatures: Vec<u8>,
    pub forbidden_signatures: Vec<u8>,
    /// `dbt`, of which there is an event only if there is the variable.
    pub timestamp_signatures: Vec<u8>,
}

impl SecureBoot {
    /// Returns the variables of a firmware without any: that of an image without a variable store, or one that QEMU
    /// loads with `-bios` outside of a TD, where variables start empty in memory.
    pub fn unenrolled(built_in: bool) -> Self {
        Self {
            built_in,
            ..Self::default()
        }
    }

    /// Returns the variables in the store that starts `image`: a whole image, a file of variables, or the configuration
    /// volume of a TD. Where no store starts it there are none.
    ///
    /// # Errors
    ///
    /// The store is damaged, or of the format without authentication.
    pub fn read(image: &[u8], built_in: bool) -> Result<Self, VariableError> {
        let variables = variables(image)?;
        let data = |vendor, name| {
            let of_name = |variable: &&Variable| variable.vendor == vendor && variable.name == utf16(name);
            let found = variables
                .iter()
                .filter(of_name)
                .min_by_key(|variable| variable.replaced);
            found.map_or(Vec::new(), |variable| variable.data.to_vec())
        };
        Ok(Self {
            built_in,
            platform_key: data(GLOBAL, "PK"),
            key_exchange_keys: data(GLOBAL, "KEK"),
            signatures: data(SECURITY, "db"),
            forbidden_signatures: data(SECURITY, "dbx"),
            timestamp_signatures: data(SECURITY, "dbt"),
        })
    }

    /// Returns the events about the variables, in the order of edk2.
    pub fn events(&self, register: Register) -> Vec<Event> {
        let enabled: &[u8] = match (self.built_in, self.platform_key.is_empty()) {
            (false, _) => &[],
            (true, true) => &[0],
            (true, false) => &[1],
        };
        let mut events: Vec<Event> = [
            (GLOBAL, "SecureBoot", enabled),
            (GLOBAL, "PK", &self.platform_key),
            (GLOBAL, "KEK", &self.key_exchange_keys),
            (SECURITY, "db", &self.signatures),
            (SECURITY, "dbx", &self.forbidden_signatures),
        ]
        .map(|(vendor, name, data)| event(register, vendor, name, data))
        .into();
        if !self.timestamp_signatures.is_empty() {
            events.push(event(register, SECURITY, "dbt", &self.timestamp_signatures));
        }
        events
    }
}

/// The event hashes all of `UEFI_VARIABLE_DATA`.
fn event(register: Register, vendor: Guid, name: &str, data: &[u8]) -> Event {
    let text = utf16(name);
    let lengths = [text.len() / 2, data.len()].map(|length| (length as u64).to_le_bytes());
    Event {
        register,
        kind: EventType::EFI_VARIABLE_DRIVER_CONFIG,
        subject: Subject::SecureBoot(name.into()),
        digests: Digests::of([vendor.bytes(), lengths.as_flattened(), &text, data].concat()),
    }
}

/// One variable that was not deleted.
struct Variable<'a> {
    vendor: Guid,
    /// UTF-16 without NUL.
    name: &'a [u8],
    data: &'a [u8],
    /// Whether the next one of this name counts, if there is one.
    replaced: bool,
}

/// Returns the variables in the store that starts `image`; none if it starts with no store.
fn variables(image: &[u8]) -> Result<Vec<Variable<'_>>, VariableError> {
    let store = VolumeHeader::read(image).filter(|header| header.file_system == NV_DATA);
    let Some(header) = store else {
        return Ok(Vec::new());
    };
    let start = usize::from(header.header_length.get());
    let store = image.get(start..).unwrap_or_default();
    let (header, _) = StoreHeader::read_from_prefix(store).map_err(|_| VariableError::Truncated { offset: start })?;
    if header.format != AUTHENTICATED {
        let found = header.format;
        return Err(VariableError::Format { offset: start, found });
    }
    let end = header.size.get() as usize;
    let store = store.get(..end).ok_or(VariableError::Truncated { offset: start })?;
    let mut variables = Vec::new();
    let mut offset = size_of::<StoreHeader>();
    while let Some((variable, end)) =
        Variable::read(store, offset).ok_or(VariableError::Truncated { offset: start + offset })?
    {
        variables.extend(variable);
        offset = end.next_multiple_of(ALIGNMENT);
    }
    Ok(variables)
}

impl<'a> Variable<'a> {
    /// Returns the variable at `offset` (nothing if it is deleted) and where it ends; nothing inside after the last;
    /// nothing outside if it is not inside the store.
    fn read(store: &'a [u8], offset: usize) -> Option<Option<(Option<Self>, usize)>> {
        let tail = store.get(offset..).unwrap_or_default();
        let Some((header, body)) = VariableHeader::read_from_prefix(tail)
            .ok()
            .filter(|(it, _)| it.start == START)
        else {
            return Some(None);
        };
        let (name_size, data_size) = (header.name_size.get() as usize, header.data_size.get() as usize);
        let name = body.get(..name_size)?;
        let data = body[name_size..].get(..data_size)?;
        let variable = Self {
            vendor: header.vendor,
            name: name.strip_suffix(&[0, 0]).unwrap_or(name),
            data,
            replaced: header.state == ADDED & IN_DELETED_TRANSITION,
        };
        let alive = header.state == ADDED || variable.replaced;
        let end = offset + size_of::<VariableHeader>() + name_size + data_size;
        Some(Some((alive.then_some(variable), end)))
    }
}

/// What is wrong with a store of variables. Offsets are in bytes from the start of the image.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum VariableError {
    #[error("variable store, or a variable in it, at offset {offset:#x} ends outside what holds it")]
    Truncated { offset: usize },
    #[error(
        "variable store at offset {offset:#x} has format {found}, expected {AUTHENTICATED} (authenticated variables)"
    )]
    Format { offset: usize, found: Guid },
}

/// `EFI_GLOBAL_VARIABLE`.
const GLOBAL: Guid = Guid::new(0x8be4df61_93ca_11d2_aa0d_00e098032b8c);

/// `EFI_IMAGE_SECURITY_DATABASE_GUID`.
const SECURITY: Guid = Guid::new(0xd719b2cb_3d3a_4596_a3bc_dad00e67656f);

/// `EFI_SYSTEM_NV_DATA_FV_GUID`: the file system of a volume with a store.
const NV_DATA: Guid = Guid::new(0xfff12b8d_7696_4c8b_a985_2747075b4f50);

const AUTHENTICATED: Guid = Guid::new(0xaaf32c78_947b_439a_a180_2e144ec37792);

const ALIGNMENT: usize = 4;

const START: U16 = U16::new(0x55aa);

/// `VAR_ADDED` and `VAR_IN_DELETED_TRANSITION`: each state clears bits of the one before.
const ADDED: u8 = 0x3f;
const IN_DELETED_TRANSITION: u8 = 0xfe;

/// `VARIABLE_STORE_HEADER`; the size includes the header.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct StoreHeader {
    format: Guid,
    size: U32,
    formatted: u8,
    state: u8,
    reserved: [u8; 6],
}

const _: () = assert!(size_of::<StoreHeader>() == 28);

/// `AUTHENTICATED_VARIABLE_HEADER`; name and data follow.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct VariableHeader {
    start: U16,
    state: u8,
    reserved: u8,
    attributes: U32,
    count: U64,
    time: [u8; 16],
    key: U32,
    name_size: U32,
    data_size: U32,
    vendor: Guid,
}

const _: () = assert!(size_of::<VariableHeader>() == 60);
