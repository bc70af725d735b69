//! What a process gives up for good, with all that it starts: calls that lead out of its namespaces, and new privileges.
//!
//! Landlock would add nothing: whoever is under it can mount nothing any more (landlock(7)), and mkosi mounts.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

/// Families of sockets that belong to a network namespace, or stay on the machine. Those of `AF_VSOCK` reach the host from
/// every namespace, and the agent of a guest, which listens there.
const FAMILIES: [libc::c_int; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// Calls that no namespace holds, that reach into other processes, or that make sockets without a call that can be looked
/// into. To whoever calls them the kernel is one that does not have them.
const CALLS: [libc::c_long; 26] = [
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_process_madvise,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_userfaultfd,
];

/// The bit that marks calls of the x32 ABI, which the filter would take for others.
#[cfg(target_arch = "x86_64")]
const X32: libc::c_long = 0x4000_0000;

/// Gives it up, in this process and all that it starts. It must have one thread.
///
/// # Errors
/// A kernel without seccomp filters.
pub(super) fn confine() -> Result<()> {
    for (rules, error) in [
        (sockets()?, libc::EAFNOSUPPORT),
        (CALLS.map(|call| (call, Vec::new())).into(), libc::ENOSYS),
    ] {
        // Sets no_new_privs too: no file of the tree gives what its user has not.
        seccompiler::apply_filter(&filter(rules, error)?).context("cannot install a seccomp filter")?;
    }
    Ok(())
}

type Rules = BTreeMap<libc::c_long, Vec<SeccompRule>>;

/// Sockets of any other family.
fn sockets() -> Result<Rules> {
    let others = FAMILIES.map(|family| {
        let family = family.unsigned_abs().into();
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, family)
    });
    let others: Vec<SeccompCondition> = others.into_iter().collect::<Result<_, _>>()?;
    let rule = SeccompRule::new(others)?;
    Ok([libc::SYS_socket, libc::SYS_socketpair]
        .map(|call| (call, vec![rule.clone()]))
        .into())
}

fn filter(mut rules: Rules, error: libc::c_int) -> Result<BpfProgram> {
    #[cfg(target_arch = "x86_64")]
    rules.extend(rules.clone().into_iter().map(|(call, rule)| (call | X32, rule)));
    let here = TargetArch::try_from(std::env::consts::ARCH)?;
    let refused = SeccompAction::Errno(error.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, here)?;
    Ok(BpfProgram::try_from(filter)?)
}
