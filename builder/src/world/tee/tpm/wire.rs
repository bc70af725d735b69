//! Commands and responses of a TPM as bytes, all big-endian: TPM 2.0 Library, revision 1.59, part 1, clause 18.

/// With no authorisation, and with some.
const TAGS: (u16, u16) = (0x8001, 0x8002);

/// The largest response that is read, in bytes; TPMs send 4096 at most.
pub(super) const LARGEST: usize = 16 << 10;

/// Of a command and of a response: tag, size, code.
pub(super) const HEADER: usize = 10;

/// A command as it grows: handles first, then the authorisation, then parameters.
#[derive(Clone, Debug)]
pub(super) struct Command {
    tag: u16,
    code: Code,
    body: Vec<u8>,
}

/// `TPM_CC`: part 2, clause 6.5.2.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub(super) enum Code {
    NvDefineSpace = 0x12a,
    CreatePrimary = 0x131,
    NvWrite = 0x137,
    NvRead = 0x14e,
    Quote = 0x158,
    FlushContext = 0x165,
    NvReadPublic = 0x169,
    ReadPublic = 0x173,
    GetCapability = 0x17a,
    PcrRead = 0x17e,
}

impl Command {
    pub(super) const fn new(code: Code) -> Self {
        Self {
            tag: TAGS.0,
            code,
            body: Vec::new(),
        }
    }

    pub(super) const fn code(&self) -> Code {
        self.code
    }

    pub(super) fn raw(mut self, bytes: &[u8]) -> Self {
        self.body.extend(bytes);
        self
    }

    pub(super) fn u16(self, value: u16) -> Self {
        self.raw(&value.to_be_bytes())
    }

    pub(super) fn u32(self, value: u32) -> Self {
        self.raw(&value.to_be_bytes())
    }

    /// Appends a `TPM2B`: its size, then the bytes.
    ///
    /// # Panics
    /// More than 65535 bytes.
    pub(super) fn sized(self, bytes: &[u8]) -> Self {
        let size = u16::try_from(bytes.len()).expect("what we send is short");
        self.u16(size).raw(bytes)
    }

    /// Appends the authorisation of the first handle by an empty password.
    pub(super) fn by_password(mut self) -> Self {
        const PASSWORD: u32 = 0x4000_0009; // TPM_RS_PW
        self.tag = TAGS.1;
        self.u32(9).u32(PASSWORD).sized(&[]).raw(&[0]).sized(&[])
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let size = u32::try_from(HEADER + self.body.len()).expect("what we send is short");
        let header = Self::new(self.code).u16(self.tag).u32(size).u32(self.code as u32);
        [header.body, self.body.clone()].concat()
    }

    pub(super) const fn is_authorised(&self) -> bool {
        self.tag == TAGS.1
    }
}

/// A response ends too early.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the TPM's response ends too early")]
pub(super) struct Cut;

/// What is left of a response.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rest<'a>(pub(super) &'a [u8]);

impl<'a> Rest<'a> {
    pub(super) fn take(&mut self, size: usize) -> Result<&'a [u8], Cut> {
        let (taken, rest) = self.0.split_at_checked(size).ok_or(Cut)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Cut> {
        self.take(N)?.try_into().map_err(|_| Cut)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Cut> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Cut> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Cut> {
        self.array().map(u32::from_be_bytes)
    }

    /// Takes a `TPM2B` and returns its bytes.
    pub(super) fn sized(&mut self) -> Result<&'a [u8], Cut> {
        let size = self.u16()?;
        self.take(size.into())
    }

    /// The size that the header says, where that much has come.
    pub(super) fn sized_header(mut self) -> Option<usize> {
        self.u16().ok()?;
        self.u32().ok()?.try_into().ok()
    }
}
