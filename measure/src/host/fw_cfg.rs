//! The events about items of fw_cfg that a TD's firmware reads before it trusts anything: edk2-stable202508,
//! OvmfPkg/Library/QemuFwCfgLib/QemuFwCfgCacheInit.c.

use alloc::string::String;
use alloc::vec::Vec;

use super::Host;
use crate::event_log::{Digests, Event, EventType, Register, Subject};

/// Returns the events about the items that there are, in the order of the firmware.
pub(crate) fn fw_cfg_events(host: &Host, register: Register) -> Vec<Event> {
    let menu = host.boot_menu.to_le_bytes();
    let file = |name, size: Option<usize>| {
        let bytes = host.files.get(name).map(Vec::as_slice)?;
        let fits = size.map_or(!bytes.is_empty(), |size| bytes.len() == size);
        fits.then_some((name, bytes))
    };
    let items = [
        file("etc/extra-pci-roots", Some(8)),
        Some(("BootMenu", menu.as_slice())),
        file("etc/boot-menu-wait", Some(2)),
        file("etc/reserved-memory-end", Some(8)),
        file("opt/ovmf/X-PciMmio64Mb", None),
        file("bootorder", None),
    ];
    let event = |(name, bytes): (&str, &[u8])| Event {
        register,
        kind: EventType::PLATFORM_CONFIG_FLAGS,
        subject: Subject::FwCfg(String::from(name)),
        digests: Digests::of(bytes),
    };
    items.into_iter().flatten().map(event).collect()
}
