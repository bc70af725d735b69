//! The registers a vCPU starts with.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromZeros, Immutable, IntoBytes};

use super::{GuestFeatures, Vmm};
use crate::pages::PAGE;

/// Guest address at which the first vCPU starts.
pub(super) const RESET_VECTOR: u32 = 0xffff_fff0;

impl Vmsa {
    /// Returns the state of a vCPU that starts at guest address `start`: reset state of an x86 CPU, with what KVM and
    /// the VMM change.
    pub(super) fn new(vmm: Vmm, start: u32, features: GuestFeatures) -> Self {
        let own = Own::of(vmm, start);
        let data = Segment::new(0, DATA, 0);
        Self {
            es: data,
            cs: Segment::new(0xf000, own.cs, start & 0xffff_0000),
            ss: Segment::new(0, own.ss, 0),
            ds: data,
            fs: data,
            gs: data,
            gdtr: Segment::new(0, 0, 0),
            ldtr: Segment::new(0, LDT, 0),
            idtr: Segment::new(0, 0, 0),
            tr: Segment::new(0, own.tr, 0),
            efer: EFER_SVME.into(),
            cr4: CR4_MCE.into(),
            cr0: CR0_ET.into(),
            dr7: 0x400.into(),
            dr6: 0xffff_0ff0.into(),
            rflags: 0x2.into(),
            rip: u64::from(start & 0xffff).into(),
            g_pat: own.g_pat.into(),
            rdx: u64::from(own.rdx).into(),
            sev_features: features.bits().into(),
            xcr0: 1.into(),
            mxcsr: own.mxcsr.into(),
            x87_fcw: own.x87_fcw.into(),
            ..Self::new_zeroed()
        }
    }
}

/// What the VMMs set differently.
struct Own {
    cs: u16,
    ss: u16,
    tr: u16,
    g_pat: u64,
    rdx: u32,
    mxcsr: u32,
    x87_fcw: u16,
}

impl Own {
    /// Values of sev-snp-measure 0.0.13; those of EC2 and GCE were found by comparison with reports of live guests.
    fn of(vmm: Vmm, start: u32) -> Self {
        match vmm {
            Vmm::Qemu { cpu } => Self {
                cs: CODE,
                ss: DATA,
                tr: TASK,
                g_pat: PAT_AT_RESET,
                rdx: cpu.bits(),
                mxcsr: 0x1f80,
                x87_fcw: 0x37f,
            },
            Vmm::Ec2 => Self {
                cs: if start == RESET_VECTOR { CODE & !ACCESSED } else { CODE },
                ss: DATA & !ACCESSED,
                tr: 0x83,
                g_pat: PAT_AT_RESET,
                rdx: INTEL_RDX,
                mxcsr: 0,
                x87_fcw: 0,
            },
            Vmm::Gce => Self {
                cs: CODE,
                ss: DATA,
                tr: TASK,
                g_pat: 0x0007_0106,
                rdx: INTEL_RDX,
                mxcsr: 0,
                x87_fcw: 0,
            },
        }
    }
}

impl Segment {
    const fn new(selector: u16, attributes: u16, base: u32) -> Self {
        Self {
            selector: U16::new(selector),
            attributes: U16::new(attributes),
            limit: U32::new(0xffff),
            base: U64::new(base as u64),
        }
    }
}

/// Attributes of segments at reset: present, of the named kind, accessed (APM volume 2, section 4.7).
const CODE: u16 = 0x9b;
const DATA: u16 = 0x93;
const LDT: u16 = 0x82;
const TASK: u16 = 0x8b;
const ACCESSED: u16 = 1;

/// KVM runs every SVM guest with this bit set.
const EFER_SVME: u64 = 0x1000;
/// KVM sets it for SEV-ES guests.
const CR4_MCE: u64 = 0x40;
const CR0_ET: u64 = 0x10;
/// The page attribute table at reset (APM volume 2, section 7.8).
const PAT_AT_RESET: u64 = 0x0007_0406_0007_0406;
/// RDX after reset where the VMM sets no signature of its own.
const INTEL_RDX: u32 = 0x600;

/// A segment register: AMD64 Architecture Programmer's Manual volume 2 (24593) revision 3.42, table B-4.
#[derive(Clone, Copy, FromZeros, Immutable, IntoBytes)]
#[repr(C)]
struct Segment {
    selector: U16,
    attributes: U16,
    limit: U32,
    base: U64,
}

/// A VMSA page: AMD64 Architecture Programmer's Manual volume 2 (24593) revision 3.42, table B-4.
#[derive(FromZeros, Immutable, IntoBytes)]
#[repr(C)]
pub(super) struct Vmsa {
    es: Segment,
    cs: Segment,
    ss: Segment,
    ds: Segment,
    fs: Segment,
    gs: Segment,
    gdtr: Segment,
    ldtr: Segment,
    idtr: Segment,
    tr: Segment,
    pl_ssp: [U64; 4],
    u_cet: U64,
    reserved_0xc8: [u8; 2],
    vmpl: u8,
    cpl: u8,
    reserved_0xcc: [u8; 4],
    efer: U64,
    reserved_0xd8: [u8; 104],
    xss: U64,
    cr4: U64,
    cr3: U64,
    cr0: U64,
    dr7: U64,
    dr6: U64,
    rflags: U64,
    rip: U64,
    dr: [U64; 4],
    dr_addr_mask: [U64; 4],
    reserved_0x1c0: [u8; 24],
    rsp: U64,
    s_cet: U64,
    ssp: U64,
    isst_addr: U64,
    rax: U64,
    star: U64,
    lstar: U64,
    cstar: U64,
    sfmask: U64,
    kernel_gs_base: U64,
    sysenter_cs: U64,
    sysenter_esp: U64,
    sysenter_eip: U64,
    cr2: U64,
    reserved_0x248: [u8; 32],
    g_pat: U64,
    dbgctl: U64,
    br_from: U64,
    br_to: U64,
    last_excp_from: U64,
    last_excp_to: U64,
    reserved_0x298: [u8; 80],
    pkru: U32,
    tsc_aux: U32,
    reserved_0x2f0: [u8; 24],
    rcx: U64,
    rdx: U64,
    rbx: U64,
    reserved_0x320: [u8; 8],
    rbp: U64,
    rsi: U64,
    rdi: U64,
    r8_to_r15: [U64; 8],
    reserved_0x380: [u8; 16],
    guest_exit_info: [U64; 2],
    guest_exit_int_info: U64,
    guest_nrip: U64,
    sev_features: U64,
    vintr_ctrl: U64,
    guest_exit_code: U64,
    virtual_tom: U64,
    tlb_id: U64,
    pcpu_id: U64,
    event_inj: U64,
    xcr0: U64,
    reserved_0x3f0: [u8; 16],
    x87_dp: U64,
    mxcsr: U32,
    x87_ftw: U16,
    x87_fsw: U16,
    x87_fcw: U16,
    x87_fop: U16,
    x87_ds: U16,
    x87_cs: U16,
    x87_rip: U64,
    fpreg_x87: [u8; 80],
    fpreg_xmm: [u8; 256],
    fpreg_ymm: [u8; 256],
    rest_of_page: [u8; 2448],
}

const _: () = assert!(size_of::<Vmsa>() as u64 == PAGE);
