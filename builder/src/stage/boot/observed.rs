//! What a machine's TPM said: the log of the firmware, and the registers.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use data_encoding::{BASE64, DecodeKind};
use measure::event_log::Digests;

use crate::mend::{Exit, OrMend as _};

/// What a machine's TPM said at the end of the early boot.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Observed {
    /// The log that the firmware and its boot loader wrote, as Linux has it in `binary_bios_measurements`: TCG PC Client
    /// Platform Firmware Profile 1.06, section 10.
    pub log: Vec<u8>,
    /// What each PCR held, 0 to 23, in both banks.
    pub pcrs: BTreeMap<u8, Digests>,
    /// What systemd has measured since then: JSON, one record after another (RFC 7464); empty where it measured nothing.
    pub userspace: Vec<u8>,
}

/// How much a guest may tell, in bytes: fifty times what it has to.
pub(super) const LIMIT: u64 = 1 << 20;

/// How many PCRs a TPM has: TCG PC Client Platform TPM Profile 1.05, section 4.6.
const PCRS: u8 = 24;

/// Where Linux has them.
mod sysfs {
    pub(super) const LOG: &str = "/sys/kernel/security/tpm0/binary_bios_measurements";
    pub(super) const SHA256: &str = "/sys/class/tpm/tpm0/pcr-sha256/";
    pub(super) const SHA384: &str = "/sys/class/tpm/tpm0/pcr-sha384/";
    pub(super) const USERSPACE: &str = "/run/log/systemd/tpm2-measure.log";
}

/// The files of an evidence folder.
mod file {
    pub(super) const LOG: &str = "log.bin";
    pub(super) const PCRS: &str = "pcrs.json";
    pub(super) const USERSPACE: &str = "userspace.log";
}

/// What is wrong with what a guest told.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotObserved {
    #[error("it ends before the line \"begat: done\"")]
    CutShort,
    #[error("{0} is not there, or empty")]
    Missing(String),
    #[error("{0} is there twice")]
    Twice(String),
    #[error("{file} is not base64 at byte {position}: {kind}")]
    NotBase64 {
        file: String,
        position: usize,
        kind: DecodeKind,
    },
    #[error("{file} is not a PCR: expected {expected} hex digits, found {found:?}")]
    NotADigest {
        file: String,
        expected: usize,
        found: String,
    },
}

/// Returns whether this is the last line that a guest tells.
pub(super) fn is_last(line: &[u8]) -> bool {
    line.trim_ascii() == b"begat: done"
}

impl Observed {
    /// Reads what a guest told: files in base64 between `begat: begin FILE` and `begat: end FILE`. What is outside of them
    /// is somebody else's.
    ///
    /// # Errors
    /// It is cut short, or is no base64; the log or a PCR is missing; a PCR is not a digest.
    pub fn parse(told: &[u8]) -> Result<Self, NotObserved> {
        let mut files = files(told)?;
        let pcr = |index| {
            let sha256 = digest(&files, &format!("{}{index}", sysfs::SHA256))?;
            let sha384 = digest(&files, &format!("{}{index}", sysfs::SHA384))?;
            let (sha256, sha384) = (Some(sha256), Some(sha384));
            Ok((index, Digests { sha256, sha384 }))
        };
        let pcrs = (0..PCRS).map(pcr).collect::<Result<_, _>>()?;
        let log = files.remove(sysfs::LOG).filter(|log| !log.is_empty());
        Ok(Self {
            log: log.ok_or_else(|| NotObserved::Missing(sysfs::LOG.into()))?,
            pcrs,
            userspace: files.remove(sysfs::USERSPACE).unwrap_or_default(),
        })
    }

    /// Writes it down in a folder.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let pcrs = serde_json::to_vec_pretty(&self.pcrs).context("cannot write PCRs as JSON")?;
        let files = [
            (file::LOG, &self.log),
            (file::PCRS, &pcrs),
            (file::USERSPACE, &self.userspace),
        ];
        files.iter().try_for_each(|(name, content)| {
            let file = folder.join(name);
            fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))
        })
    }

    /// Reads what [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// A file is missing or is not what was written.
    pub fn load(folder: &Path) -> Result<Self> {
        let read = |name: &str| {
            let file = folder.join(name);
            let problem = format!("cannot read {}", file.display());
            fs::read(&file).or_mend(Exit::Usage, problem, "name a folder that begat boot --evidence wrote")
        };
        Ok(Self {
            log: read(file::LOG)?,
            pcrs: serde_json::from_slice(&read(file::PCRS)?).context("cannot read the PCRs")?,
            userspace: read(file::USERSPACE)?,
        })
    }
}

/// Returns the files that a guest told, by path.
fn files(told: &[u8]) -> Result<BTreeMap<String, Vec<u8>>, NotObserved> {
    let mut files = BTreeMap::new();
    let mut open: Option<(String, Vec<u8>)> = None;
    for line in told.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii) {
        if is_last(line) && open.is_none() {
            return Ok(files);
        }
        let text = str::from_utf8(line).unwrap_or_default();
        match &mut open {
            None => open = text.strip_prefix("begat: begin ").map(|path| (path.into(), Vec::new())),
            Some((path, base64)) if text.strip_prefix("begat: end ") == Some(path) => {
                let content = decode(path, base64)?;
                if files.insert(path.clone(), content).is_some() {
                    return Err(NotObserved::Twice(path.clone()));
                }
                open = None;
            }
            Some((_, base64)) => base64.extend(line),
        }
    }
    Err(NotObserved::CutShort)
}

fn decode(file: &str, base64: &[u8]) -> Result<Vec<u8>, NotObserved> {
    BASE64.decode(base64).map_err(|error| NotObserved::NotBase64 {
        file: file.into(),
        position: error.position,
        kind: error.kind,
    })
}

/// Linux writes PCRs in upper case.
fn digest<const N: usize>(files: &BTreeMap<String, Vec<u8>>, file: &str) -> Result<measure::Digest<N>, NotObserved> {
    let content = files.get(file).ok_or_else(|| NotObserved::Missing(file.into()))?;
    let text = String::from_utf8_lossy(content).trim().to_ascii_lowercase();
    text.parse().map_err(|_| NotObserved::NotADigest {
        file: file.into(),
        expected: 2 * N,
        found: text.chars().take(2 * N + 1).collect(),
    })
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64_MIME;
    use measure::{Sha256, Sha384};
    use proptest::prelude::*;

    use super::*;

    /// What a guest tells, after what its firmware has left on the line; `spoil` changes each file.
    fn told(spoil: impl Fn(&str, String) -> Option<String>) -> String {
        let mut files = vec![(sysfs::LOG.to_owned(), b"log".repeat(100))];
        for index in 0..PCRS {
            files.push((format!("{}{index}", sysfs::SHA256), format!("{:0>64X}\n", index).into()));
            files.push((format!("{}{index}", sysfs::SHA384), format!("{:0>96X}\n", index).into()));
        }
        let mut text = String::from("\x1b[2JEFI stub: Loaded\r\n\r\n");
        for (path, content) in files {
            if let Some(base64) = spoil(&path, BASE64_MIME.encode(&content)) {
                text += &format!("begat: begin {path}\r\n{base64}begat: end {path}\r\n");
            }
        }
        text + "begat: done\r\n"
    }

    fn whole() -> String {
        told(|_, base64| Some(base64))
    }

    #[test]
    fn what_a_guest_tells() {
        let observed = Observed::parse(whole().as_bytes()).unwrap();
        assert_eq!(observed.log, b"log".repeat(100));
        assert_eq!(observed.pcrs.len(), 24);
        let mut ten = ([0; 32], [0; 48]);
        (ten.0[31], ten.1[47]) = (10, 10);
        assert_eq!(observed.pcrs[&10].sha256, Some(Sha256::from(ten.0)));
        assert_eq!(observed.pcrs[&10].sha384, Some(Sha384::from(ten.1)));
        assert!(observed.userspace.is_empty());
    }

    #[test]
    fn what_is_cut_short_is_refused_wherever_it_ends() {
        let whole = whole();
        let end = whole.len() - "\r\n".len();
        for length in (0..end).step_by(97).chain([end - 1]) {
            assert_eq!(Observed::parse(&whole.as_bytes()[..length]), Err(NotObserved::CutShort));
        }
    }

    #[test]
    fn what_is_missing_twice_or_garbled_is_named() {
        let pcr = format!("{}7", sysfs::SHA384);
        let but = |change: fn(String) -> Option<String>| {
            let text = told(|path, base64| if path == pcr { change(base64) } else { Some(base64) });
            Observed::parse(text.as_bytes()).unwrap_err().to_string()
        };
        assert_eq!(but(|_| None), format!("{pcr} is not there, or empty"));
        assert_eq!(
            but(|_| Some("AB?=\n".into())),
            format!("{pcr} is not base64 at byte 2: invalid symbol")
        );
        let expected = "expected 96 hex digits, found \"a\"";
        assert_eq!(
            but(|_| Some("YQ==\n".into())),
            format!("{pcr} is not a PCR: {expected}")
        );
        let twice = whole().replace(
            "begat: done",
            &format!("begat: begin {pcr}\nbegat: end {pcr}\nbegat: done"),
        );
        assert_eq!(Observed::parse(twice.as_bytes()), Err(NotObserved::Twice(pcr)));
    }

    #[test]
    fn a_folder_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let observed = Observed::parse(whole().as_bytes()).unwrap();
        observed.save(folder.path()).unwrap();
        assert_eq!(Observed::load(folder.path()).unwrap(), observed);
    }

    proptest! {
        #[test]
        fn anything_is_read_or_refused(told in any::<Vec<u8>>()) {
            prop_assert!(Observed::parse(&told).is_err());
        }
    }
}
