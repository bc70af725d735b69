//! What this host says of itself: claims for a statement about a build, which nobody has to believe.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZero;
use std::thread;

use nix::unistd::Uid;

/// Returns what may make a build differ from another: never who runs it, where, or under which name.
pub fn facts() -> BTreeMap<&'static str, String> {
    let line = |file: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        text.trim().replace(char::is_control, " ")
    };
    let release = |name: &str| line(&format!("/proc/sys/kernel/{name}"));
    let processors = thread::available_parallelism().map_or(0, NonZero::get);
    let user = if Uid::effective().is_root() { "root" } else { "ordinary" };
    [
        ("architecture", std::env::consts::ARCH.to_owned()),
        (
            "kernel",
            format!("{} {} {}", release("ostype"), release("osrelease"), release("version")),
        ),
        ("processors", processors.to_string()),
        ("user", user.to_owned()),
    ]
    .into()
}
