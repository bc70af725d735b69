use proptest::prelude::*;

use super::*;
use crate::event_log::Hasher;
use crate::tdx::{SeparatorRegister, rtmr_log};
use crate::{gpt, linux as kernel, uki};
use alloc::string::ToString as _;

const INITRD: &[u8] = b"an initrd";

fn initrd(bytes: &[u8]) -> Initrd {
    let mut hasher = Hasher::default();
    hasher.update(bytes);
    Initrd::new(hasher)
}

fn direct_boot(kernel: &[u8], initrd: Initrd, cmdline: &str) -> Result<EventLog, BootError> {
    let initrd = Some(initrd);
    let boot = DirectBoot {
        kernel: KernelImage::AsIs.authenticode(kernel, initrd, cmdline)?,
        initrd,
        cmdline,
        initrd_argument: InitrdArgument::Prefix,
    };
    Ok(boot.events()?.log([], []))
}

fn disk_boot(disk: &[u8], uki: &[u8], exit_boot_services: ExitBootServices) -> Result<EventLog, BootError> {
    let events = BootEvents {
        exit_boot_services,
        ..DiskBoot { disk, uki }.events()?
    };
    Ok(events.log([], []))
}

fn uki_with(version: &str, linux: &[u8]) -> Vec<u8> {
    uki::example(
        version,
        &[
            (".osrel", b"ID=x\n"),
            (".cmdline", b"quiet\n"),
            (".initrd", INITRD),
            (".linux", linux),
        ],
    )
}

/// Returns what the events that differ between two logs are about.
fn difference(one: &EventLog, other: &EventLog) -> Vec<Subject> {
    assert_eq!(one.events.len(), other.events.len());
    let pairs = one.events.iter().zip(&other.events);
    let differing = pairs.filter(|(one, other)| !one.digests.agree(&other.digests));
    differing.map(|(event, _)| event.subject.clone()).collect()
}

#[test]
fn a_direct_boot_measures_in_the_order_of_the_firmware() {
    let log = direct_boot(&kernel::example(b""), initrd(INITRD), "quiet").unwrap();
    let pcrs: Vec<_> = log.events.iter().map(|event| event.register).collect();
    let expected = [4, 4, 0, 1, 2, 3, 4, 5, 6, 9, 9, 5, 5].map(Register::Pcr);
    assert_eq!(pcrs, expected);
    let td = rtmr_log(&log, SeparatorRegister::Rtmr0);
    let rtmrs: Vec<_> = td.events.iter().map(|event| event.register).collect();
    assert_eq!(rtmrs, [1, 1, 0, 2, 2, 1, 1].map(Register::Rtmr));
}

#[test]
fn an_empty_initrd_is_none() {
    let bytes = kernel::example(b"");
    let [_, patched] = KernelImage::candidates(1 << 31);
    let events = |initrd| {
        let boot = DirectBoot {
            kernel: patched.authenticode(&bytes, initrd, "quiet").unwrap(),
            initrd,
            cmdline: "quiet",
            initrd_argument: InitrdArgument::Suffix,
        };
        boot.events().unwrap()
    };
    assert_eq!(events(Some(initrd(b""))), events(None));
    let [empty, filled] = [events(None), events(Some(initrd(b"x")))];
    assert!(empty.before != filled.before && empty.after != filled.after);
}

#[test]
fn events_of_the_firmware_go_where_it_makes_them() {
    let boot = BootEvents {
        before: [action(4, "kernel")].into(),
        after: [action(4, "calling")].into(),
        exit_boot_services: ExitBootServices::Once,
    };
    let log = boot.log([action(0, "early")], [action(1, "ready")]);
    let expected = [
        (0, "early"),
        (4, "kernel"),
        (1, "ready"),
        (4, "calling"),
        (5, INVOCATION),
        (5, SUCCESS),
    ];
    assert_eq!(log.events, expected.map(|(pcr, text)| action(pcr, text)));
}

#[test]
fn a_td_does_not_measure_the_invocation_that_fails() {
    let uki = uki_with("257", &kernel::example(b""));
    let log = disk_boot(&gpt::example(&[1]), &uki, ExitBootServices::FailedFirst).unwrap();
    let actions = |log: &EventLog| {
        let events = log.events.iter().skip(2);
        let texts = events.filter_map(|event| match &event.subject {
            Subject::Action(text) => Some(text.clone()),
            _ => None,
        });
        texts.collect::<Vec<_>>()
    };
    assert_eq!(actions(&log), [INVOCATION, FAILURE, INVOCATION, SUCCESS]);
    let td = rtmr_log(&log, SeparatorRegister::Rtmr1);
    assert_eq!(actions(&td), [FAILURE, INVOCATION, SUCCESS]);
}

#[test]
fn stubs_nobody_can_predict_are_refused_by_name() {
    let boot = |version| {
        let uki = uki_with(version, &kernel::example(b""));
        disk_boot(&gpt::example(&[1]), &uki, ExitBootServices::Once)
    };
    assert!(boot("256.4").is_ok() && boot("260.1-2").is_ok());
    assert!(matches!(boot("255.4"), Err(BootError::OldStub(_))));
    let error = boot("261~rc1").unwrap_err();
    assert!(matches!(error, BootError::UnpredictableStub(_)));
    assert!(error.to_string().contains("systemd-stub 261~rc1") && error.to_string().contains("random secret"));
}

#[test]
fn kernels_that_measure_nothing_are_refused() {
    let old = crate::pe::tests::image(&[(".text", b"old")]);
    let mut old = [&old[..0x202], b"HdrS\x0f\x02", &old[0x208..]].concat();
    assert_eq!(
        direct_boot(&old, initrd(INITRD), "").unwrap_err(),
        BootError::Kernel(KernelError::MeasuresNothing)
    );
    let uki = uki_with("257", &old);
    assert_eq!(
        disk_boot(&gpt::example(&[1]), &uki, ExitBootServices::Once).unwrap_err(),
        BootError::Kernel(KernelError::MeasuresNothing)
    );
    old[0x202] = 0;
    assert!(matches!(
        direct_boot(&old, initrd(INITRD), ""),
        Err(BootError::Kernel(KernelError::SetupHeader(_)))
    ));
}

#[test]
fn a_video_mode_is_refused_only_where_qemu_writes_it() {
    let bytes = kernel::example(b"");
    let [as_is, patched] = KernelImage::candidates(1 << 31);
    assert!(as_is.authenticode(&bytes, None, "novga=1").is_ok());
    assert_eq!(
        patched.authenticode(&bytes, None, "novga=1"),
        Err(KernelError::VideoMode)
    );
}

/// Without other files the stub hands `.initrd` over as it is; with one, both are filled up to four bytes.
#[test]
fn the_initrd_of_a_uki_is_filled_up_only_if_something_follows() {
    let linux = kernel::example(b"");
    let digests = |version, sections: &[(&str, &[u8])]| {
        let uki = uki::example(version, &[sections, &[(".linux", &linux)]].concat());
        let log = disk_boot(&gpt::example(&[1]), &uki, ExitBootServices::Once).unwrap();
        let initrd = log.events.into_iter().find(|event| event.subject == Subject::Initrd);
        initrd.map(|event| event.digests)
    };
    let alone: [(&str, &[u8]); 1] = [(".initrd", INITRD)];
    assert_eq!(digests("257", &alone), Some(Digests::of(INITRD)));
    assert_eq!(digests("257", &[]), None);
    let both = [(".ucode", &b"micro"[..]), (".initrd", INITRD)];
    assert_eq!(digests("257", &both), Some(Digests::of(b"micro\0\0\0an initrd\0\0\0")));
    let named = [(".initrd", INITRD), (".osrel", b"ID=x\n")];
    assert_eq!(digests("256", &named), Some(Digests::of(INITRD)));
    assert_ne!(digests("257", &named), Some(Digests::of(INITRD)));
}

proptest! {
    #[test]
    fn a_changed_bit_changes_only_what_it_belongs_to(at in 0_usize..9, bit in 0..7, payload in 16_usize..512) {
        let flip = |bytes: &[u8], at: usize| {
            let mut bytes = bytes.to_vec();
            bytes[at] ^= 1_u8 << bit;
            bytes
        };
        let linux = kernel::example(&[7; 600]);
        let other = flip(&linux, 0x1000 + payload);
        let log = direct_boot(&linux, initrd(INITRD), "aaaaaaaaa").unwrap();
        let changed = direct_boot(&other, initrd(INITRD), "aaaaaaaaa").unwrap();
        prop_assert_eq!(difference(&log, &changed), [Subject::Kernel]);
        let changed = direct_boot(&linux, initrd(&flip(INITRD, at)), "aaaaaaaaa").unwrap();
        prop_assert_eq!(difference(&log, &changed), [Subject::Initrd]);
        let cmdline = String::from_utf8(flip(b"aaaaaaaaa", at)).unwrap();
        let changed = direct_boot(&linux, initrd(INITRD), &cmdline).unwrap();
        prop_assert_eq!(difference(&log, &changed), [Subject::CommandLine]);

        let disk = gpt::example(&[1]);
        let log = disk_boot(&disk, &uki_with("257", &linux), ExitBootServices::Once).unwrap();
        let changed = disk_boot(&disk, &uki_with("257", &other), ExitBootServices::Once).unwrap();
        let subjects = [Subject::Uki, Subject::Section(".linux".into()), Subject::Kernel];
        prop_assert_eq!(difference(&log, &changed), subjects);
        let changed = disk_boot(&gpt::example(&[1, 2]), &uki_with("257", &linux), ExitBootServices::Once).unwrap();
        prop_assert_eq!(difference(&log, &changed), [Subject::PartitionTable]);
    }
}
