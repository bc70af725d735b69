//! A TPM 2.0: a quote over the registers that tell what was booted (TPM 2.0 Library, revision 1.59, part 3).
//!
//! Three kinds of TPM are told apart by what their makers left in them: Azure's, whose key a report of the hardware vouches
//! for; Google's, whose key has a certificate; any other, for which a key is made that nothing vouches for.

mod public;
mod quote;
mod wire;

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use measure::evidence::tpm::{Quote, Signature};
use measure::evidence::{Bytes, TpmEvidence};

use self::public::{Public, TEMPLATE};
use self::quote::{BANKS, Bank, REGISTERS, Values, select, selection, selections};
use self::wire::{Code, Command, Cut, HEADER, LARGEST, Rest};
use super::Silence;
use crate::mend::{Exit, OrMend as _};
use crate::world::files;

/// The device of the kernel's resource manager.
pub const DEVICE: &str = "/dev/tpmrm0";

/// Where the kernel keeps the log of the firmware.
const EVENT_LOG: &str = "/sys/kernel/security/tpm0/binary_bios_measurements";

/// Largest log that is kept, in bytes.
const LARGEST_LOG: u64 = 16 << 20;

/// How long a TPM behind a socket may think; the kernel has limits of its own for devices.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a quote is made until the registers stand still.
const ATTEMPTS: u32 = 5;

/// How often a TPM may ask to be asked again.
const RETRIES: u32 = 50;

const OWNER: u32 = 0x4000_0001; // TPM_RH_OWNER
const ENDORSEMENT: u32 = 0x4000_000b; // TPM_RH_ENDORSEMENT

/// Azure's key, the report of its hardware, and what that report is to carry.
mod azure {
    pub(super) const KEY: u32 = 0x8100_0003;
    pub(super) const REPORT: u32 = 0x0140_0001;
    pub(super) const DATA: u32 = 0x0140_0002;
    /// The paravisor makes the report anew meanwhile.
    pub(super) const PAUSE: std::time::Duration = std::time::Duration::from_secs(3);
}

/// Google's keys, the better one first: certificate and template.
const GOOGLE: [(u32, u32); 2] = [(0x01c1_0002, 0x01c1_0003), (0x01c1_0000, 0x01c1_0001)];

/// Evidence of a TPM, and the HCL report where the TPM is Azure's.
#[derive(Clone, Debug)]
pub struct Said {
    pub evidence: TpmEvidence,
    pub hcl: Option<Vec<u8>>,
}

/// Returns what the TPM at `path`, a device or a socket, says for this report data, which a quote carries as it is.
///
/// # Errors
/// There is no TPM, or it fails; it cannot carry that much data; its registers do not stand still.
pub fn ask(path: &Path, data: &[u8]) -> Result<Said, Silence> {
    let mut tpm = Tpm::open(path)?;
    Ok(tpm.say(path, data)?)
}

/// What a TPM answers other than success: part 2, clause 6.6.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("{command:?} fails with code {code:#x}{}", meaning(*code))]
struct Refusal {
    command: Code,
    code: u32,
}

/// Codes that a format gives a parameter or handle number to, without that number.
const HANDLE: u32 = 0x8b;
const SIZE: u32 = 0x95;

impl Refusal {
    /// The code without the number of what it is about.
    const fn kind(self) -> u32 {
        match self.code & 0x80 {
            0 => self.code,
            _ => self.code & 0xbf,
        }
    }
}

const fn meaning(code: u32) -> &'static str {
    match code & 0xbf {
        _ if code & 0x80 == 0 => "",
        0x8b => ", there is no such handle",
        0x95 => ", a size is wrong",
        0x8e => ", the authorisation is wrong: a password is set",
        0xa2 => ", the password is wrong: one is set",
        _ => "",
    }
}

trait Wire: Read + Write {}
impl Wire for File {}
impl Wire for UnixStream {}

struct Tpm(Box<dyn Wire>);

/// A key, loaded for as long as it is used.
struct Key {
    handle: u32,
    public: Public,
    certificates: Vec<Bytes>,
    /// It was loaded by us.
    transient: bool,
}

/// An NV index.
struct Index {
    /// In bytes.
    size: u16,
    /// Otherwise the index itself authorises.
    owner_reads: bool,
}

impl Tpm {
    fn open(path: &Path) -> Result<Self, Silence> {
        let shown = path.display();
        let kind = match path.metadata() {
            Ok(metadata) => metadata.file_type(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Silence::Absent(format!("there is no {shown}")));
            }
            Err(error) => return Err(anyhow::Error::new(error).context(format!("cannot see {shown}")).into()),
        };
        let wire = match kind.is_socket() {
            true => socket(path),
            false => OpenOptions::new()
                .read(true)
                .write(true)
                .open(path)
                .map(|file| Box::new(file) as Box<dyn Wire>),
        };
        let wire = wire.or_mend(
            Exit::Outside,
            format!("cannot open {shown}"),
            "run begat attest as root",
        );
        Ok(Self(wire?))
    }

    fn say(&mut self, path: &Path, data: &[u8]) -> Result<Said> {
        let hcl = self.hcl(data)?;
        let key = match hcl {
            Some(_) => self.persistent(azure::KEY)?,
            None => self
                .certified()
                .transpose()
                .unwrap_or_else(|| self.primary(&TEMPLATE))?,
        };
        let evidence = self.quote(&key, data);
        if key.transient {
            let _ = self.ask(&Command::new(Code::FlushContext).u32(key.handle)); // the resource manager does it as well
        }
        let event_log = match path == Path::new(DEVICE) {
            true => log()?,
            false => None, // the kernel's log is of its own TPM
        };
        let evidence = TpmEvidence {
            event_log,
            ak: key.public.spki.into(),
            ak_certificates: key.certificates,
            ..evidence?
        };
        Ok(Said { evidence, hcl })
    }

    /// Quotes until what is read of the registers is what was quoted.
    fn quote(&mut self, key: &Key, data: &[u8]) -> Result<TpmEvidence> {
        let banks = self.banks()?;
        let selected: Vec<_> = banks.iter().map(|bank| select(*bank, REGISTERS)).collect();
        for _ in 0..ATTEMPTS {
            let (quote, signature) = self.quoted(key, data, &selected)?;
            let said = Quote::read(&quote).context("what the TPM signs is no quote")?;
            let hash = Signature::read(&signature)
                .context("the TPM signs as begat cannot verify")?
                .hash;
            let pcrs = self.values(&banks)?;
            if said.extra_data != data || !quote::selects(&said, &selected) {
                let problem = "the TPM quotes something else than it was asked to";
                return Err(Exit::Outside.because(problem, "do not use this TPM"));
            }
            if quote::is_of(&said, &pcrs, hash) {
                return Ok(TpmEvidence {
                    quote: quote.into(),
                    signature: signature.into(),
                    pcrs,
                    ..TpmEvidence::default()
                });
            }
        }
        let problem = "the registers of the TPM change faster than they can be read";
        Err(Exit::Outside.because(problem, "see what extends them, and try again"))
    }

    /// `TPM2_Quote`: part 3, clause 18.4. Returns `TPMS_ATTEST` and `TPMT_SIGNATURE`.
    fn quoted(&mut self, key: &Key, data: &[u8], selected: &[quote::Selected]) -> Result<(Vec<u8>, Vec<u8>)> {
        const NULL: u16 = 0x10; // as the key says
        let command = Command::new(Code::Quote)
            .u32(key.handle)
            .by_password()
            .sized(data)
            .u16(NULL);
        let answer = match self.try_ask(&selection(command, selected))? {
            Ok(answer) => answer,
            Err(refusal) if refusal.kind() == SIZE => {
                let problem = format!("{refusal}: this TPM cannot quote {} bytes of report data", data.len());
                return Err(Exit::Unsupported.because(problem, "give a digest that it has a bank for, 48 or 32 bytes"));
            }
            Err(refusal) => return Err(refusal.into()),
        };
        let mut rest = Rest(&answer);
        let quote = rest.sized()?.to_vec();
        Ok((quote, rest.0.to_vec()))
    }

    /// The banks that can be quoted: `TPM2_GetCapability` of `TPM_CAP_PCRS`, part 3, clause 30.2.
    fn banks(&mut self) -> Result<Vec<Bank>> {
        const PCRS: u32 = 5;
        let answer = self.ask(&Command::new(Code::GetCapability).u32(PCRS).u32(0).u32(1))?;
        let mut rest = Rest(&answer);
        let (_more, _capability) = (rest.u8()?, rest.u32()?);
        let allocated = selections(&mut rest)?;
        let has = |bank: &Bank| {
            let (algorithm, wanted) = select(*bank, REGISTERS);
            allocated.iter().any(|(of, bits)| {
                *of == algorithm && bits.iter().zip(wanted).all(|(has, wanted)| has & wanted == wanted)
            })
        };
        let banks: Vec<Bank> = BANKS.into_iter().filter(has).collect();
        match banks.is_empty() {
            true => Err(Exit::Unsupported.because(
                "the TPM has neither a SHA-256 nor a SHA-384 bank",
                "let the firmware allocate one",
            )),
            false => Ok(banks),
        }
    }

    fn values(&mut self, banks: &[Bank]) -> Result<Values> {
        let mut values = Values::new();
        for bank in banks {
            for start in REGISTERS.step_by(8) {
                let read = self.eight(*bank, start)?;
                values.entry(bank.name.to_owned()).or_default().extend(read);
            }
        }
        Ok(values)
    }

    /// `TPM2_PCR_Read`, which reads eight registers at most: part 3, clause 22.4.
    fn eight(&mut self, bank: Bank, start: u8) -> Result<Vec<(u8, Bytes)>> {
        let wanted = [select(bank, start..start + 8)];
        let answer = self.ask(&selection(Command::new(Code::PcrRead), &wanted))?;
        let mut rest = Rest(&answer);
        let (_counter, selected, count) = (rest.u32()?, selections(&mut rest)?, rest.u32()?);
        if selected != wanted || count != 8 {
            let problem = format!(
                "the TPM reads other registers of its {} bank than it was asked to",
                bank.name
            );
            return Err(Exit::Outside.because(problem, "do not use this TPM"));
        }
        let value = |index| Ok((index, Bytes::from(rest.sized()?.to_vec())));
        (start..start + 8).map(value).collect()
    }

    /// The report of Azure's paravisor over this report data, where there is one.
    fn hcl(&mut self, data: &[u8]) -> Result<Option<Vec<u8>>> {
        if self.index(azure::REPORT)?.is_none() {
            return Ok(None);
        }
        let mut padded = [0; 64];
        padded.iter_mut().zip(data).for_each(|(to, from)| *to = *from);
        if self.index(azure::DATA)?.is_none() {
            self.define(azure::DATA, 64)?;
        }
        let command = Command::new(Code::NvWrite).u32(OWNER).u32(azure::DATA).by_password();
        self.ask(&command.sized(&padded).u16(0))?;
        thread::sleep(azure::PAUSE);
        self.stored(azure::REPORT)
    }

    /// `TPM2_NV_DefineSpace`: part 3, clause 31.3.
    fn define(&mut self, index: u32, size: u16) -> Result<()> {
        const SHA256: u16 = 0xb;
        const ATTRIBUTES: u32 = 1 << 1 | 1 << 2 | 1 << 17 | 1 << 18; // owner and index may write and read
        let public = Command::new(Code::NvDefineSpace).u32(index).u16(SHA256).u32(ATTRIBUTES);
        let public = public.sized(&[]).u16(size).bytes();
        let command = Command::new(Code::NvDefineSpace).u32(OWNER).by_password();
        self.ask(&command.sized(&[]).sized(&public[HEADER..])).map(drop)
    }

    /// Google's key with its certificate, where there is one.
    fn certified(&mut self) -> Result<Option<Key>> {
        for (certificate, template) in GOOGLE {
            let found = (self.stored(certificate)?, self.stored(template)?);
            if let (Some(certificate), Some(template)) = found {
                let mut key = self.primary(&template)?;
                key.certificates = vec![certificate.into()];
                return Ok(Some(key));
            }
        }
        Ok(None)
    }

    /// `TPM2_CreatePrimary` in the endorsement hierarchy: part 3, clause 24.1.
    fn primary(&mut self, template: &[u8]) -> Result<Key> {
        const SENSITIVE: [u8; 4] = [0; 4]; // no password, no data
        let command = Command::new(Code::CreatePrimary).u32(ENDORSEMENT).by_password();
        let command = command.sized(&SENSITIVE).sized(template).sized(&[]).u32(0);
        let (handle, answer) = self.made(&command)?;
        let public = Public::read(Rest(&answer).sized()?)?;
        Ok(Key {
            handle,
            public: attesting(public, "the key that the TPM makes")?,
            certificates: Vec::new(),
            transient: true,
        })
    }

    /// `TPM2_ReadPublic`: part 3, clause 12.4.
    fn persistent(&mut self, handle: u32) -> Result<Key> {
        let answer = self.ask(&Command::new(Code::ReadPublic).u32(handle))?;
        let public = Public::read(Rest(&answer).sized()?)?;
        Ok(Key {
            handle,
            public: attesting(public, &format!("the key at {handle:#x}"))?,
            certificates: Vec::new(),
            transient: false,
        })
    }

    /// What is said of an NV index, where it is there: `TPM2_NV_ReadPublic`, part 3, clause 31.6.
    fn index(&mut self, index: u32) -> Result<Option<Index>> {
        let answer = match self.try_ask(&Command::new(Code::NvReadPublic).u32(index))? {
            Ok(answer) => answer,
            Err(refusal) if refusal.kind() == HANDLE => return Ok(None),
            Err(refusal) => return Err(refusal.into()),
        };
        let mut public = Rest(Rest(&answer).sized()?);
        let (_index, _hash, attributes) = (public.u32()?, public.u16()?, public.u32()?);
        public.sized()?;
        let owner_reads = attributes & 1 << 17 != 0;
        let size = public.u16()?;
        Ok(Some(Index { size, owner_reads }))
    }

    /// What an NV index holds, where it is there: `TPM2_NV_Read`, part 3, clause 31.13.
    fn stored(&mut self, index: u32) -> Result<Option<Vec<u8>>> {
        const PIECE: u16 = 512; // every TPM reads as much at once
        let Some(Index { size, owner_reads }) = self.index(index)? else {
            return Ok(None);
        };
        let reader = if owner_reads { OWNER } else { index };
        let mut bytes = Vec::new();
        for offset in (0..size).step_by(PIECE.into()) {
            let command = Command::new(Code::NvRead).u32(reader).u32(index).by_password();
            let answer = self.ask(&command.u16(PIECE.min(size - offset)).u16(offset))?;
            bytes.extend(Rest(&answer).sized()?);
        }
        Ok(Some(bytes))
    }

    /// Asks, and returns the parameters of the answer.
    fn ask(&mut self, command: &Command) -> Result<Vec<u8>> {
        Ok(self.try_ask(command)??)
    }

    /// Asks, and returns the handle of what was made, and the parameters.
    fn made(&mut self, command: &Command) -> Result<(u32, Vec<u8>)> {
        let answer = self.send(command)??;
        let mut rest = Rest(&answer);
        let handle = rest.u32()?;
        Ok((handle, parameters(command, rest)?))
    }

    fn try_ask(&mut self, command: &Command) -> Result<Result<Vec<u8>, Refusal>> {
        self.send(command)?
            .map(|answer| Ok(parameters(command, Rest(&answer))?))
            .map_or_else(|refusal| Ok(Err(refusal)), |answer| answer.map(Ok))
    }

    /// Sends a command, again where the TPM asks for that, and returns what follows the header.
    fn send(&mut self, command: &Command) -> Result<Result<Vec<u8>, Refusal>> {
        const AGAIN: [u32; 4] = [0x908, 0x90a, 0x920, 0x922]; // yielded, testing, NV rate, retry
        for _ in 0..RETRIES {
            let (code, answer) = self.exchange(command)?;
            match code {
                0 => return Ok(Ok(answer)),
                code if AGAIN.contains(&code) => thread::sleep(Duration::from_millis(100)),
                code => {
                    let command = command.code();
                    return Ok(Err(Refusal { command, code }));
                }
            }
        }
        let problem = format!("the TPM wants {:?} to be asked again and again", command.code());
        Err(Exit::Outside.because(problem, "try again later"))
    }

    fn exchange(&mut self, command: &Command) -> Result<(u32, Vec<u8>)> {
        let written = self.0.write_all(&command.bytes());
        let answer = written.and_then(|()| receive(&mut *self.0));
        let answer = answer.or_mend(
            Exit::Outside,
            format!("the TPM does not answer {:?}", command.code()),
            "see whether another program keeps it busy",
        )?;
        let mut rest = Rest(&answer);
        let (_tag, _size, code) = (rest.u16()?, rest.u32()?, rest.u32()?);
        Ok((code, rest.0.to_vec()))
    }
}

/// Connects to a socket that speaks as a device does: `swtpm socket --server type=unixio`.
fn socket(path: &Path) -> io::Result<Box<dyn Wire>> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(Box::new(stream))
}

/// Reads one response. A device gives it to one read; a stream in as many as it likes.
fn receive(wire: &mut (impl Read + ?Sized)) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; LARGEST];
    let mut length = 0;
    loop {
        match wire.read(&mut buffer[length..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => length += count,
        }
        let size = Rest(&buffer[..length]).sized_header();
        match size {
            Some(size) if !(HEADER..=LARGEST).contains(&size) => return Err(io::ErrorKind::InvalidData.into()),
            Some(size) if size <= length => {
                buffer.truncate(size);
                return Ok(buffer);
            }
            _ => {}
        }
    }
}

/// The parameters in what follows the handles of a response.
fn parameters(command: &Command, mut rest: Rest<'_>) -> Result<Vec<u8>, Cut> {
    if command.is_authorised() {
        let size = rest.u32()?;
        return usize::try_from(size)
            .map_err(|_| Cut)
            .and_then(|size| rest.take(size))
            .map(<[u8]>::to_vec);
    }
    Ok(rest.0.to_vec())
}

fn attesting(public: Option<Public>, what: &str) -> Result<Public> {
    match public {
        Some(public) if public.attests => Ok(public),
        Some(_) => {
            let problem = format!("{what} is no attestation key: it is not restricted to what the TPM itself makes");
            Err(Exit::Unsupported.because(problem, "use a TPM with another key"))
        }
        None => {
            let problem = format!("{what} is neither RSA nor on P-256");
            Err(Exit::Unsupported.because(problem, "use a TPM with another key"))
        }
    }
}

/// The log of the firmware, where the kernel has it.
fn log() -> Result<Option<Bytes>> {
    match files::read(Path::new(EVENT_LOG), LARGEST_LOG) {
        Ok(bytes) => Ok(Some(bytes.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).or_mend(
            Exit::Outside,
            format!("cannot read {EVENT_LOG}"),
            "run begat attest as root",
        ),
    }
}
