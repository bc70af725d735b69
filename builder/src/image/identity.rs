//! UUIDs, salts and volume ids: random everywhere else, here a function of the lock and of what they are for.

use measure::Sha256;
use uuid::{Builder, Uuid};

/// Returns the UUID of `what`, version 8 (RFC 9562 §5.8).
pub fn uuid(lock: &Sha256, what: &str) -> Uuid {
    let bytes = *seed(lock, "uuid", what).bytes();
    let first = bytes.first_chunk().expect("a SHA-256 has more than 16 bytes");
    Builder::from_custom_bytes(*first).into_uuid()
}

/// Returns the salt of the dm-verity tree of `what`.
pub fn salt(lock: &Sha256, what: &str) -> [u8; 32] {
    *seed(lock, "salt", what).bytes()
}

/// Returns the FAT volume id of `what`.
pub fn volume_id(lock: &Sha256, what: &str) -> u32 {
    let [a, b, c, d, ..] = *seed(lock, "volume id", what).bytes();
    u32::from_be_bytes([a, b, c, d])
}

/// The kind keeps apart what has one name; the NUL keeps `kind` and `what` apart.
fn seed(lock: &Sha256, kind: &str, what: &str) -> Sha256 {
    Sha256::of([lock.bytes().as_slice(), kind.as_bytes(), b"\0", what.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ours, pinned: another value is another image for every lock.
    #[test]
    fn derivation_does_not_change() {
        let lock = Sha256::of("lock");
        assert_eq!(uuid(&lock, "root").to_string(), "d0cf486e-3573-8aa8-8356-6b14eec6fe53");
        assert_eq!(
            Sha256::from(salt(&lock, "root")).to_string(),
            "e67a5cec0b46a7f1265aca8432dabbf04fa0b7d8d1dd4091fd57e64949bc3473"
        );
        assert_eq!(format!("{:08x}", volume_id(&lock, "esp")), "a3c2ecc1");
    }

    #[test]
    fn uuids_are_of_version_8_and_differ_by_lock_and_purpose() {
        let (one, other) = (Sha256::of("one"), Sha256::of("other"));
        assert_eq!(uuid(&one, "disk").get_version_num(), 8);
        assert_ne!(uuid(&one, "disk"), uuid(&one, "root"));
        assert_ne!(uuid(&one, "disk"), uuid(&other, "disk"));
    }
}
