//! Certificates as people have them in files: one in DER, or any number in PEM.

use alloc::vec;
use alloc::vec::Vec;

use x509_cert::der::pem;

use super::Bytes;

/// Text that begins as a certificate in PEM does and is none.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("certificate {number} of the file is no PEM (RFC 7468)")]
pub struct NoPem {
    /// Counted from 1.
    pub number: usize,
}

/// What begins each certificate.
const BEGIN: &[u8] = b"-----BEGIN ";

/// Returns the certificates of a file in DER, in their order; one that is not in PEM is taken for DER and not looked at.
///
/// # Errors
/// PEM that is broken.
pub fn certificates(file: &[u8]) -> Result<Vec<Bytes>, NoPem> {
    let starts: Vec<usize> = memchr::memmem::find_iter(file, BEGIN).collect();
    if starts.is_empty() {
        return Ok(vec![file.to_vec().into()]);
    }
    let ends = starts.iter().skip(1).copied().chain([file.len()]);
    let blocks = starts.iter().zip(ends).map(|(start, end)| &file[*start..end]);
    let decoded = blocks.enumerate().map(|(index, block)| match pem::decode_vec(block) {
        Ok((_, der)) => Ok(der.into()),
        Err(_) => Err(NoPem { number: index + 1 }),
    });
    decoded.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----\n";

    #[test]
    fn each_certificate_of_a_chain_is_found() {
        let der: Bytes = vec![0, 1, 2].into();
        assert_eq!(certificates(ONE.as_bytes()), Ok(vec![der.clone()]));
        assert_eq!(
            certificates(ONE.repeat(2).as_bytes()),
            Ok(vec![der.clone(), der.clone()])
        );
        assert_eq!(certificates(&[0, 1, 2]), Ok(vec![der]));
    }

    #[test]
    fn a_broken_one_is_named() {
        let broken = [ONE, &ONE.replace("END", "FIN")].concat();
        assert_eq!(certificates(broken.as_bytes()), Err(NoPem { number: 2 }));
    }
}
