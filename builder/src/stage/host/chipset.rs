//! The registers of a q35 machine that ACPI tables depend on, as OVMF sets them before it reads the tables.

use anyhow::Result;

use crate::mend::Exit;
use crate::world::qtest::Qtest;

/// I/O ports of PCI configuration mechanism 1: PCI Local Bus Specification 3.0, section 3.2.2.3.2.
mod port {
    pub(super) const ADDRESS: u16 = 0xcf8;
    pub(super) const DATA: u16 = 0xcfc;
}

/// A device function on bus 0.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Function {
    device: u8,
    function: u8,
}

/// Offsets in the configuration space: PCI Local Bus Specification 3.0, section 6.1.
mod offset {
    /// Vendor and device.
    pub(super) const IDENTITY: u8 = 0x00;
    pub(super) const COMMAND: u8 = 0x04;
    /// Cache line, latency, header type, self test.
    pub(super) const HEADER: u8 = 0x0c;
    pub(super) const FIRST_BAR: u8 = 0x10;
}

/// The function answers to memory addresses.
const COMMAND_MEMORY: u16 = 1 << 1;

/// Intel's 82G33, the memory controller of a q35: vendor 8086, device 29C0.
const MCH: u32 = 0x29c0_8086;
const MCH_AT: Function = Function { device: 0, function: 0 };

/// Where PCI Express has its configuration space: `PcdPciExpressBaseAddress` of OVMF, and the bit that enables it, in the
/// register `DRAMC_REGISTER_Q35 (MCH_PCIEXBAR)`.
const PCIEXBAR_LOW: u8 = 0x60;
const PCIEXBAR_HIGH: u8 = 0x64;
const PCIEXBAR: u32 = 0xe000_0000 | 1;

/// The ISA bridge ICH9, with the power management's ports (`ICH9_PMBASE_VALUE`) and their switch (`ICH9_ACPI_CNTL_ACPI_EN`).
const LPC_AT: Function = Function {
    device: 0x1f,
    function: 0,
};
const PMBASE: u8 = 0x40;
const PMBASE_VALUE: u32 = 0x600;
const ACPI_CONTROL: u8 = 0x44;
const ACPI_ENABLE: u8 = 0x80;

/// Sets the registers, and gives the first device with 64-bit memory the place `window`.
pub(super) fn program(machine: &mut Qtest, window: u64) -> Result<()> {
    let found = MCH_AT.read(machine, offset::IDENTITY)?;
    if found != MCH {
        let problem = format!("the machine has the memory controller {found:08x}, expected {MCH:08x}");
        return Err(Exit::Unsupported.because(problem, "ask for a q35 machine"));
    }
    MCH_AT.write(machine, PCIEXBAR_HIGH, 0)?;
    MCH_AT.write(machine, PCIEXBAR_LOW, PCIEXBAR)?;
    LPC_AT.write(machine, PMBASE, PMBASE_VALUE)?;
    LPC_AT.write_byte(machine, ACPI_CONTROL, ACPI_ENABLE)?;
    place(machine, window)
}

/// Gives the first device with 64-bit memory the lowest place of the window. Who else is in it, the tables do not say.
fn place(machine: &mut Qtest, window: u64) -> Result<()> {
    let mut bridges = false;
    for at in (0..32).flat_map(|device| (0..8).map(move |function| Function { device, function })) {
        let identity = at.read(machine, offset::IDENTITY)?;
        if identity == u32::MAX || identity == 0 {
            continue;
        }
        let bridge = (at.read(machine, offset::HEADER)? >> 16) & 0x7f != 0;
        bridges |= bridge;
        if let (false, Some(bar)) = (bridge, at.wide_bar(machine)?) {
            at.write(machine, bar, window as u32)?;
            at.write(machine, bar + 4, (window >> 32) as u32)?;
            let command = at.read(machine, offset::COMMAND)? as u16;
            return at.write_half(machine, offset::COMMAND, command | COMMAND_MEMORY);
        }
    }
    if bridges {
        let problem = "the machine has a PCI bridge, and no device on bus 0 with 64-bit memory";
        return Err(Exit::Unsupported.because(problem, "put one there, such as a virtio disk"));
    }
    Ok(())
}

impl Function {
    /// Returns the offset of the first base address register for 64-bit memory.
    fn wide_bar(self, machine: &mut Qtest) -> Result<Option<u8>> {
        const BARS: u8 = 6;
        for bar in (0..BARS - 1).map(|number| offset::FIRST_BAR + 4 * number) {
            let value = self.read(machine, bar)?;
            let (io, width) = (value & 1, (value >> 1) & 3);
            if io == 0 && width == 2 {
                return Ok(Some(bar));
            }
        }
        Ok(None)
    }

    fn select(self, machine: &mut Qtest, offset: u8) -> Result<()> {
        let at = u32::from(self.device) << 11 | u32::from(self.function) << 8 | u32::from(offset & !3);
        machine.outl(port::ADDRESS, 1 << 31 | at)
    }

    fn read(self, machine: &mut Qtest, offset: u8) -> Result<u32> {
        self.select(machine, offset)?;
        machine.inl(port::DATA)
    }

    fn write(self, machine: &mut Qtest, offset: u8, value: u32) -> Result<()> {
        self.select(machine, offset)?;
        machine.outl(port::DATA, value)
    }

    fn write_half(self, machine: &mut Qtest, offset: u8, value: u16) -> Result<()> {
        self.select(machine, offset)?;
        machine.outw(port::DATA + u16::from(offset & 2), value)
    }

    fn write_byte(self, machine: &mut Qtest, offset: u8, value: u8) -> Result<()> {
        self.select(machine, offset)?;
        machine.outb(port::DATA + u16::from(offset & 3), value)
    }
}
