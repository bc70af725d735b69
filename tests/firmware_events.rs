#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use std::path::PathBuf;
use lzma_rust2::XzReader;
use measure::ovmf::{Firmware, Ovmf};
#[test]
fn dump() {
    for name in ["OVMF-2022.11.fd","OVMF-2025.02.fd","OVMF-2026.08.fd","OVMF.amdsev-2026.08.fd","OVMF.inteltdx.ms-2026.08.fd","OVMF_CODE_4M-2026.08.fd"] {
        let mut image = Vec::new();
        std::io::copy(&mut XzReader::new(std::fs::File::open(PathBuf::from(format!("../../shared/vectors/inputs/{name}.xz"))).unwrap(), false), &mut image).unwrap();
        let ovmf = Ovmf::read(&image).unwrap();
        let start = std::time::Instant::now();
        let mut it = Firmware::read(&ovmf).unwrap();
        let took = start.elapsed();
        let n = |v: &mut Vec<u8>| { let n = v.len(); v.clear(); n };
        let lens = [n(&mut it.secure_boot.platform_key), n(&mut it.secure_boot.key_exchange_keys), n(&mut it.secure_boot.signatures), n(&mut it.secure_boot.forbidden_signatures)];
        println!("{name} {took:?} {lens:?} {it:#?}");
    }
}
