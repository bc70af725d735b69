//! Volumes in, units out: what makes the guest mount them, from nothing but the measured command line and the root.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context as _, Result};
use measure::Sha256;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::image::identity;
use crate::mend::Exit;
use crate::model::Recipe;
use crate::model::contents::{Image, Kind, Node};
use crate::model::payload::Target;
use crate::model::volume::Name;

/// A volume, and how the guest finds it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Volume {
    pub name: Name,
    pub target: Target,
    /// Of the file system.
    pub uuid: Uuid,
    /// Of the dm-verity tree.
    pub verity_uuid: Uuid,
}

/// A file of the root that mounts a volume.
enum Unit {
    Text(String),
    Link(String),
}

/// Where the units of packages are.
const UNITS: &str = "usr/lib/systemd/system";

/// What opens a volume in the guest; in Debian 13 it is of the package systemd-cryptsetup.
const VERITYSETUP: &str = "usr/lib/systemd/systemd-veritysetup";

/// Returns the volumes of a recipe, in its order, as the lock of this digest identifies them.
pub fn all(recipe: &Recipe, lock: &Sha256) -> Vec<Volume> {
    let declared = recipe.volume.iter();
    let volumes = declared.map(|declared| Volume {
        name: declared.name.clone(),
        target: declared.target.clone(),
        uuid: identity::uuid(lock, &declared.name.image()),
        verity_uuid: identity::uuid(lock, &declared.name.verity()),
    });
    volumes.collect()
}

impl Volume {
    /// Puts what mounts the volume into the folder of the root tree.
    ///
    /// # Errors
    /// A root without veritysetup, or with something else in these places.
    pub fn add_units(&self, root: &Path) -> Result<()> {
        if !root.join(VERITYSETUP).exists() {
            let problem = format!(
                "the volume {} cannot be mounted: the root has no /{VERITYSETUP}",
                self.name
            );
            return Err(Exit::Usage.because(problem, "add \"systemd-cryptsetup\" to `packages` of [root]"));
        }
        self.make_target(root)?;
        self.units().iter().try_for_each(|(path, unit)| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap_or(root))?;
            let written = match unit {
                Unit::Text(text) => fs::File::create_new(&path).and_then(|mut file| file.write_all(text.as_bytes())),
                Unit::Link(target) => symlink(target, &path),
            };
            written.with_context(|| format!("cannot write {} of the root", path.display()))
        })
    }

    /// A volume hides what is at its target, and a link could lead elsewhere.
    fn make_target(&self, root: &Path) -> Result<()> {
        let mut folder = root.to_owned();
        for part in Path::new(self.target.below()) {
            folder.push(part);
            match fs::symlink_metadata(&folder) {
                Ok(metadata) if metadata.is_dir() => {}
                Ok(_) => return Err(self.refused("is not a folder", &folder)),
                Err(_) => fs::create_dir(&folder)?,
            }
        }
        match fs::read_dir(&folder)?.next() {
            None => Ok(()),
            Some(_) => Err(self.refused("is not empty", &folder)),
        }
    }

    fn refused(&self, why: &str, place: &Path) -> anyhow::Error {
        let Self { name, target, .. } = self;
        let problem = format!(
            "the volume {name} cannot be mounted at {target}: {} {why}",
            place.display()
        );
        Exit::Usage.because(
            problem,
            "name another `target`: a folder that the root has empty, or not at all",
        )
    }

    /// Returns what [`Self::add_units`] puts into the image of the root, folders aside.
    pub fn nodes(&self, image: &str) -> Vec<Node> {
        let units = self.units().into_iter().map(|(path, unit)| {
            let (kind, mode) = match unit {
                Unit::Text(text) => (of_text(&text), 0o644),
                Unit::Link(target) => (Kind::Symlink { target }, 0o777),
            };
            Node {
                image: Image(image.into()),
                path: format!("/{path}"),
                kind,
                mode,
                uid: 0,
                gid: 0,
                xattrs: [].into(),
            }
        });
        units.collect()
    }

    /// A unit that opens and mounts the volume, and the link without which a boot could do without it.
    fn units(&self) -> [(String, Unit); 2] {
        let service = format!("begat-volume-{}.service", self.name);
        let wanted = format!("{UNITS}/local-fs.target.requires/{service}");
        [
            (format!("{UNITS}/{service}"), Unit::Text(self.service())),
            (wanted, Unit::Link(format!("../{service}"))),
        ]
    }

    /// Without the variable, a program misses an argument; whatever fails ends the machine. A unit for the mount would wait
    /// for a device that udev can read, and a changed one it cannot.
    fn service(&self) -> String {
        let Self { name, target, .. } = self;
        let [data, tree] = [self.uuid, self.verity_uuid].map(|uuid| format!("/dev/disk/by-uuid/{uuid}"));
        let variable = name.variable();
        format!(
            "# The root hash is on the measured command line.\n\
             [Unit]\n\
             Description=Volume {name}, verified\n\
             DefaultDependencies=no\n\
             Wants=systemd-udevd.service\n\
             After=systemd-udevd.service systemd-remount-fs.service\n\
             Conflicts=umount.target\n\
             Before=local-fs.target umount.target\n\
             FailureAction=poweroff-force\n\
             \n\
             [Service]\n\
             Type=oneshot\n\
             RemainAfterExit=yes\n\
             ExecStart=/usr/bin/udevadm wait --timeout=90 {data} {tree}\n\
             ExecStart=/{VERITYSETUP} attach volume-{name} {data} {tree} ${{{variable}}}\n\
             ExecStart=/usr/bin/mount --types erofs --options ro,nodev,nosuid /dev/mapper/volume-{name} {target}\n"
        )
    }
}

fn of_text(text: &str) -> Kind {
    Kind::File {
        size: text.len() as u64,
        sha256: Sha256::of(text),
        same_as: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume() -> Volume {
        Volume {
            name: Name::try_from("model".to_owned()).unwrap(),
            target: Target::try_from("/srv/model".to_owned()).unwrap(),
            uuid: Uuid::from_u128(1),
            verity_uuid: Uuid::from_u128(2),
        }
    }

    #[test]
    fn what_is_in_the_root_is_what_is_explained() {
        let root = tempfile::tempdir().unwrap();
        let program = root.path().join(VERITYSETUP);
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        fs::write(program, "").unwrap();
        volume().add_units(root.path()).unwrap();
        assert!(root.path().join("srv/model").is_dir());
        for node in volume().nodes("rootfs.erofs") {
            let path = root.path().join(node.path.trim_start_matches('/'));
            match node.kind {
                Kind::Symlink { target } => assert_eq!(fs::read_link(path).unwrap(), Path::new(&target)),
                kind => assert_eq!(kind, of_text(&fs::read_to_string(path).unwrap())),
            }
        }
        assert!(volume().add_units(root.path()).is_err(), "something else is there");
    }

    #[test]
    fn what_a_volume_would_hide_or_a_link_would_lead_away_is_refused() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(root.path().join("srv/model/there")).unwrap();
        let report = crate::mend::report(&volume().make_target(root.path()).unwrap_err());
        assert!(report.contains("is not empty"), "{report}");
        fs::remove_dir_all(root.path().join("srv")).unwrap();
        symlink(outside.path(), root.path().join("srv")).unwrap();
        let report = crate::mend::report(&volume().make_target(root.path()).unwrap_err());
        assert!(report.contains("is not a folder"), "{report}");
        assert!(!outside.path().join("model").exists());
    }

    #[test]
    fn a_root_that_cannot_open_volumes_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let report = crate::mend::report(&volume().add_units(root.path()).unwrap_err());
        assert!(report.contains("add \"systemd-cryptsetup\""), "{report}");
    }
}
