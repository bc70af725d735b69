//! The configuration that all services share for PAM: pam-auth-update(8) makes it from templates of libpam-runtime and from
//! the profiles of packages that are on by default.

use std::collections::BTreeMap;

use super::image::{Image, Outcome};
use crate::model::contents::Node;

const TEMPLATES: &str = "/usr/share/pam/";
const PROFILES: &str = "/usr/share/pam-configs/";
const SAVED: &str = "/var/lib/pam/";

/// What stands in for modules where no profile has any.
const NULL: &str = "[default=1]\t\t\tpam_permit.so";

/// A profile: its fields, where a value may have several lines.
struct Profile<'a> {
    name: &'a str,
    fields: BTreeMap<&'a str, String>,
}

/// Looks at one of `/etc/pam.d/common-*`.
pub(super) fn common(image: &Image<'_>, node: &Node) -> Outcome {
    let kind = node.path.strip_prefix("/etc/pam.d/common-").unwrap_or_default();
    let template = image.owned_text(&format!("{TEMPLATES}common-{kind}"));
    let template = template.ok_or("no package has a template for it")?;
    let field = kind.trim_end_matches("-noninteractive");
    let mut wanted = String::new();
    for line in template.lines() {
        match line.strip_prefix('$').and_then(|name| name.rsplit_once('_')) {
            Some((_, "primary")) => wanted += &block(&profiles(image, kind), field, "Primary"),
            Some((_, "additional")) => wanted += &block(&profiles(image, kind), field, "Additional"),
            _ => wanted += &format!("{line}\n"),
        }
    }
    same(image.text(&node.path)?, &wanted)
}

/// Looks at what pam-auth-update notes of what it wrote.
pub(super) fn saved(image: &Image<'_>, node: &Node) -> Outcome {
    let (kind, text) = (
        node.path.strip_prefix(SAVED).unwrap_or_default(),
        image.text(&node.path)?,
    );
    if kind == "seen" {
        let known = |name: &str| image.is_owned(&format!("{PROFILES}{name}"));
        return match text.lines().find(|line| !known(line)) {
            Some(line) => Err(format!("no package has the profile {line}")),
            None => Ok(()),
        };
    }
    let (profiles, field) = (profiles(image, kind), kind.trim_end_matches("-noninteractive"));
    let mut wanted = String::new();
    for place in ["Primary", "Additional"] {
        let placed = placed(&profiles, field, place);
        if place == "Primary" && placed.is_empty() {
            wanted += &format!("Module: null\n{NULL}\n");
        }
        for (name, lines) in placed {
            wanted += &format!("Module: {name}\n{}\n", lines.join("\n"));
        }
    }
    same(text, &wanted)
}

fn same(text: &str, wanted: &str) -> Outcome {
    let lines = |text: &str| text.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>();
    let (text, wanted) = (lines(text), lines(wanted));
    match text.iter().find(|line| !wanted.contains(line)) {
        Some(line) => Err(format!("the profiles of packages do not lead to the line {line:?}")),
        None if text != wanted => Err("the profiles of packages lead to another order".into()),
        None => Ok(()),
    }
}

/// The profiles that are on by default, those with the highest priority first.
fn profiles<'a>(image: &Image<'a>, kind: &str) -> Vec<Profile<'a>> {
    let read = image
        .owned_below(PROFILES)
        .into_iter()
        .map(|(path, text)| Profile::read(&path[PROFILES.len()..], text));
    let is_on = |profile: &Profile<'_>| {
        let interactive = profile.is("Session-Interactive-Only", "yes") && kind == "session-noninteractive";
        profile.is("Default", "yes") && !interactive
    };
    let mut profiles: Vec<Profile<'a>> = read.filter(is_on).collect();
    profiles.sort_by(|a, b| b.priority().cmp(&a.priority()).then(b.name.cmp(a.name)));
    profiles
}

/// The lines of each profile in a block: the first may have lines of its own.
fn placed<'a>(profiles: &'a [Profile<'_>], field: &str, place: &str) -> Vec<(&'a str, Vec<&'a str>)> {
    let field = field[..1].to_uppercase() + &field[1..];
    let of_place = profiles
        .iter()
        .filter(|profile| profile.is(&format!("{field}-Type"), place));
    let lines = of_place.enumerate().map(|(at, profile)| {
        let initial = profile
            .fields
            .get(format!("{field}-Initial").as_str())
            .filter(|_| at == 0);
        let lines = initial.or_else(|| profile.fields.get(field.as_str()));
        (profile.name, lines.map_or(Vec::new(), |lines| lines.lines().collect()))
    });
    lines.collect()
}

/// A block of modules; `end` in one is how many lines follow it.
fn block(profiles: &[Profile<'_>], field: &str, place: &str) -> String {
    let lines: Vec<&str> = placed(profiles, field, place)
        .into_iter()
        .flat_map(|(_, lines)| lines)
        .collect();
    if lines.is_empty() && place == "Primary" {
        return format!("{field}\t{NULL}\n");
    }
    let count = if place == "Primary" {
        lines.len()
    } else {
        lines.len().saturating_sub(1)
    };
    let numbered = lines.iter().enumerate().map(|(at, line)| {
        let (control, module) = line
            .split_once(']')
            .map_or(("", *line), |(control, module)| (control, module));
        let control = control.replace("end", &count.saturating_sub(at).to_string());
        let close = if control.is_empty() { "" } else { "]" };
        format!("{field}\t{control}{close}{module}\n")
    });
    numbered.collect()
}

impl<'a> Profile<'a> {
    fn read(name: &'a str, text: &'a str) -> Self {
        let (mut fields, mut last) = (BTreeMap::<&str, String>::new(), "");
        for line in text.lines() {
            if let Some((name, value)) = line.split_once(':').filter(|_| !line.starts_with([' ', '\t'])) {
                fields.insert(name, value.trim().to_owned());
                last = name;
            } else if let Some(value) = fields.get_mut(last).filter(|_| !line.trim().is_empty()) {
                if !value.is_empty() {
                    value.push('\n');
                }
                value.push_str(line.trim());
            }
        }
        Self { name, fields }
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.fields.get(name).is_some_and(|found| found == value)
    }

    fn priority(&self) -> i64 {
        self.fields
            .get("Priority")
            .and_then(|text| text.parse().ok())
            .unwrap_or_default()
    }
}
