//! Namespaces: a tool tree as the root folder, users of its own, no network, and nothing of the host besides.
//!
//! Three processes stand between us and a program of the tree, all this very program started again. The first unshares
//! and waits until we have mapped its users; the second is the init of the new process namespace, mounts and leaves the
//! host's root behind; the third has users of its own once more and does the work. When one of the four dies, the kernel
//! kills those behind it.
//!
//! What a recipe runs is root in there, and where root runs begat, root of the host to every file that the kernel makes.
//! The second user namespace is what holds it: it can undo none of the mounts that the second process made, and it can
//! trace neither that process nor, since the third was started outside, the third one.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, BufWriter, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::{set_dumpable, set_pdeathsig};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{Gid, Uid, chdir, pivot_root, setgid, setgroups, sethostname, setsid, setuid};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::mend::{Exit, OrMend as _, Told};
use crate::world::confine;
use crate::world::program::{self, Program};

/// A sandbox: what a tool tree and the work done in it get to see.
#[derive(Debug, Deserialize, Serialize)]
pub struct Sandbox {
    /// The tool tree: the root folder inside, read-only.
    pub tree: PathBuf,
    /// A folder of the host for `/work`; `None` is memory, which vanishes with the sandbox.
    pub workspace: Option<PathBuf>,
    /// Folders and files of the host that appear inside.
    pub binds: Vec<Bind>,
    pub owners: Owners,
}

/// A folder or a file of the host that appears inside.
#[derive(Debug, Deserialize, Serialize)]
pub struct Bind {
    pub host: PathBuf,
    /// Absolute path inside: a folder or file that the tree has, or one below `/dev` or `/run`.
    pub inside: PathBuf,
    pub writable: bool,
}

/// Which users and groups exist inside.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Owners {
    /// 0 to 65535: what an image needs that has files of several owners.
    Range,
    /// Only 0, which is whoever runs us.
    Single,
}

/// How many users and groups an image has.
const RANGE: u32 = 65536;

/// What the work done inside may answer at most, in bytes: that of a guest of 400 packages has some 15 MiB.
const ANSWER_LIMIT: u64 = 1 << 30;

/// Devices that programs expect; none of them tells anything of the machine.
const DEVICES: [&str; 6] = ["full", "null", "random", "tty", "urandom", "zero"];

const NEWUIDMAP: Program = Program {
    name: "newuidmap",
    mend: "apt install uidmap",
};
const NEWGIDMAP: Program = Program {
    name: "newgidmap",
    mend: "apt install uidmap",
};

const NO_NAMESPACES: &str = "run where user namespaces are allowed: sysctl user.max_user_namespaces, \
    kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns; in a container, a seccomp \
    profile that lets unshare and mount through";

impl Sandbox {
    /// Does `work` inside, waits for its end and returns its answer. What it prints goes where ours goes.
    ///
    /// # Errors
    /// Namespaces or a range of users are not to be had here, with the mend; or the work failed, which it has told.
    pub fn run<Answer: DeserializeOwned>(&self, work: &impl Serialize) -> Result<Answer> {
        let (child, mut ours) = start("first", Stdio::inherit())?;
        let handed = self.hand_over(&child, &mut ours, work);
        let answer = end(child, handed.map(|()| heard(ours)))??;
        serde_json::from_slice(&answer).context("the sandbox gave no answer")
    }

    fn hand_over(&self, child: &Child, line: &mut UnixStream, work: &impl Serialize) -> Result<()> {
        let mut unshared = [0];
        if line.read_exact(&mut unshared).is_err() {
            return Ok(()); // it could not, and has told why
        }
        map_owners(child.id(), self.owners)?;
        let mut message = vec![b'm'];
        serde_json::to_writer(&mut message, self).context("cannot write the sandbox down")?;
        message.push(b'\n'); // which no JSON of serde_json has inside
        serde_json::to_writer(&mut message, work).context("cannot write the work down")?;
        send(line, &message)
    }
}

/// Reads what is said on the line until it is closed; whoever is told of a failure has no answer.
fn heard(line: UnixStream) -> Result<Vec<u8>> {
    let mut said = Vec::new();
    line.take(ANSWER_LIMIT).read_to_end(&mut said)?;
    let answer = said.strip_prefix(b"s").context("the sandbox did not start")?;
    Ok(answer.to_vec())
}

/// The line to whoever started the sandbox, for one answer.
pub struct Line(UnixStream);

impl Line {
    /// Says the answer and closes the line: what is started afterwards cannot say anything on it.
    ///
    /// # Errors
    /// Whoever started the sandbox is gone.
    pub fn answer(self, answer: &impl Serialize) -> Result<()> {
        let mut line = BufWriter::with_capacity(1 << 18, &self.0);
        serde_json::to_writer(&mut line, answer)?;
        line.flush()?;
        self.0.shutdown(Shutdown::Write).context("cannot close the line")
    }
}

/// Sends a message, and says that it was the last one.
fn send(line: &mut UnixStream, message: &[u8]) -> Result<()> {
    let sent = line.write_all(message).and_then(|()| line.shutdown(Shutdown::Write));
    sent.context("the sandbox went away")
}

/// Tries whether namespaces with these users can be made here.
///
/// # Errors
/// They cannot, with the mend.
pub fn probe(owners: Owners) -> Result<()> {
    let (mut child, mut ours) = start("first", Stdio::null())?;
    let unshared = ours.read_exact(&mut [0]);
    let unshared = unshared.or_mend(Exit::Unsupported, "cannot make namespaces", NO_NAMESPACES);
    let mapped = unshared.and_then(|()| map_owners(child.id(), owners));
    stop(&mut child);
    mapped
}

/// Starts a process of the sandbox, with its messages going to `messages`, and returns our end of the line to it.
fn start(process: &str, messages: Stdio) -> Result<(Child, UnixStream)> {
    let (ours, theirs) = UnixStream::pair().context("cannot make a socket pair")?;
    let mut command = program::ourselves(["inside", process]);
    let child = command.stdin(OwnedFd::from(theirs)).stderr(messages).spawn();
    let problem = "cannot start begat again through /proc/self/exe";
    Ok((child.or_mend(Exit::Unsupported, problem, "mount /proc")?, ours))
}

/// Waits for the end of a process that was handed its work, or ends it.
fn end<T>(mut child: Child, handed: Result<T>) -> Result<T> {
    match handed.and_then(|handed| Ok((handed, child.wait()?))) {
        Ok((handed, status)) if status.success() => Ok(handed),
        Ok((_, status)) => Err(told(status)),
        Err(error) => {
            stop(&mut child);
            Err(error)
        }
    }
}

fn told(status: ExitStatus) -> anyhow::Error {
    match status.code().and_then(Exit::from_code) {
        Some(exit) => Told(exit).into(),
        None => Exit::Outside.because(
            format!("the sandbox ended with {status}"),
            "see whether the machine ran out of memory",
        ),
    }
}

fn stop(child: &mut Child) {
    let _ = child.kill(); // gone already is as good
    let _ = child.wait();
}

/// Gives the process its users. Only its parent may: the kernel believes root, or newuidmap and its table.
fn map_owners(process: u32, owners: Owners) -> Result<()> {
    let (user, group) = (Uid::effective(), Gid::effective());
    let write = |file: &str, text: String| {
        let path = format!("/proc/{process}/{file}");
        fs::write(&path, text).or_mend(Exit::Unsupported, format!("cannot write {path}"), NO_NAMESPACES)
    };
    match owners {
        Owners::Single => {
            write("setgroups", "deny".into())?;
            write("gid_map", format!("0 {group} 1"))?;
            write("uid_map", format!("0 {user} 1"))
        }
        Owners::Range if user.is_root() => {
            // Each line must lie in one line of the map above, and newuidmap's has two.
            let map = format!("0 0 1\n1 1 {}", RANGE - 1);
            write("gid_map", map.clone())?;
            write("uid_map", map)
        }
        Owners::Range => {
            let range = SubordinateRange::of("/etc/subuid", user)?;
            NEWUIDMAP.run(range.arguments(process, user.as_raw()))?;
            let range = SubordinateRange::of("/etc/subgid", user)?;
            NEWGIDMAP.run(range.arguments(process, group.as_raw())).map(drop)
        }
    }
}

/// A range of users that belongs to an ordinary user: a line of `/etc/subuid`, subuid(5).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SubordinateRange {
    first: u32,
}

impl SubordinateRange {
    /// Returns the range that `table` (`/etc/subuid` or `/etc/subgid`) gives to the user.
    ///
    /// # Errors
    /// There is none of 65535: without one, files of other owners than root would change hands in the image.
    pub fn of(table: &str, user: Uid) -> Result<Self> {
        let name = nix::unistd::User::from_uid(user).ok().flatten().map(|user| user.name);
        let text = fs::read_to_string(table).unwrap_or_default();
        let who = name.unwrap_or_else(|| user.to_string());
        Self::find(&text, &[&who, &user.to_string()]).ok_or_else(|| {
            let problem = format!(
                "{table} gives the user {who} no range of {} ids, so files of the image would change owner",
                RANGE - 1
            );
            Exit::Unsupported.because(
                problem,
                format!("as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {who}"),
            )
        })
    }

    fn find(table: &str, names: &[&str]) -> Option<Self> {
        table.lines().find_map(|line| {
            let (name, range) = line.split_once(':')?;
            let (first, count) = range.split_once(':')?;
            let (first, count) = (first.parse().ok()?, count.trim().parse::<u32>().ok()?);
            (names.contains(&name) && count >= RANGE - 1).then_some(Self { first })
        })
    }

    fn arguments(self, process: u32, own: u32) -> Vec<String> {
        let map = [process, 0, own, 1, 1, self.first, RANGE - 1];
        map.iter().map(u32::to_string).collect()
    }
}

/// The first process: unshares, waits for its users, and starts the second one in the new process namespace.
///
/// # Errors
/// Namespaces are not to be had here.
pub fn first() -> Result<()> {
    die_with_parent()?;
    let flags = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWPID;
    new_namespaces(flags)?;
    let mut line = line()?;
    line.write_all(b"u")?;
    be_mapped(&mut line)?;
    let status = program::ourselves(["inside", "second"])
        .status()
        .context("cannot start the init of the sandbox")?;
    if status.success() { Ok(()) } else { Err(told(status)) }
}

fn new_namespaces(flags: CloneFlags) -> Result<()> {
    unshare(flags).map_err(|error| match error {
        Errno::ENOSPC => Exit::Unsupported.because("cannot make namespaces: their number is limited", NO_NAMESPACES),
        error => Exit::Unsupported.because(format!("cannot make namespaces: {}", error.desc()), NO_NAMESPACES),
    })
}

/// Waits until whoever is at the other end of the line has mapped our users, and becomes the first of them.
fn be_mapped(line: &mut UnixStream) -> Result<()> {
    if line.read_exact(&mut [0]).is_err() {
        return Err(Told(Exit::Unsupported).into()); // whoever was to map our users has told why not
    }
    become_root()?;
    die_with_parent() // the kernel forgets it where credentials change
}

/// The second process: mounts, leaves the host behind, and stays as the init of those who work.
///
/// # Errors
/// The host's kernel or its rules do not let us mount; the work failed, which it has told.
pub fn second() -> Result<()> {
    die_with_parent()?;
    umask(Mode::from_bits_truncate(0o022));
    let message = message(&mut line()?)?;
    let (sandbox, work) = message.split_once('\n').context("the work is cut short")?;
    let sandbox: Sandbox = serde_json::from_str(sandbox).context("the sandbox is cut short")?;
    // While the host's root is there: the tree need not have the loader and the libraries that begat was linked with.
    let (child, mut ours) = start("third", Stdio::inherit())?;
    let loaded = ours.read_exact(&mut [0]);
    sandbox
        .enter()
        .or_mend(Exit::Unsupported, "cannot enter the tool tree", NO_NAMESPACES)?;
    let entered = loaded.and_then(|()| ours.write_all(b"e"));
    let handed = entered
        .context("the third process went away")
        .and_then(|()| sandbox.pass_on(&mut ours, work));
    end(child, handed.and_then(|()| pass_back(ours)))
}

/// Hands the answer of the third process on, as soon as it is there; one that failed has told why, and has none.
fn pass_back(from: UnixStream) -> Result<()> {
    let answer = heard(from).unwrap_or_default();
    send(&mut line()?, &answer)
}

/// The third process: gives up what the second one has, and returns what is to be done, and the line for its answer.
///
/// # Errors
/// The host's kernel does not let us give it up.
pub fn third<Work: DeserializeOwned>() -> Result<(Work, Line)> {
    die_with_parent()?;
    setsid().context("cannot leave the terminal")?; // nobody in here types for whoever sits there
    let mut line = line()?;
    line.write_all(b"l")?; // we are loaded, and need nothing of the host's root any more
    if line.read_exact(&mut [0]).is_err() {
        return Err(Told(Exit::Unsupported).into()); // the second process could not enter the tree, and has told why not
    }
    chdir("/")?; // our root became that of the tree with the second process's, our folder did not
    new_namespaces(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
    // Where the host's /proc must do, its numbers are not those of our namespace.
    let number = fs::read_link("/proc/self").context("cannot read /proc/self")?;
    line.write_all(format!("{}\n", number.display()).as_bytes())?;
    be_mapped(&mut line)?;
    set_dumpable(false).context("cannot hide the memory of this process")?;
    let work = message(&mut line)?;
    confine::confine()?;
    let work = serde_json::from_str(&work).context("the work is cut short")?;
    Ok((work, Line(line)))
}

/// Reads to the end of a message.
fn message(line: &mut UnixStream) -> Result<String> {
    let mut message = String::new();
    line.read_to_string(&mut message)?;
    // Had begat died before this process was tied to its parent, nobody would end it: its end of the line is then closed.
    line.write_all(b"s").context("whoever started this is gone")?;
    Ok(message)
}

fn die_with_parent() -> Result<()> {
    set_pdeathsig(Signal::SIGKILL).context("cannot tie this process to its parent")
}

fn become_root() -> Result<()> {
    let _ = setgroups(&[]); // refused with a single group, which is fine: there is only one
    setgid(Gid::from_raw(0)).context("cannot become group 0 inside")?;
    setuid(Uid::from_raw(0)).context("cannot become user 0 inside")
}

/// Standard input as it comes: a buffered reader would take what is meant for the second process.
fn line() -> Result<UnixStream> {
    Ok(UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?))
}

impl Sandbox {
    /// Maps the users of the third process and hands it the work.
    fn pass_on(&self, line: &mut UnixStream, work: &str) -> Result<()> {
        let mut number = String::new();
        let read = BufReader::new(&*line).read_line(&mut number);
        if !read.is_ok_and(|length| length > 0) {
            return Ok(()); // it could not unshare, and has told why
        }
        map_owners(
            number.trim().parse().context("the third process has no number")?,
            self.owners,
        )?;
        send(line, format!("m{work}").as_bytes())
    }

    fn enter(&self) -> Result<()> {
        mount(
            None::<&str>,
            "/",
            None::<&str>,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            None::<&str>,
        )?;
        let root = self.tree.as_path();
        bind(root, root)?;
        mount_proc(&root.join("proc"))?;
        mask(&root.join("proc"))?;
        for folder in ["dev", "run", "sys", "tmp", "var/tmp"] {
            mount_memory(&root.join(folder))?;
        }
        mount_devices(&root.join("dev"))?;
        match &self.workspace {
            Some(folder) => {
                bind(folder, &root.join("work"))?;
                restrict(&root.join("work"), MsFlags::MS_NODEV)?;
            }
            None => mount_memory(&root.join("work"))?,
        }
        self.binds.iter().try_for_each(|wanted| wanted.mount(root))?;
        restrict(root, MsFlags::MS_RDONLY | MsFlags::MS_NODEV)?;
        chdir(root)?;
        pivot_root(".", ".")?; // the old root now lies over the new one: pivot_root(2)
        umount2(".", MntFlags::MNT_DETACH)?;
        chdir("/")?;
        sethostname("localhost").context("cannot set the host name inside")
    }
}

impl Bind {
    fn mount(&self, root: &Path) -> Result<()> {
        let inside = self.inside.strip_prefix("/").context("a path inside is absolute")?;
        let target = root.join(inside);
        if !target.exists() {
            make_mount_point(&self.host, &target)?;
        }
        bind(&self.host, &target)?;
        // A device that is bound by its name is meant; one that lies in a folder is not.
        let nodev = if self.host.is_dir() {
            MsFlags::MS_NODEV
        } else {
            MsFlags::empty()
        };
        let read_only = if self.writable {
            MsFlags::empty()
        } else {
            MsFlags::MS_RDONLY
        };
        restrict(&target, nodev | read_only)
    }
}

fn make_mount_point(host: &Path, target: &Path) -> Result<()> {
    if host.is_dir() {
        return fs::create_dir_all(target).with_context(|| format!("cannot make {}", target.display()));
    }
    File::create(target)
        .map(drop)
        .with_context(|| format!("cannot make {}", target.display()))
}

fn bind(from: &Path, to: &Path) -> Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(from), to, None::<&str>, flags, None::<&str>)
        .with_context(|| format!("cannot bind {} to {}", from.display(), to.display()))
}

fn mount_memory(at: &Path) -> Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), at, Some("tmpfs"), flags, Some("mode=0755"))
        .with_context(|| format!("cannot mount memory at {}", at.display()))
}

/// A `proc` of our own namespace; a container that masks parts of its own refuses one, and there the host's must do.
fn mount_proc(at: &Path) -> Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), at, Some("proc"), flags, None::<&str>).or_else(|_| bind(Path::new("/proc"), at))
}

/// Takes away what the kernel gives to root alone, by number of the user and not by capability: a write to
/// `/proc/sys/kernel/core_pattern` names a program that the kernel starts outside. The paths are those of the OCI runtime
/// specification's default (runc 1.3, `libcontainer/specconv`).
fn mask(proc: &Path) -> Result<()> {
    const READ_ONLY: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];
    const HIDDEN: [&str; 11] = [
        "acpi",
        "asound",
        "interrupts",
        "kcore",
        "keys",
        "latency_stats",
        "sched_debug",
        "scsi",
        "timer_list",
        "timer_stats",
        "vmallocinfo",
    ];
    let there = |names: &'static [&str]| names.iter().map(|name| proc.join(name)).filter(|path| path.exists());
    for path in there(&READ_ONLY) {
        bind(&path, &path)?;
        restrict(&path, MsFlags::MS_RDONLY)?;
    }
    for path in there(&HIDDEN) {
        match path.is_dir() {
            true => mount_memory(&path)?,
            false => bind(Path::new("/dev/null"), &path)?,
        }
    }
    Ok(())
}

fn mount_devices(dev: &Path) -> Result<()> {
    for name in DEVICES {
        Bind {
            host: Path::new("/dev").join(name),
            inside: Path::new("/").join(name),
            writable: true,
        }
        .mount(dev)?;
    }
    for (link, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
    ] {
        std::os::unix::fs::symlink(target, dev.join(link))?;
    }
    fs::create_dir(dev.join("pts"))?;
    mount_memory_for_all(&dev.join("shm"))
}

fn mount_memory_for_all(at: &Path) -> Result<()> {
    fs::create_dir(at)?;
    mount_memory(at)?;
    fs::set_permissions(at, std::os::unix::fs::PermissionsExt::from_mode(0o1777)).context("cannot open /dev/shm to all")
}

/// Remounts with more flags. Those that the mount was given by whoever owns it must be repeated: mount_namespaces(7).
fn restrict(at: &Path, more: MsFlags) -> Result<()> {
    let given = statvfs(at)
        .with_context(|| format!("cannot look at {}", at.display()))?
        .flags();
    let locked = [
        (FsFlags::ST_RDONLY, MsFlags::MS_RDONLY),
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ];
    let repeated = locked
        .iter()
        .filter(|(set, _)| given.contains(*set))
        .map(|(_, flag)| *flag);
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | more;
    let flags = repeated.fold(flags, |flags, flag| flags | flag);
    mount(None::<&str>, at, None::<&str>, flags, None::<&str>)
        .with_context(|| format!("cannot restrict {}", at.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_range_of_users_is_none() {
        let table = "alice:100000:65536\nbob:165536:1000\n1002:300000:65535\n";
        assert_eq!(
            SubordinateRange::find(table, &["alice", "1000"]),
            Some(SubordinateRange { first: 100_000 })
        );
        assert_eq!(SubordinateRange::find(table, &["bob", "1001"]), None);
        assert_eq!(
            SubordinateRange::find(table, &["carol", "1002"]),
            Some(SubordinateRange { first: 300_000 })
        );
    }
}
