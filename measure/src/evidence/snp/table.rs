//! The certificates that the host gives along with a report.

use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::{LARGEST, MOST};
use crate::Guid;
use crate::evidence::{Bytes, EvidenceError, SnpEvidence};

/// Returns the certificates and lists of revoked certificates of `table`, in its order: what `auxblob` of Linux's
/// configfs-tsm and `SNP_GET_EXT_REPORT` give. No table at all, as where the host gives none, has none.
///
/// AMD SEV-ES GHCB Standardization (56421) revision 2.03, section 4.1.8.1, "SNP Extended Guest Request". Entries of other
/// kinds, such as Google's endorsement of its firmware, are passed over. The host wrote all of this: it proves nothing.
///
/// # Errors
/// If an entry is outside the table or larger than 64 KiB, or if there are more than 16.
pub fn certificate_table(table: &[u8]) -> Result<SnpEvidence, EvidenceError> {
    let mut found = SnpEvidence::default();
    let mut rest = table;
    for offset in (0..).step_by(size_of::<Entry>()) {
        let Ok((entry, tail)) = Entry::read_from_prefix(rest) else {
            // an empty table may be without the entry of zeros that ends others
            return if offset == 0 && rest.is_empty() {
                Ok(found)
            } else {
                Err(field("end of the certificate table", offset, 0))
            };
        };
        if entry.kind.bytes() == &[0; 16] {
            return Ok(found);
        }
        if offset >= (MOST * size_of::<Entry>()) as u64 {
            return Err(field(
                "number of entries of the certificate table",
                offset,
                MOST as u64 + 1,
            ));
        }
        rest = tail;
        let content = entry.content(table, offset)?;
        match entry.kind {
            VCEK | VLEK | ASK | ARK => found.certificates.push(content),
            CRL => found.crls.push(content),
            _ => {}
        }
    }
    Ok(found)
}

/// `cert_table_entry`: offset from the start of the table and length in bytes.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Entry {
    kind: Guid,
    offset: U32,
    length: U32,
}

impl Entry {
    fn content(&self, table: &[u8], offset: u64) -> Result<Bytes, EvidenceError> {
        let (start, length) = (self.offset.get() as usize, self.length.get() as usize);
        if length > LARGEST {
            return Err(field(
                "length of an entry of the certificate table",
                offset + 20,
                length as u64,
            ));
        }
        let content = start.checked_add(length).and_then(|end| table.get(start..end));
        let content =
            content.ok_or_else(|| field("place of an entry of the certificate table", offset + 16, start as u64))?;
        Ok(content.to_vec().into())
    }
}

const fn field(field: &'static str, offset: u64, value: u64) -> EvidenceError {
    EvidenceError::Field {
        field,
        offset,
        value,
        expected: "16 entries of 64 KiB at most, inside the table, and one of zeros",
    }
}

/// The kinds of entries.
const VCEK: Guid = Guid::new(0x63da758d_e664_4564_adc5_f4b93be8accd);
const VLEK: Guid = Guid::new(0xa8074bc2_a25a_483e_aae6_39c045a0b8a1);
const ASK: Guid = Guid::new(0x4ab7b379_bbac_4fe4_a02f_05aef327c782);
const ARK: Guid = Guid::new(0xc0b406a4_a803_4952_9743_3fb6014cd0ae);
const CRL: Guid = Guid::new(0x92f81bc3_5811_4d3d_97ff_d19f88dc67ea);

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;
    use std::string::ToString as _;

    /// Returns a table of entries of this kind, place and content.
    fn table(entries: &[(Guid, u32, u32)], content: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (kind, offset, length) in entries {
            bytes.extend(kind.bytes());
            bytes.extend(offset.to_le_bytes());
            bytes.extend(length.to_le_bytes());
        }
        bytes.extend([0; 24]);
        bytes.extend(content);
        bytes
    }

    #[test]
    fn entries_are_taken_by_their_kind() {
        let google = Guid::new(0x9f4116cd_c503_4f7b_8f6f_fb68882f4ce2);
        let bytes = table(
            &[(VCEK, 120, 2), (google, 120, 1), (CRL, 122, 1), (ARK, 123, 1)],
            b"vvca",
        );
        let found = certificate_table(&bytes).unwrap();
        assert_eq!(found.certificates, [b"vv".to_vec().into(), b"a".to_vec().into()]);
        assert_eq!(found.crls, [b"c".to_vec().into()]);
        for empty in [&[][..], &[0; 24], &[0; 4096]] {
            assert_eq!(certificate_table(empty).unwrap(), SnpEvidence::default());
        }
    }

    #[test]
    fn entries_outside_and_too_many_are_refused() {
        let refusal = |bytes: &[u8]| certificate_table(bytes).unwrap_err().to_string();
        for (offset, length) in [(48, 2), (49, 1), (u32::MAX, 1), (0, 0x1_0001)] {
            assert!(refusal(&table(&[(ASK, offset, length)], b"a")).contains("inside the table"));
        }
        let most = vec![(ASK, 0, 0x1_0000); 16];
        let mut bytes = table(&most, &[0; 0x1_0000]);
        assert_eq!(certificate_table(&bytes).unwrap().certificates.len(), 16);
        bytes.splice(0..0, VLEK.bytes().iter().copied().chain([0; 8]));
        assert!(refusal(&bytes).starts_with("number of entries of the certificate table at offset 0x180 is 0x11"));
        assert!(refusal(&table(&[], b"")[..23]).starts_with("end of the certificate table at offset 0x0"));
    }
}
