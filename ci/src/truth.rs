//! `cargo ci truth`: whoever puts something into an image, changes it, or leaves it out of a document is found out by
//! `begat sbom check`; whoever says that a release leads to something else, by `begat verify`.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use measure::Sha256;
use serde_json::Value;
use xshell::{Shell, cmd};

use crate::host;

/// Something that is done to a release, and what is said of it.
struct Attack {
    name: &'static str,
    does: fn(&Ground) -> Result<()>,
    says: &'static str,
}

/// What `begat verify` finds out, although the manifest was made to fit.
const LIES: &[Attack] = &[
    Attack {
        name: "a measurement of something else",
        does: |ground| {
            ground.edit("measurements.json", |text| other_digit(text, "\"sha384\": \""))?;
            ground.list("measurements.json")
        },
        says: "measurements-differ: measurements.json does not say what the files of this release lead to on SEV-SNP",
    },
    Attack {
        name: "firmware of something else",
        does: |ground| {
            ground.edit("measurements.json", |text| other_digit(text, "\"sha256\": \""))?;
            ground.list("measurements.json")
        },
        says: "measurements-differ: measurements.json does not say what the files of this release lead to on SEV-SNP",
    },
    Attack {
        name: "a root hash of something else",
        does: |ground| {
            ground.edit("cmdline", |text| other_digit(text, "roothash="))?;
            ground.list("cmdline")
        },
        says: "root-hash-differs: the root hash of rootfs.erofs is ",
    },
    Attack {
        name: "another hash tree",
        does: |ground| {
            ground.write_at("rootfs.verity", 0x5000, b"evil")?;
            ground.list("rootfs.verity")
        },
        says: "made-otherwise: rootfs.verity is not what the rest of the release leads to, from byte 20480 on",
    },
    Attack {
        name: "another file on the disk",
        does: |ground| {
            ground.write_at("disk.raw", 0x5000, b"evil")?; // behind the table
            ground.list("disk.raw")
        },
        says: "made-otherwise: disk.raw is not what the rest of the release leads to, from byte 20480 on",
    },
    Attack {
        name: "a policy that takes anything",
        does: |ground| {
            ground.edit("policy.rego", |text| text.replacen("default ", "#efault ", 1))?;
            ground.list("policy.rego")
        },
        says: "made-otherwise: policy.rego is not what the rest of the release leads to",
    },
    Attack {
        name: "reference values of another image",
        does: |ground| {
            ground.edit("reference-values.json", |text| other_digit(text, "    \""))?;
            ground.list("reference-values.json")
        },
        says: "made-otherwise: reference-values.json is not what the rest of the release leads to",
    },
    Attack {
        name: "another message for RVPS",
        does: |ground| {
            ground.edit("rvps-message.json", |text| other_digit(text, "\"payload\":\"eyJ"))?;
            ground.list("rvps-message.json")
        },
        says: "made-otherwise: rvps-message.json is not what the rest of the release leads to",
    },
    Attack {
        name: "another ConfigMap",
        does: |ground| {
            ground.edit("configmap.yaml", |text| {
                text.replacen("rvps-reference-values", "rvps-reference-valueS", 1)
            })?;
            ground.list("configmap.yaml")
        },
        says: "made-otherwise: configmap.yaml is not what the rest of the release leads to",
    },
    Attack {
        name: "another CoRIM",
        does: |ground| {
            ground.write_at("reference.corim", 300, b"evil")?;
            ground.list("reference.corim")
        },
        says: "made-otherwise: reference.corim is not what the rest of the release leads to",
    },
    Attack {
        name: "a buildinfo of other tools",
        does: |ground| {
            ground.edit("image.buildinfo", |text| text.replacen("mkosi", "mkosj", 1))?;
            ground.list("image.buildinfo")
        },
        says: "made-otherwise: image.buildinfo is not what the rest of the release leads to",
    },
    Attack {
        name: "another recipe beside the archive",
        does: |ground| {
            ground.edit("recipe.toml", |text| text.replacen("The smallest", "The Smallest", 1))?;
            ground.list("recipe.toml")
        },
        says: "recipe-unreadable: what the release was made from cannot be read: recipe.toml is not that of recipe.tar",
    },
    Attack {
        name: "the digest of another recipe",
        does: |ground| ground.edit("manifest.json", |text| other_digit(text, "\"recipe\": \"")),
        says: "origin-differs: the manifest says ",
    },
    Attack {
        name: "another name",
        does: |ground| ground.edit("manifest.json", |text| text.replacen("\"minimal\"", "\"maximal\"", 1)),
        says: "origin-differs: the manifest says maximal for name, the recipe and the lock of the release lead to minimal",
    },
];

/// What `begat sbom check` finds out.
const ATTACKS: &[Attack] = &[
    Attack {
        name: "a planted file",
        does: |ground| ground.remake(|root| Ok(fs::write(root.join("usr/lib/.hidden"), "evil")?)),
        says: "path-not-listed: files.jsonl does not list /usr/lib/.hidden of rootfs.erofs",
    },
    Attack {
        name: "a changed file",
        does: |ground| ground.remake(|root| Ok(fs::write(root.join("usr/lib/os-release"), "ID=evil")?)),
        says: "path-differs: /usr/lib/os-release of rootfs.erofs is not what files.jsonl says: other content",
    },
    Attack {
        name: "a removed file",
        does: |ground| ground.remake(|root| Ok(fs::remove_file(root.join("usr/bin/bash"))?)),
        says: "path-missing: files.jsonl lists /usr/bin/bash of rootfs.erofs, which is not there",
    },
    Attack {
        name: "a file left out of the listing",
        does: |ground| ground.edit("files.jsonl", |text| without_line(text, "\"/usr/bin/bash\"")),
        says: "path-not-listed: files.jsonl does not list /usr/bin/bash of rootfs.erofs",
    },
    Attack {
        name: "a file said to come from elsewhere",
        does: |ground| {
            ground.edit("files.jsonl", |text| {
                text.replacen("\"class\":\"ldconfig\"", "\"class\":\"magic\"", 1)
            })
        },
        says: "path-differs: /etc/ld.so.cache of",
    },
    Attack {
        name: "a planted account",
        does: |ground| ground.forge("/etc/passwd", |text| text.to_owned() + "evil:x:0:0::/:/bin/bash\n"),
        says: "path-differs: /etc/passwd of rootfs.erofs is not what files.jsonl says: it comes from nobody knows where",
    },
    Attack {
        name: "a password",
        does: |ground| ground.forge("/etc/shadow", |text| text.replacen(":!*:", ":$y$j9T$evil$evil:", 1)),
        says: "path-differs: /etc/shadow of rootfs.erofs is not what files.jsonl says: it comes from nobody knows where",
    },
    Attack {
        name: "a line in a configuration of PAM",
        does: |ground| {
            ground.forge("/etc/pam.d/common-auth", |text| {
                text.replacen("auth\t", "auth\tsufficient\tpam_permit.so\nauth\t", 1)
            })
        },
        says: "path-differs: /etc/pam.d/common-auth of rootfs.erofs is not what files.jsonl says: it comes from nobody",
    },
    Attack {
        name: "a unit that nobody enables",
        does: |ground| {
            ground.forge_link(
                "/etc/systemd/system/multi-user.target.wants/debug-shell.service",
                "/usr/lib/systemd/system/debug-shell.service",
            )
        },
        says: "path-differs: /etc/systemd/system/multi-user.target.wants/debug-shell.service of rootfs.erofs is not what",
    },
    Attack {
        name: "another choice of an alternative",
        does: |ground| {
            ground.remake(|root| {
                let link = root.join("etc/alternatives/pager");
                fs::remove_file(&link)?;
                Ok(std::os::unix::fs::symlink("/usr/bin/bash", link)?)
            })?;
            ground.edit("files.jsonl", |text| {
                let lines = text.split_inclusive('\n').map(|line| {
                    let is_it =
                        line.contains("rootfs.erofs") && line.contains("\"/etc/alternatives/pager\",\"target\"");
                    if is_it {
                        line.replace("/bin/more", "/usr/bin/bash")
                    } else {
                        line.to_owned()
                    }
                });
                lines.collect()
            })
        },
        says: "path-differs: /etc/alternatives/pager of rootfs.erofs is not what files.jsonl says: it comes from nobody",
    },
    Attack {
        name: "a file left out of the bill",
        does: |ground| {
            ground.edit_json("sbom.spdx3.json", |bill| {
                unlist(bill, "/usr/lib/systemd/system/begat-ready.service")
            })
        },
        says: "path-not-listed: sbom.spdx3.json does not list /usr/lib/systemd/system/begat-ready.service of rootfs.erofs",
    },
    Attack {
        name: "a file left out of the short bill",
        does: |ground| {
            ground.edit_json("sbom.cdx.json", |bill| {
                leave_out(bill, "/usr/lib/systemd/system/begat-ready.service")
            })
        },
        says: "path-not-listed: sbom.cdx.json does not list /usr/lib/systemd/system/begat-ready.service of rootfs.erofs",
    },
    Attack {
        name: "a file of no package in the bill",
        does: |ground| ground.edit_json("sbom.spdx3.json", |bill| disown(bill, "/usr/bin/bash")),
        says: "path-differs: /usr/bin/bash of rootfs.erofs is not what sbom.spdx3.json says: files.jsonl has it of the package",
    },
    Attack {
        name: "a package left out of the bill",
        does: |ground| ground.edit_json("sbom.cdx.json", |bill| leave_out(bill, "bash")),
        says: "package-not-listed: sbom.cdx.json does not list the package bash",
    },
    Attack {
        name: "a package of another version",
        does: |ground| {
            ground.edit_json("sbom.spdx.json", |bill| {
                let packages = bill["packages"].as_array_mut().context("there are no packages")?;
                let bash = packages.iter_mut().find(|package| package["name"] == "bash");
                bash.context("there is no bash")?["versionInfo"] = "99".into();
                Ok(())
            })
        },
        says: "component-differs: sbom.spdx.json has another version for bash",
    },
    Attack {
        name: "a kernel left out of the bill",
        does: |ground| ground.edit_json("sbom.cdx.json", |bill| leave_out(bill, "vmlinuz")),
        says: "component-not-listed: sbom.cdx.json does not list vmlinuz with the SHA-256 ",
    },
    Attack {
        name: "a disk of another SHA-512",
        does: |ground| {
            ground.edit_json("sbom.cdx.json", |bill| {
                bill["metadata"]["component"]["hashes"][1]["content"] = "00".repeat(64).into();
                Ok(())
            })
        },
        says: "component-differs: sbom.cdx.json has another SHA-512 for disk.raw",
    },
    Attack {
        name: "another supplier in a bill",
        does: |ground| {
            ground.edit("sbom.spdx.json", |text| {
                text.replacen("Organization: Debian", "Organization: Debiam", 1)
            })
        },
        says: "not-of-packages: sbom.spdx.json is not what the packages of the lock and the images lead to, from byte ",
    },
    Attack {
        name: "another kernel",
        does: |ground| ground.write_at("vmlinuz", 0x10_0000, b"evil"),
        says: "not-of-packages: vmlinuz is not what the packages of the lock and the images lead to, from byte 1048576 on",
    },
    Attack {
        name: "other firmware",
        does: |ground| ground.write_at("OVMF-amdsev.fd", 0x1000, b"evil"),
        says: "not-of-packages: OVMF-amdsev.fd is not what the packages of the lock and the images lead to, from byte 4096",
    },
    Attack {
        name: "another stub",
        does: |ground| ground.write_at("uki.efi", 0x60, b"evil"), // what it says under DOS
        says: "not-of-packages: uki.efi is not what the packages of the lock and the images lead to, from byte 96 on",
    },
    Attack {
        name: "bytes between the partitions",
        does: |ground| ground.write_at("disk.raw", 0x5000, b"evil"), // behind the table
        says: "disk-not-zero: at offset 0x5000 of disk.raw there is \"evil",
    },
];

/// A release that is tampered with.
struct Ground<'a> {
    shell: &'a Shell,
    folder: PathBuf,
    /// The tool tree of the build.
    tree: &'a Path,
}

/// Tampers with copies of a release and has `begat sbom check` find it.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The folder of the release
    release: PathBuf,
}

impl Args {
    pub(crate) fn run(self) -> Result<()> {
        check(&host::begat(&host::shell()?)?, &fs::canonicalize(self.release)?)
    }
}

/// Does everything to copies of a release; the whole one has no findings.
pub(crate) fn check(begat: &Path, release: &Path) -> Result<()> {
    let shell = host::shell()?;
    let tree = tree(begat, &shell)?;
    cmd!(shell, "{begat} sbom check {release}").run()?;
    cmd!(shell, "{begat} verify {release}").run()?;
    let found_by = |verb: &'static [&str], attacks: &'static [Attack]| attacks.iter().map(move |attack| (verb, attack));
    for (verb, attack) in found_by(&["sbom", "check"], ATTACKS).chain(found_by(&["verify"], LIES)) {
        let parent = release.parent().context("a release is in a folder")?;
        let place = tempfile::tempdir_in(parent)?; // beside it, for hard links
        let ground = Ground {
            shell: &shell,
            folder: place.path().join("release"),
            tree: &tree,
        };
        let folder = &ground.folder;
        cmd!(shell, "cp --recursive --link {release} {folder}").quiet().run()?;
        (attack.does)(&ground).with_context(|| format!("cannot make {}", attack.name))?;
        let checked = cmd!(shell, "{begat} {verb...} {folder}")
            .quiet()
            .ignore_status()
            .output()?;
        let text = String::from_utf8_lossy(&checked.stdout);
        let found = text.lines().find(|line| line.starts_with(attack.says));
        let found = found.filter(|_| checked.status.code() == Some(1));
        let found =
            found.with_context(|| format!("{}: the check ends with {}:\n{text}", attack.name, checked.status))?;
        println!("{:<34}  {found}", attack.name);
    }
    Ok(())
}

/// The tool tree in the store of this user.
fn tree(begat: &Path, shell: &Shell) -> Result<PathBuf> {
    let home = shell
        .var("XDG_CACHE_HOME")
        .or_else(|_| Ok::<_, xshell::Error>(shell.var("HOME")? + "/.cache"))?;
    let trees = Path::new(&home).join("begat/trees");
    let mut found = fs::read_dir(&trees).with_context(|| format!("{} has made no tool tree", begat.display()))?;
    let tree = found.find_map(|entry| {
        entry
            .ok()
            .map(|entry| entry.path())
            .filter(|path| path.join("usr/bin/mkfs.erofs").exists())
    });
    tree.context("no tool tree has mkfs.erofs")
}

impl Ground<'_> {
    /// A file of the copy that is no longer that of the release.
    fn own(&self, name: &str) -> Result<PathBuf> {
        let (path, copy) = (self.folder.join(name), self.folder.join(".copy"));
        fs::copy(&path, &copy)?;
        fs::rename(&copy, &path)?;
        Ok(path)
    }

    fn edit(&self, name: &str, change: impl Fn(&str) -> String) -> Result<()> {
        let path = self.own(name)?;
        let text = fs::read_to_string(&path)?;
        let changed = change(&text);
        ensure!(changed != text, "{name} has nothing to change");
        Ok(fs::write(path, changed)?)
    }

    /// Writes bytes into a file, in place of as many.
    fn write_at(&self, name: &str, offset: u64, bytes: &[u8]) -> Result<()> {
        let file = fs::File::options().write(true).open(self.own(name)?)?;
        Ok(file.write_all_at(bytes, offset)?)
    }

    fn edit_json(&self, name: &str, change: impl Fn(&mut Value) -> Result<()>) -> Result<()> {
        let path = self.own(name)?;
        let mut value = serde_json::from_slice(&fs::read(&path)?)?;
        change(&mut value)?;
        Ok(fs::write(path, value.to_string())?)
    }

    /// Writes the digest that a file of the same size has now into the manifest.
    fn list(&self, name: &str) -> Result<()> {
        let text = fs::read_to_string(self.folder.join("manifest.json"))?;
        let manifest: Value = serde_json::from_str(&text)?;
        let files = manifest["files"].as_array().context("there are no files")?;
        let known = files.iter().find(|file| file["name"] == name);
        let known = known.and_then(|file| file["sha256"].as_str());
        let known = known.with_context(|| format!("{name} is not listed"))?;
        let now = Sha256::of(fs::read(self.folder.join(name))?).to_string();
        self.edit("manifest.json", |text| text.replace(known, &now))
    }

    /// Makes the root image anew, from its files with a change.
    fn remake(&self, change: impl Fn(&Path) -> Result<()>) -> Result<()> {
        let image = self.folder.join("rootfs.erofs");
        let root = self.folder.with_file_name("root");
        let extract = format!("--extract={}", root.display());
        self.run("fsck.erofs", &[&extract, "--preserve", &image.to_string_lossy()])?;
        change(&root)?;
        fs::remove_file(&image)?;
        self.run(
            "mkfs.erofs",
            &["--quiet", &image.to_string_lossy(), &root.to_string_lossy()],
        )
    }

    /// Changes a text of the root image, and lists it as it is then, as what it was listed as before.
    fn forge(&self, path: &str, change: impl Fn(&str) -> String) -> Result<()> {
        self.remake(|root| {
            let file = root.join(path.trim_start_matches('/'));
            let text = fs::read_to_string(&file)?;
            let changed = change(&text);
            ensure!(changed != text, "{path} has nothing to change");
            self.relist(path, |line| {
                line["sha256"] = Sha256::of(&changed).to_string().into();
                line["size"] = changed.len().into();
            })?;
            Ok(fs::write(file, changed)?)
        })
    }

    /// Adds a link to the root image, beside one that is there already, and lists it like that.
    fn forge_link(&self, path: &str, target: &str) -> Result<()> {
        let link = |root: &Path| {
            Ok(std::os::unix::fs::symlink(
                target,
                root.join(path.trim_start_matches('/')),
            )?)
        };
        self.remake(link)?;
        self.edit("files.jsonl", |text| {
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let is_beside = |line: &&str| line.contains("rootfs.erofs") && line.contains(&format!("\"{folder}/"));
            let beside = text.lines().find(is_beside).unwrap_or_default();
            let mut value: Value = serde_json::from_str(beside).unwrap_or_default();
            (value["path"], value["target"]) = (path.into(), target.into());
            value.sort_all_objects();
            let added = value.to_string();
            let mut lines: Vec<&str> = text.lines().chain([added.as_str()]).collect();
            lines.sort_by_key(|line| listed_at(line));
            lines.iter().map(|line| format!("{line}\n")).collect()
        })
    }

    /// Changes the line of a path of the root image.
    fn relist(&self, path: &str, change: impl Fn(&mut Value)) -> Result<()> {
        self.edit("files.jsonl", |text| {
            let lines = text.lines().map(|line| {
                let mut value: Value = serde_json::from_str(line).unwrap_or_default();
                if value["image"] == "rootfs.erofs" && value["path"] == path {
                    change(&mut value);
                    value.sort_all_objects();
                    return format!("{value}\n");
                }
                format!("{line}\n")
            });
            lines.collect()
        })
    }

    /// Runs a program of the tool tree with the libraries of that.
    fn run(&self, program: &str, arguments: &[&str]) -> Result<()> {
        let (shell, tree) = (self.shell, self.tree);
        let loader = tree.join("usr/lib64/ld-linux-x86-64.so.2");
        let (libraries, program) = (
            tree.join("usr/lib/x86_64-linux-gnu"),
            tree.join("usr/bin").join(program),
        );
        let run = cmd!(shell, "{loader} --library-path {libraries} {program} {arguments...}");
        Ok(run.quiet().ignore_stdout().ignore_stderr().run()?)
    }
}

/// Changes the hexadecimal digit behind the first `word`.
fn other_digit(text: &str, word: &str) -> String {
    let (before, behind) = text.split_once(word).unwrap_or((text, ""));
    let other = if behind.starts_with('0') { "1" } else { "0" };
    [before, word, other, behind.get(1..).unwrap_or_default()].concat()
}

/// The image and path of a line of the listing.
fn listed_at(line: &str) -> (String, String) {
    let value: Value = serde_json::from_str(line).unwrap_or_default();
    let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    (text("image"), text("path"))
}

fn without_line(text: &str, word: &str) -> String {
    let kept = text
        .split_inclusive('\n')
        .filter(|line| !(line.contains(word) && line.contains("rootfs")));
    kept.collect()
}

/// Takes a component out of a bill of CycloneDX.
fn leave_out(bill: &mut Value, name: &str) -> Result<()> {
    let components = bill["components"].as_array_mut().context("there are no components")?;
    components.retain(|component| component["name"] != name);
    Ok(())
}

/// Takes a file out of what packages are said to contain.
fn disown(bill: &mut Value, path: &str) -> Result<()> {
    let graph = bill["@graph"].as_array_mut().context("there is no graph")?;
    let ids: Vec<Value> = graph
        .iter()
        .filter(|element| element["name"] == path)
        .map(|element| element["spdxId"].clone())
        .collect();
    let packages = graph
        .iter_mut()
        .filter(|element| element["comment"] == "those in the images");
    for to in packages.filter_map(|relation| relation["to"].as_array_mut()) {
        to.retain(|id| !ids.contains(id));
    }
    Ok(())
}

/// Takes a file out of what the image is said to contain.
fn unlist(bill: &mut Value, path: &str) -> Result<()> {
    let graph = bill["@graph"].as_array_mut().context("there is no graph")?;
    let file = graph
        .iter()
        .position(|element| element["name"] == path)
        .context("the file is not there")?;
    let id = graph.remove(file)["spdxId"].clone();
    for relation in graph {
        // an index would put a null where there is no array
        if let Some(to) = relation.get_mut("to").and_then(Value::as_array_mut) {
            to.retain(|other| *other != id);
        }
    }
    Ok(())
}
