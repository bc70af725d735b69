//! Digests of what is too large to hold: bytes are hashed as they come, for all banks at once.

use sha2::{Digest as _, Sha256, Sha384};

use super::Digests;

/// Hashes a stream of bytes into the digests of one event.
#[derive(Clone, Default)]
pub struct Hasher {
    sha256: Sha256,
    sha384: Sha384,
    length: u64,
}

impl Hasher {
    /// Hashes the next bytes.
    pub fn update(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        self.sha256.update(bytes);
        self.sha384.update(bytes);
        self.length = self.length.saturating_add(bytes.len() as u64);
    }

    /// Returns how many bytes were hashed.
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Returns the digests of all bytes in both banks.
    pub fn finish(self) -> Digests {
        Digests {
            sha256: Some(<[u8; 32]>::from(self.sha256.finalize()).into()),
            sha384: Some(<[u8; 48]>::from(self.sha384.finalize()).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_hash_as_the_whole_does() {
        let mut hasher = Hasher::default();
        hasher.update("a");
        hasher.update("");
        hasher.update("bc");
        assert_eq!((hasher.length(), hasher.finish()), (3, Digests::of("abc")));
    }
}
