//! Types of events: TCG PC Client Platform Firmware Profile 1.06, table 27.

use alloc::format;
use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// The type of an event, by its number; its text is the name of the specification, or the number in hex.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct EventType(pub u32);

/// Names the types once: constants, texts and their reading.
macro_rules! types {
    ($($name:ident = $number:literal,)*) => {
        impl EventType {
            $(#[doc = concat!("`EV_", stringify!($name), "`")] pub const $name: Self = Self($number);)*

            const NAMES: &[(Self, &'static str)] = &[$((Self($number), concat!("EV_", stringify!($name))),)*];
        }
    };
}

types! {
    POST_CODE = 0x1,
    NO_ACTION = 0x3,
    SEPARATOR = 0x4,
    ACTION = 0x5,
    EVENT_TAG = 0x6,
    S_CRTM_CONTENTS = 0x7,
    S_CRTM_VERSION = 0x8,
    PLATFORM_CONFIG_FLAGS = 0xa,
    TABLE_OF_DEVICES = 0xb,
    COMPACT_HASH = 0xc,
    IPL = 0xd,
    NONHOST_INFO = 0x11,
    EFI_VARIABLE_DRIVER_CONFIG = 0x8000_0001,
    EFI_VARIABLE_BOOT = 0x8000_0002,
    EFI_BOOT_SERVICES_APPLICATION = 0x8000_0003,
    EFI_BOOT_SERVICES_DRIVER = 0x8000_0004,
    EFI_RUNTIME_SERVICES_DRIVER = 0x8000_0005,
    EFI_GPT_EVENT = 0x8000_0006,
    EFI_ACTION = 0x8000_0007,
    EFI_PLATFORM_FIRMWARE_BLOB = 0x8000_0008,
    EFI_HANDOFF_TABLES = 0x8000_0009,
    EFI_PLATFORM_FIRMWARE_BLOB2 = 0x8000_000a,
    EFI_HANDOFF_TABLES2 = 0x8000_000b,
    EFI_VARIABLE_BOOT2 = 0x8000_000c,
    EFI_HCRTM_EVENT = 0x8000_0010,
    EFI_VARIABLE_AUTHORITY = 0x8000_00e0,
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMES.iter().find(|(kind, _)| kind == self) {
            Some((_, name)) => f.pad(name),
            None => f.pad(&format!("{:#x}", self.0)),
        }
    }
}

/// A text that names no type of events.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("no type of events: {0:?}, expected a name as EV_EFI_ACTION or a number as 0xd")]
pub struct NotAnEventType(String);

impl FromStr for EventType {
    type Err = NotAnEventType;

    fn from_str(text: &str) -> Result<Self, NotAnEventType> {
        let named = Self::NAMES
            .iter()
            .find(|(_, name)| *name == text)
            .map(|(kind, _)| *kind);
        let number = || {
            text.strip_prefix("0x")
                .and_then(|digits| u32::from_str_radix(digits, 16).ok())
        };
        named
            .or_else(|| number().map(Self))
            .ok_or_else(|| NotAnEventType(text.into()))
    }
}

impl Serialize for EventType {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EventType {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString as _;

    #[test]
    fn text_round_trips_with_a_name_and_without() {
        for kind in [EventType::EFI_GPT_EVENT, EventType(0x1234)] {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert_eq!(EventType::IPL.to_string(), "EV_IPL");
        assert!("EV_NONE".parse::<EventType>().is_err());
    }
}
