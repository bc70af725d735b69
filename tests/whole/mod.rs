//! A small release that is whole: its images are tiny, and everything in it follows from its recipe, its lock and them.

use std::fs::{self, File, OpenOptions};
use std::io::{Cursor, Seek as _};
use std::path::Path;

use builder::image::disk::{self, Content, Disk};
use builder::image::{identity, uki, verity};
use builder::model::file;
use builder::model::lock::{Lock, Package, Tree};
use builder::model::release::{Manifest, Origin};
use builder::stage::derived::{Derived, OF_IMAGES, Source};
use builder::stage::measure::{Measured, launches};
use builder::stage::on_disk::OnDisk;
use builder::stage::parse::Project;
use builder::stage::recipe;
use builder::stage::release::{Existing, Staging, Stamps};
use measure::Sha256;
use measure::linux::Kernel;

const RECIPE: &str = r#"name = "small"
epoch = "2026-09-12T00:00:00Z"
firmware = ["../../firmware/plain", "../../firmware/snp", "../../firmware/tdx"]
kernel = "../../kernels/small"
tools = "trixie"
command-line = ["console=ttyS0"]
platform = "machines.toml"

[suites.trixie]
archive = "debian"

[root]
suite = "trixie"
packages = ["systemd"]

[initrd]
suite = "trixie"
packages = ["systemd"]
modules = ["virtio_blk"]

[[launch]]
platform = "snp"
vcpus = [1, 2]
vcpu-types = ["EPYC-v4"]

[[launch]]
platform = "tdx"

[[launch]]
platform = "tpm"
"#;

const MACHINES: &str =
    "[snp]\ntcb = [{ bootloader = 4, tee = 0, snp = 24, microcode = 219 }]\nsmt = true\ntsme = false\n";

/// Builds the release and gives it its name.
pub(crate) fn publish(destination: &Path) -> Manifest {
    let staging = Staging::begin(destination, Existing::Refuse).unwrap();
    let origin = fill(staging.folder());
    staging.publish(origin, Stamps::new()).unwrap()
}

/// Writes the files of the release; returns where it comes from.
pub(crate) fn fill(folder: &Path) -> Origin {
    let place = tempfile::tempdir().unwrap();
    let project = project(place.path());
    let lock = lock(&project);
    let source = Source {
        project: &project,
        lock: &lock,
    };
    images(folder, source);
    documents(folder, source);
    source.origin()
}

/// The recipe, in a folder below `root`.
fn project(root: &Path) -> Project {
    let write = |name: &str, text: &str| {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    for name in ["plain", "snp", "tdx"] {
        let description = format!(
            "description = \"{name}\"\nsuite = \"trixie\"\npackage = \"ovmf\"\nfile = \"/usr/share/{name}.fd\"\nsupports = [\"{name}\"]\n"
        );
        write(&format!("firmware/{name}/firmware.toml"), &description);
    }
    let kernel = "description = \"small\"\nsuite = \"trixie\"\npackage = \"linux-image\"\n";
    write("kernels/small/kernel.toml", kernel);
    write("recipes/small/recipe.toml", RECIPE);
    write("recipes/small/machines.toml", MACHINES);
    write("recipes/small/mkosi.conf", "[Content]\n");
    write(
        "recipes/small/mkosi.extra/usr/lib/systemd/system/small.service",
        "[Unit]\n",
    );
    Project::read(&root.join("recipes/small")).unwrap()
}

fn lock(project: &Project) -> Lock {
    let package = |(name, tree): (&str, Tree)| Package {
        name: name.into(),
        version: "1-1".into(),
        architecture: "amd64".into(),
        source: None,
        sha256: Sha256::of(name),
        size: 1000,
        archive: "debian".into(),
        path: format!("pool/main/{name}_1-1_amd64.deb"),
        why: [(tree, "asked for".to_owned())].into(),
    };
    let packages = [
        ("systemd", Tree::Root),
        ("libc6", Tree::Initrd),
        ("ovmf", Tree::Firmware),
        ("linux-image", Tree::Kernel),
        ("mkosi", Tree::Tools),
    ];
    let packages = packages.into_iter().map(package).collect();
    Lock::new(project.digest, Vec::new(), packages, project.sources.clone())
}

/// What boots, or would.
fn images(folder: &Path, source: Source<'_>) {
    let lock = source.lock.digest();
    let kernel = include_bytes!("../fuzz/corpus/kernel/seed");
    let plain = include_bytes!("../fuzz/corpus/firmware/seed");
    for (name, bytes) in [
        ("OVMF-plain.fd", &plain[..]),
        ("OVMF-snp.fd", include_bytes!("../fuzz/corpus/ovmf/seed")),
        ("OVMF-tdx.fd", plain),
        (file::KERNEL, kernel),
        (file::INITRD, &stored(include_bytes!("../fuzz/corpus/cpio/seed"))),
        (file::ROOT, &root(&lock)),
    ] {
        fs::write(folder.join(name), bytes).unwrap();
    }
    let open = |name: &str| {
        let file = File::open(folder.join(name)).unwrap();
        let size = file.metadata().unwrap().len();
        (file, size)
    };
    let new = |name: &str| {
        let mut new = OpenOptions::new();
        let new = new.read(true).write(true).create_new(true);
        new.open(folder.join(name)).unwrap()
    };
    let (mut root, size) = open(file::ROOT);
    let (salt, uuid) = (identity::salt(&lock, file::VERITY), identity::uuid(&lock, file::VERITY));
    let root_hash = verity::write_verity(&root, size, &salt, uuid, &mut new(file::VERITY)).unwrap();
    let command_line = source.command_line(&root_hash, &[]);
    fs::write(folder.join(file::COMMAND_LINE), &command_line).unwrap();
    let parts = uki::Uki {
        stub: &stub(),
        os_release: "ID=small\n",
        command_line: &command_line,
        uname: Kernel::read(kernel).unwrap().release().unwrap(),
        linux: open(file::KERNEL).0,
        initrd: open(file::INITRD).0,
    };
    uki::write_uki(parts, &mut new(file::UKI)).unwrap();
    let (mut uki, uki_size) = open(file::UKI);
    let mut esp = Cursor::new(Vec::new());
    disk::write_esp(&lock, &mut uki, uki_size, &mut esp).unwrap();
    esp.rewind().unwrap();
    let esp_size = esp.get_ref().len() as u64;
    let (mut verity, verity_size) = open(file::VERITY);
    let disk = Disk {
        lock,
        root_hash,
        esp: Content(&mut esp, esp_size),
        root: Content(&mut root, size),
        verity: Content(&mut verity, verity_size),
        volumes: Vec::new(),
    };
    disk.write(&mut new(file::DISK)).unwrap();
}

fn documents(folder: &Path, source: Source<'_>) {
    for name in OF_IMAGES {
        fs::write(folder.join(name), "{}\n").unwrap();
    }
    let artifacts = source.artifacts();
    let stamps = artifacts.into_iter().map(|name| {
        let bytes = fs::read(folder.join(&name)).unwrap();
        let stamp = builder::model::release::Stamp {
            sha256: Sha256::of(&bytes),
            size: bytes.len() as u64,
        };
        (name.try_into().unwrap(), stamp)
    });
    let stamps: Stamps = stamps.collect();
    let wanted = &source.project.recipe.launch;
    let launches = launches(wanted, &source.firmware(), &stamps).unwrap();
    let measured = Measured::read(&launches, &OnDisk::open(folder).unwrap()).unwrap();
    let measurements = measured.measure(launches).unwrap();
    let derived = Derived {
        source,
        files: &stamps,
        measurements: &measurements,
    };
    let archive = recipe::pack(source.project).unwrap();
    let documents = derived.documents().unwrap().into_iter();
    for (name, bytes) in documents.chain([(recipe::FILE, archive)]) {
        fs::write(folder.join(name), bytes).unwrap();
    }
}

/// A root image with the identifier that the lock gives it.
fn root(lock: &Sha256) -> Vec<u8> {
    let mut image = include_bytes!("../fuzz/corpus/erofs/seed").to_vec();
    image[1072..1088].copy_from_slice(identity::uuid(lock, file::ROOT).as_bytes());
    image[1028..1032].fill(0);
    let crc = image[1024..4096].iter().fold(u32::MAX, |crc, byte| {
        let step = |crc: u32, _| crc >> 1 ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        (0..8).fold(crc ^ u32::from(*byte), step)
    });
    image[1028..1032].copy_from_slice(&crc.to_le_bytes());
    image
}

/// A frame of zstd with one block that is not compressed (RFC 8878, section 3.1.1).
fn stored(bytes: &[u8]) -> Vec<u8> {
    let size = u32::try_from(bytes.len()).unwrap();
    let block = ((size << 3) | 1).to_le_bytes();
    [
        &[0x28, 0xb5, 0x2f, 0xfd, 0xa0],
        &size.to_le_bytes()[..],
        &block[..3],
        bytes,
    ]
    .concat()
}

/// A stub with what tells it from others.
fn stub() -> Vec<u8> {
    let sections: [(&[u8; 8], &[u8]); 4] = [
        (b".text\0\0\0", b"code"),
        (b".rodata\0", b"Error loading kernel image: %m"),
        (b".sbat\0\0\0", b"sbat,1,x\nsystemd-stub,1,y\n\0\0"),
        (b".sdmagic", b"#### LoaderInfo: systemd-stub 257.13-1 ####\0"),
    ];
    let mut bytes = vec![0; 0x400];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, b"MZ");
    put(0x3c, &0x40_u32.to_le_bytes());
    put(0x40, b"PE\0\0");
    put(0x44, &0x8664_u16.to_le_bytes());
    put(0x46, &4_u16.to_le_bytes());
    put(0x54, &176_u16.to_le_bytes()); // the optional header with 8 directories
    put(0x58, &0x20b_u16.to_le_bytes());
    put(0x58 + 32, &4096_u32.to_le_bytes());
    put(0x58 + 36, &512_u32.to_le_bytes());
    put(0x58 + 56, &0x5000_u32.to_le_bytes());
    put(0x58 + 60, &0x400_u32.to_le_bytes());
    put(0x58 + 68, &10_u16.to_le_bytes()); // an EFI application
    put(0x58 + 108, &8_u32.to_le_bytes());
    for (nth, (name, content)) in (0_u32..).zip(sections) {
        let at = 0x108 + 40 * nth as usize;
        put(at, name);
        put(at + 8, &(content.len() as u32).to_le_bytes());
        put(at + 12, &(0x1000 * (nth + 1)).to_le_bytes());
        put(at + 16, &512_u32.to_le_bytes());
        put(at + 20, &(0x400 + 512 * nth).to_le_bytes());
    }
    for (_, content) in sections {
        let mut section = content.to_vec();
        section.resize(512, 0);
        bytes.extend(section);
    }
    bytes
}
