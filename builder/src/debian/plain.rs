//! Packages without compression: who unpacks one need not decompress it again. deb(5) allows it, dpkg knows it.

use std::io::{self, Read, Seek, SeekFrom, Write};

use anyhow::Result;

use super::deb::{self, Part};

/// Where in the header of an `ar` member its size is: ten decimal digits.
const SIZE: u64 = 48;

/// Writes the package `deb`, with nothing compressed, to an empty file.
///
/// # Errors
/// Bytes that are no package, and a file that cannot be written.
pub fn write(deb: &[u8], to: &mut (impl Write + Seek)) -> Result<()> {
    to.write_all(b"!<arch>\n")?;
    append(to, "debian-binary", &b"2.0\n"[..])?;
    append(to, "control.tar", deb::part(deb, Part::Control)?.into_inner())?;
    append(to, "data.tar", deb::part(deb, Part::Data)?.into_inner())?;
    Ok(to.flush()?)
}

/// Appends an `ar` member, whose size is known when it is written.
fn append(to: &mut (impl Write + Seek), name: &str, mut content: impl Read) -> io::Result<()> {
    let start = to.stream_position()?;
    writeln!(to, "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`", 0, 0, 0, 100_644, 0)?;
    let size = io::copy(&mut content, to)?;
    if !size.is_multiple_of(2) {
        to.write_all(b"\n")?;
    }
    let end = to.stream_position()?;
    to.seek(SeekFrom::Start(start + SIZE))?;
    write!(to, "{size:<10}")?;
    to.seek(SeekFrom::Start(end)).map(drop)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use measure::Sha512;

    use super::*;
    use crate::debian::deb::tests::{ar, tar};
    use crate::debian::members::Members;
    use crate::mend::exit_code;

    type Compressor = fn(&[u8]) -> Vec<u8>;

    const COMPRESSORS: [(&str, Compressor); 4] = [("", none), (".gz", gz), (".xz", xz), (".zst", zst)];

    fn none(bytes: &[u8]) -> Vec<u8> {
        bytes.into()
    }

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        writer.write_all(bytes).unwrap();
        writer.finish().unwrap()
    }

    fn xz(bytes: &[u8]) -> Vec<u8> {
        let mut writer = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).unwrap();
        writer.write_all(bytes).unwrap();
        writer.finish().unwrap()
    }

    fn zst(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    fn package(extension: &str, compressed: Compressor) -> Vec<u8> {
        let control = tar(&[("./control", "Package: hello\n"), ("./postinst", "#!/bin/sh\n")]);
        let data = tar(&[
            ("./usr/bin/hello", &"hello ".repeat(100_000)),
            ("./usr/share/doc/hello/copyright", "mine, \u{e9}"),
        ]);
        ar(&[
            ("debian-binary", b"2.0\n"),
            (&format!("control.tar{extension}"), &compressed(&control)),
            (&format!("data.tar{extension}"), &compressed(&data)),
        ])
    }

    fn plain(deb: &[u8]) -> Result<Vec<u8>> {
        let mut plain = Cursor::new(Vec::new());
        write(deb, &mut plain).map(|()| plain.into_inner())
    }

    #[test]
    fn a_plain_package_consists_of_the_same_as_the_one_that_it_was_made_from() {
        for (extension, compressor) in COMPRESSORS {
            let deb = package(extension, compressor);
            let plain = Cursor::new(plain(&deb).unwrap());
            let members = Members::read_from(plain, Sha512::of(&deb)).unwrap();
            assert_eq!(members, Members::read(&deb).unwrap(), "{extension}");
            assert_eq!(
                members.data["/usr/bin/hello"].kind,
                Members::read(&package("", none)).unwrap().data["/usr/bin/hello"].kind
            );
        }
    }

    /// `ar` of the crate of that name reads it, too: three members whose content is that of the uncompressed parts.
    #[test]
    fn a_plain_package_is_an_archive_of_three_members() {
        let bytes = plain(&package(".xz", xz)).unwrap();
        assert_eq!(bytes, package("", none));
        let mut archive = ::ar::Archive::new(&bytes[..]);
        let mut names = Vec::new();
        while let Some(entry) = archive.next_entry() {
            names.push(String::from_utf8(entry.unwrap().header().identifier().to_vec()).unwrap());
        }
        assert_eq!(names, ["debian-binary", "control.tar", "data.tar"]);
    }

    /// Also one that ends behind its last file, where whoever reads what it consists of may be content.
    #[test]
    fn a_package_that_ends_early_or_is_damaged_is_refused() {
        for (extension, compressor) in COMPRESSORS {
            let whole = package(extension, compressor);
            for length in [4, 70, 200, whole.len() / 2, whole.len() - 40] {
                let written = plain(&whole[..length]).unwrap_err();
                if let Err(read) = Members::read(&whole[..length]) {
                    assert_eq!(
                        exit_code(&written),
                        exit_code(&read),
                        "{extension} {length}: {written} {read}"
                    );
                }
            }
        }
        let mut damaged = package(".xz", xz);
        let middle = damaged.len() - 200;
        damaged[middle] ^= 1;
        assert!(plain(&damaged).is_err());
    }
}
