//! Accounts: each line of the account databases is of base-passwd's master files, of a `sysusers.d` line, or of a command
//! of a maintainer script. None has a password, none but root has its number.

use std::collections::{BTreeMap, BTreeSet};

use super::image::{Image, Outcome};
use crate::model::contents::Node;

/// What stands for a password that nobody has.
const LOCKED: [&str; 5] = ["!", "!!", "!*", "*", "x"];

/// Programs that make accounts, or put them into groups.
const PROGRAMS: [&str; 6] = ["addgroup", "adduser", "gpasswd", "groupadd", "useradd", "usermod"];

/// At which word of a command such a program may be: others start it in another root.
const WRAPPERS: usize = 3;

/// Numbers that are given to accounts of the system that ask for none.
const SYSTEM: std::ops::RangeInclusive<u32> = 100..=999;

/// What may be said of a field: any value where it is not known.
type Field = Option<String>;

/// An account that something makes.
#[derive(Clone, Debug, Default)]
struct User {
    uid: Option<u32>,
    /// The number, or the name, of its group.
    group: Field,
    gecos: Field,
    home: Field,
    shell: Field,
}

/// The accounts that packages and the recipe make, by name; several may make the same.
#[derive(Debug, Default)]
struct Accounts {
    users: BTreeMap<String, Vec<User>>,
    groups: BTreeMap<String, Vec<Option<u32>>>,
    /// Users and the groups that they are put into.
    members: BTreeSet<(String, String)>,
}

/// Looks at one of the databases of accounts.
pub(super) fn check(image: &Image<'_>, node: &Node) -> Outcome {
    let (text, accounts) = (image.text(&node.path)?, image.accounts());
    let mut numbered = text.lines().zip(1..);
    let line = |(line, number): (&str, u32)| {
        let fields: Vec<&str> = line.split(':').collect();
        let checked = match node.path.as_str() {
            "/etc/passwd" => accounts.user(image, &fields),
            "/etc/group" => accounts.group(&fields),
            "/etc/shadow" => accounts.shadow(image, &fields),
            "/etc/gshadow" => accounts.gshadow(image, &fields),
            _ => Err("nothing gives ranges of numbers to users".into()),
        };
        checked.map_err(|why| format!("line {number}, {:?}: {why}", fields.first().unwrap_or(&"")))
    };
    numbered.try_for_each(line)?;
    unique(text, matches!(node.path.as_str(), "/etc/passwd" | "/etc/group"))
}

/// No name is there twice; nobody has the number of another.
fn unique(text: &str, numbered: bool) -> Outcome {
    let mut seen = BTreeSet::new();
    let fields = text.lines().flat_map(|line| line.split(':').enumerate());
    let mut fields = fields.filter(|(at, _)| *at == 0 || numbered && *at == 2);
    match fields.find(|field| !seen.insert(*field)) {
        Some((_, field)) => Err(format!("{field} is there twice")),
        None => Ok(()),
    }
}

impl Image<'_> {
    fn accounts(&self) -> Accounts {
        let mut accounts = Accounts::default();
        accounts.add_masters(self);
        for (_, text) in ["/usr/lib/sysusers.d/", "/etc/sysusers.d/"]
            .iter()
            .flat_map(|folder| self.owned_below(folder))
        {
            text.lines().for_each(|line| accounts.add_sysusers(line));
        }
        for (_, words) in self.commands {
            let words: Vec<Option<&str>> = words.iter().map(Option::as_deref).collect();
            accounts.add_command(&words);
        }
        accounts
    }

    /// The line of an account in a database.
    fn line(&self, database: &str, name: &str) -> Option<Vec<String>> {
        let lines = self.text(database).ok()?.lines();
        let mut fields = lines.map(|line| line.split(':').map(String::from).collect::<Vec<_>>());
        fields.find(|fields| fields[0] == name)
    }
}

impl Accounts {
    fn add_masters(&mut self, image: &Image<'_>) {
        for line in image
            .owned_text("/usr/share/base-passwd/passwd.master")
            .into_iter()
            .flat_map(str::lines)
        {
            if let [name, _, uid, gid, gecos, home, shell] = line.split(':').collect::<Vec<_>>()[..] {
                let user = User {
                    uid: uid.parse().ok(),
                    group: Some(gid.into()),
                    gecos: Some(gecos.into()),
                    home: Some(home.into()),
                    shell: Some(shell.into()),
                };
                self.users.entry(name.into()).or_default().push(user);
            }
        }
        for line in image
            .owned_text("/usr/share/base-passwd/group.master")
            .into_iter()
            .flat_map(str::lines)
        {
            if let [name, _, gid, _] = line.split(':').collect::<Vec<_>>()[..] {
                self.groups.entry(name.into()).or_default().push(gid.parse().ok());
            }
        }
    }

    /// A line of `sysusers.d`: `u NAME ID "GECOS" HOME SHELL`, `g NAME ID`, `m USER GROUP`.
    fn add_sysusers(&mut self, line: &str) {
        let words = quoted_words(line);
        let word = |at: usize| {
            words
                .get(at)
                .map(String::as_str)
                .filter(|word| !matches!(*word, "" | "-"))
        };
        let (Some(kind), Some(name)) = (word(0), word(1)) else {
            return;
        };
        let number = |text: &str| text.parse::<u32>().ok();
        match kind {
            "u" | "u!" => {
                let (uid, group) = word(2)
                    .unwrap_or_default()
                    .split_once(':')
                    .unwrap_or((word(2).unwrap_or_default(), name));
                let user = User {
                    uid: number(uid),
                    group: Some(group.into()),
                    gecos: Some(word(3).unwrap_or_default().into()),
                    home: Some(word(4).unwrap_or("/").into()),
                    shell: Some(word(5).unwrap_or("/usr/sbin/nologin").into()),
                };
                self.users.entry(name.into()).or_default().push(user);
                self.groups.entry(name.into()).or_default().push(number(uid));
            }
            "g" => self
                .groups
                .entry(name.into())
                .or_default()
                .push(word(2).and_then(number)),
            "m" => drop(word(2).map(|group| self.members.insert((name.into(), group.into())))),
            _ => {}
        }
    }

    /// A command of a script that makes an account, or puts one into a group.
    fn add_command(&mut self, words: &[Option<&str>]) {
        let at = words
            .iter()
            .take(WRAPPERS)
            .position(|word| word.is_some_and(|word| PROGRAMS.contains(&last(word))));
        let Some((at, program)) = at.and_then(|at| Some((at, words[at]?))) else {
            return;
        };
        let arguments = Arguments::read(&words[at + 1..]);
        let names = arguments.names.as_slice();
        match (last(program), names) {
            ("adduser", [user, group]) | ("gpasswd", [user, group]) => self.put(user, group, &arguments),
            ("addgroup", [group]) | ("groupadd", [group]) => {
                self.groups
                    .entry(group.clone())
                    .or_default()
                    .push(arguments.number(&["--gid", "-g"]));
            }
            ("adduser", [name]) if arguments.has("--group") && !arguments.has("--system") => {
                self.groups
                    .entry(name.clone())
                    .or_default()
                    .push(arguments.number(&["--gid"]));
            }
            (program @ ("adduser" | "useradd"), [name]) => self.add_user(name, &arguments, program),
            ("usermod", [user]) => {
                let groups = arguments.value(&["-G", "--groups", "-aG"]).unwrap_or_default();
                for group in groups.split(',').filter(|group| !group.is_empty()) {
                    self.members.insert((user.clone(), group.into()));
                }
            }
            _ => {}
        }
    }

    fn put(&mut self, user: &str, group: &str, arguments: &Arguments) {
        let (user, group) = match arguments.value(&["-a", "--add"]) {
            Some(user) => (user, group.to_owned()),
            None => (user.to_owned(), group.to_owned()),
        };
        self.members.insert((user, group));
    }

    /// What adduser(8) does with these arguments, or useradd(8), which has a group for each user.
    fn add_user(&mut self, name: &str, arguments: &Arguments, program: &str) {
        let own = arguments.has("--group") || program == "useradd";
        let group = if own { name } else { "nogroup" };
        let shell = if program == "useradd" {
            "/bin/sh"
        } else {
            "/usr/sbin/nologin"
        };
        let user = User {
            uid: arguments.number(&["--uid", "-u"]),
            group: arguments.value_or(&["--ingroup", "--gid", "-g"], group),
            gecos: arguments.value_or(&["--gecos", "--comment", "-c"], ""),
            home: arguments.value_or(&["--home", "--home-dir", "-d"], "/nonexistent"),
            shell: arguments.value_or(&["--shell", "-s"], shell),
        };
        let gid = arguments.number(&["--gid"]).or(user.uid);
        self.groups.entry(name.into()).or_default().push(gid);
        self.users.entry(name.into()).or_default().push(user);
    }

    fn user(&self, image: &Image<'_>, fields: &[&str]) -> Outcome {
        let &[name, password, uid, gid, gecos, home, shell] = fields else {
            return Err("an account has seven fields".into());
        };
        locked(password)?;
        let uid: u32 = uid.parse().map_err(|_| format!("{uid:?} is not a number"))?;
        if uid == 0 && name != "root" {
            return Err("only root has the number 0".into());
        }
        if !shell.is_empty()
            && image.resolve(shell).is_none()
            && !shell.ends_with("/nologin")
            && !shell.ends_with("/false")
        {
            return Err(format!("its shell {shell} is not in the image"));
        }
        let made = self
            .users
            .get(name)
            .ok_or("no package and no file of the recipe makes this account")?;
        let group = |group: &Field| {
            group
                .as_deref()
                .is_none_or(|group| group == gid || image.has_group(group, gid))
        };
        let same = |wanted: &Field, found: &str| wanted.as_deref().is_none_or(|wanted| strip(wanted) == strip(found));
        let is_made = made.iter().any(|user| {
            is_number(user.uid, uid)
                && group(&user.group)
                && same(&user.gecos, gecos)
                && same(&user.home, home)
                && same(&user.shell, shell)
        });
        if !is_made {
            return Err("what makes this account gives it another number, group, name, home or shell".into());
        }
        Ok(())
    }

    fn group(&self, fields: &[&str]) -> Outcome {
        let &[name, password, gid, members] = fields else {
            return Err("a group has four fields".into());
        };
        locked(password)?;
        let gid: u32 = gid.parse().map_err(|_| format!("{gid:?} is not a number"))?;
        let made = self
            .groups
            .get(name)
            .ok_or("no package and no file of the recipe makes this group")?;
        if !made.iter().any(|wanted| is_number(*wanted, gid)) {
            return Err("what makes this group gives it another number".into());
        }
        self.are_members(name, members)
    }

    fn are_members(&self, group: &str, members: &str) -> Outcome {
        let known = |user: &&str| self.members.contains(&((*user).to_owned(), group.to_owned()));
        match members
            .split(',')
            .filter(|user| !user.is_empty())
            .find(|user| !known(user))
        {
            Some(user) => Err(format!(
                "no package and no file of the recipe puts {user} into this group"
            )),
            None => Ok(()),
        }
    }

    fn shadow(&self, image: &Image<'_>, fields: &[&str]) -> Outcome {
        let &[name, password, ref rest @ ..] = fields else {
            return Err("it has no password field".into());
        };
        locked(password)?;
        image.line("/etc/passwd", name).ok_or("there is no such account")?;
        let is_day = |day: &&str| {
            day.is_empty()
                || day
                    .parse::<i64>()
                    .is_ok_and(|day| (0..=image.day.max(99_999)).contains(&day))
        };
        if rest.len() == 7 && rest.iter().all(is_day) {
            Ok(())
        } else {
            Err("its days are not days".into())
        }
    }

    fn gshadow(&self, image: &Image<'_>, fields: &[&str]) -> Outcome {
        let &[name, password, administrators, members] = fields else {
            return Err("a group has four fields".into());
        };
        locked(password)?;
        image.line("/etc/group", name).ok_or("there is no such group")?;
        if !administrators.is_empty() {
            return Err("nothing makes anybody its administrator".into());
        }
        self.are_members(name, members)
    }
}

impl Image<'_> {
    /// Whether the group of this name has this number.
    fn has_group(&self, name: &str, gid: &str) -> bool {
        self.line("/etc/group", name)
            .is_some_and(|fields| fields.get(2).is_some_and(|found| found == gid))
    }
}

fn locked(password: &str) -> Outcome {
    match LOCKED.contains(&password) {
        true => Ok(()),
        false if password.is_empty() => Err("it has no password: anybody may log in".into()),
        false => Err("it has a password, which no package gives it".into()),
    }
}

/// Whether this is the number that was asked for, or one of the system's where none was.
fn is_number(wanted: Option<u32>, found: u32) -> bool {
    wanted.map_or(SYSTEM.contains(&found), |wanted| wanted == found)
}

/// The last name of a path.
fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// adduser takes commas off a name.
fn strip(text: &str) -> &str {
    text.trim_end_matches(',')
}

/// The words of a line of `sysusers.d`, without quotes and comments.
fn quoted_words(line: &str) -> Vec<String> {
    let (mut words, mut rest) = (Vec::new(), line.trim());
    while !rest.is_empty() && !rest.starts_with('#') {
        let (word, behind) = match rest.strip_prefix(['"', '\'']) {
            Some(inner) => inner.split_once(&rest[..1]).unwrap_or((inner, "")),
            None => rest.split_once([' ', '\t']).unwrap_or((rest, "")),
        };
        words.push(word.to_owned());
        rest = behind.trim_start();
    }
    words
}

/// The arguments of a program that makes accounts: options with their values, and names.
struct Arguments {
    options: Vec<(String, Field)>,
    names: Vec<String>,
}

/// Options that take a value, which may be unknown.
const VALUED: [&str; 25] = [
    "--add",
    "--allow-badname-regex",
    "--base-dir",
    "--comment",
    "--conf",
    "--firstuid",
    "--gecos",
    "--gid",
    "--groups",
    "--home",
    "--home-dir",
    "--ingroup",
    "--lastuid",
    "--shell",
    "--uid",
    "-G",
    "-K",
    "-a",
    "-aG",
    "-b",
    "-c",
    "-d",
    "-g",
    "-s",
    "-u",
];

impl Arguments {
    fn read(words: &[Option<&str>]) -> Self {
        let (mut options, mut names, mut words) = (Vec::new(), Vec::new(), words.iter());
        while let Some(word) = words.next() {
            let Some(word) = word else { continue };
            if let Some((option, value)) = word.split_once('=').filter(|_| word.starts_with("--")) {
                options.push((option.to_owned(), Some(value.to_owned())));
            } else if VALUED.contains(word) {
                let value = words.next().copied().flatten();
                options.push(((*word).to_owned(), value.map(String::from)));
            } else if word.starts_with('-') {
                options.push(((*word).to_owned(), None));
            } else if word.starts_with(['>', '/']) || word.is_empty() {
                break;
            } else {
                names.push((*word).to_owned());
            }
        }
        Self { options, names }
    }

    /// The value of an option, which may be unknown, or what goes without it.
    fn value_or(&self, names: &[&str], default: &str) -> Field {
        let named = self.options.iter().find(|(option, _)| names.contains(&option.as_str()));
        named.map_or_else(|| Some(default.to_owned()), |(_, value)| value.clone())
    }

    fn has(&self, name: &str) -> bool {
        self.options.iter().any(|(option, _)| option == name)
    }

    fn value(&self, names: &[&str]) -> Field {
        let named = self
            .options
            .iter()
            .find(|(option, _)| names.contains(&option.as_str()))?;
        named.1.clone()
    }

    fn number(&self, names: &[&str]) -> Option<u32> {
        self.value(names)?.parse().ok()
    }
}
