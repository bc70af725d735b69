//! `cargo ci oracle registry`: a release goes to the distribution's registry server and comes back as it was, over
//! connections that are cut; skopeo lists it.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use measure::Sha256;
use serde_json::json;
use tempfile::TempDir;
use xshell::{Shell, cmd};

use crate::{difference, host};

/// After so many bytes a connection is cut, once.
const CUT: usize = 10 << 20;

/// A registry server on this machine; it ends with this value.
pub(crate) struct Server {
    address: String,
    folder: TempDir,
    child: Child,
}

/// Sends the release, looks at it with skopeo, and brings it back.
pub(crate) fn check(begat: &Path, release: &Path) -> Result<()> {
    let shell = host::shell()?;
    let server = Server::start(&shell)?;
    let pushed = push(&shell, begat, release, &server)?;
    list(&shell, &server, &pushed)?;
    pull(&shell, begat, release, &server)?;
    refuse(&shell, begat, &server, &pushed)
}

/// Through a proxy that cuts; then again, when nothing is missing.
fn push(shell: &Shell, begat: &Path, release: &Path, server: &Server) -> Result<serde_json::Value> {
    let proxy = Proxy::start(&server.address, Direction::Up)?;
    let through = format!("{}/begat/guest:1", proxy.address);
    let pushed = cmd!(shell, "{begat} push {release} {through} --json")
        .quiet()
        .ignore_stderr()
        .read()?;
    ensure!(proxy.has_cut(), "no connection was cut: the release is too small");
    let direct = server.reference("1");
    let again = cmd!(shell, "{begat} push {release} {direct} --json").quiet().read()?;
    let (pushed, again): (serde_json::Value, serde_json::Value) =
        (serde_json::from_str(&pushed)?, serde_json::from_str(&again)?);
    ensure!(again["sent"] == 0, "what is there was sent again: {again}");
    ensure!(
        again["artifact"] == pushed["artifact"],
        "the same release is another artifact"
    );
    println!(
        "registry: {} files sent over a connection that was cut, none again",
        pushed["sent"]
    );
    Ok(pushed)
}

/// The tag, the artifact's digest, and what refers to it, as skopeo sees them.
fn list(shell: &Shell, server: &Server, pushed: &serde_json::Value) -> Result<()> {
    let repository = format!("docker://{}/begat/guest", server.address);
    let tags = cmd!(shell, "skopeo list-tags --tls-verify=false {repository}")
        .quiet()
        .read()?;
    let digest = pushed["artifact"].as_str().context("the artifact has no digest")?;
    let fallback = digest.replace(':', "-");
    ensure!(
        tags.contains("\"1\"") && tags.contains(&fallback),
        "skopeo lists other tags: {tags}"
    );
    let by_digest = format!("{repository}@{digest}");
    let manifest = cmd!(shell, "skopeo inspect --raw --tls-verify=false {by_digest}")
        .quiet()
        .read()?;
    ensure!(
        manifest.contains("application/vnd.begat.release.v1"),
        "skopeo sees another manifest: {manifest}"
    );
    let by_tag = format!("{repository}:{fallback}");
    let index = cmd!(shell, "skopeo inspect --raw --tls-verify=false {by_tag}")
        .quiet()
        .read()?;
    let attached = pushed["attached"].as_array().context("nothing is attached")?;
    for document in attached {
        let digest = document["digest"].as_str().unwrap_or_default();
        ensure!(index.contains(digest), "the fallback tag does not list {document}");
    }
    println!(
        "registry: skopeo lists the release and the {} documents that refer to it",
        attached.len()
    );
    Ok(())
}

/// Through a proxy that cuts; what comes is what was sent.
fn pull(shell: &Shell, begat: &Path, release: &Path, server: &Server) -> Result<()> {
    let proxy = Proxy::start(&server.address, Direction::Down)?;
    let (reference, pulled) = (format!("{}/begat/guest:1", proxy.address), server.path("pulled"));
    let store = server.path("store");
    cmd!(shell, "{begat} pull {reference} {pulled} --store {store}")
        .quiet()
        .ignore_stdout()
        .run()?;
    ensure!(proxy.has_cut(), "no connection was cut: the release is too small");
    ensure!(
        difference::compare(release, &pulled)?.print(),
        "another release has come back"
    );
    cmd!(shell, "{begat} verify {pulled}").quiet().ignore_stdout().run()?;
    let whole: u64 = sizes(release)?.iter().sum();
    let (sent, limit) = (
        proxy.sent.load(Ordering::Relaxed) as u64,
        whole + whole / 10 + (4 << 20),
    );
    ensure!(
        sent < limit,
        "{sent} bytes came for a release of {whole}: the cut download began again"
    );
    println!("registry: the release came back as it was, {sent} bytes for {whole} over a connection that was cut");
    Ok(())
}

/// A blob that somebody has changed where the server keeps it.
fn refuse(shell: &Shell, begat: &Path, server: &Server, pushed: &serde_json::Value) -> Result<()> {
    let release = pushed["release"].as_str().context("the release has no digest")?;
    let blobs = server.path("data/docker/registry/v2/blobs/sha256");
    let data = blobs.join(&release[..2]).join(release).join("data");
    let text = fs::read_to_string(&data).with_context(|| format!("cannot read {}", data.display()))?;
    fs::write(&data, text.replacen("\"name\"", "\"nome\"", 1))?;
    let (reference, folder, store) = (server.reference("1"), server.path("refused"), server.path("empty"));
    fs::create_dir(&folder)?;
    let output = folder.join("release");
    let outcome = cmd!(shell, "{begat} pull {reference} {output} --store {store}")
        .quiet()
        .ignore_status()
        .output()?;
    let report = String::from_utf8_lossy(&outcome.stderr).into_owned();
    ensure!(
        outcome.status.code() == Some(1),
        "other bytes were not refused: {report}"
    );
    ensure!(
        fs::read_dir(&folder)?.next().is_none(),
        "a refused release has appeared"
    );
    println!("registry: other bytes than the manifest names are refused");
    Ok(())
}

fn sizes(folder: &Path) -> Result<Vec<u64>> {
    fs::read_dir(folder)?
        .map(|entry| Ok(entry?.metadata()?.len()))
        .collect()
}

impl Server {
    pub(crate) fn start(shell: &Shell) -> Result<Self> {
        host::need(shell, &[("docker-registry", "docker-registry"), ("skopeo", "skopeo")])?;
        let folder = tempfile::tempdir_in("/var/tmp")?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let (configuration, data) = (folder.path().join("config.yml"), folder.path().join("data"));
        let data = data.display();
        let text =
            format!("version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {data}\nhttp:\n  addr: {address}\n");
        fs::write(&configuration, text)?;
        let mut serve = Command::from(cmd!(shell, "docker-registry serve {configuration}"));
        let child = serve.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let server = Self { address, folder, child };
        for _ in 0..100 {
            if TcpStream::connect(&server.address).is_ok() {
                return Ok(server);
            }
            thread::sleep(Duration::from_millis(100));
        }
        anyhow::bail!("the registry does not answer at {}", server.address)
    }

    /// Has skopeo bring an artifact whose only layer is this file; returns where it is, by its digest.
    pub(crate) fn offer(&self, shell: &Shell, file: &Path) -> Result<String> {
        let layout = tempfile::tempdir_in(&self.folder)?;
        let layout = layout.path();
        let blobs = layout.join("blobs/sha256");
        fs::create_dir_all(&blobs)?;
        let add = |media_type: &str, bytes: &[u8]| {
            let digest = Sha256::of(bytes).to_string();
            fs::write(blobs.join(&digest), bytes)?;
            let (digest, size) = (format!("sha256:{digest}"), bytes.len());
            Ok::<_, io::Error>(json!({ "mediaType": media_type, "digest": digest, "size": size }))
        };
        const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": "application/vnd.example.data",
            "config": add("application/vnd.oci.empty.v1+json", b"{}")?,
            "layers": [add("application/x-tar", &fs::read(file)?)?],
        });
        let manifest = add(MANIFEST, manifest.to_string().as_bytes())?;
        let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
        fs::write(layout.join("index.json"), index.to_string())?;
        fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        let (from, name) = (
            format!("oci:{}", layout.display()),
            format!("{}/begat/data", self.address),
        );
        let to = format!("docker://{name}:1");
        cmd!(shell, "skopeo copy --dest-tls-verify=false {from} {to}")
            .quiet()
            .ignore_stdout()
            .ignore_stderr()
            .run()?;
        let digest = manifest["digest"].as_str().context("it has a digest")?;
        Ok(format!("oci://{name}@{digest}"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn reference(&self, tag: &str) -> String {
        format!("{}/begat/guest:{tag}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// Which way the bytes go that are counted.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Direction {
    Up,
    Down,
}

/// Passes connections on, and cuts the first that has carried [`CUT`] bytes.
struct Proxy {
    address: String,
    sent: Arc<std::sync::atomic::AtomicUsize>,
    cut: Arc<AtomicBool>,
}

impl Proxy {
    fn start(server: &str, direction: Direction) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let (server, sent, cut) = (server.to_owned(), Arc::default(), Arc::new(AtomicBool::new(false)));
        let proxy = Self {
            address,
            sent: Arc::clone(&sent),
            cut: Arc::clone(&cut),
        };
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(&server) else {
                    return;
                };
                for (way, from, to) in [(Direction::Up, &client, &server), (Direction::Down, &server, &client)] {
                    let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else {
                        return;
                    };
                    let counted = (way == direction).then(|| (Arc::clone(&sent), Arc::clone(&cut)));
                    thread::spawn(move || {
                        let _ = pass(&from, &to, counted); // either side may hang up
                        let _ = from.shutdown(Shutdown::Both);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
            }
        });
        Ok(proxy)
    }

    fn has_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }
}

type Counted = (Arc<std::sync::atomic::AtomicUsize>, Arc<AtomicBool>);

/// Passes bytes on until one side ends, or the connection is to be cut.
fn pass(mut from: &TcpStream, mut to: &TcpStream, counted: Option<Counted>) -> io::Result<()> {
    let (mut carried, mut buffer) = (0, vec![0; 1 << 16]);
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..count])?;
        carried += count;
        if let Some((sent, cut)) = &counted {
            sent.fetch_add(count, Ordering::Relaxed);
            if carried > CUT && !cut.swap(true, Ordering::Relaxed) {
                return Ok(());
            }
        }
    }
}
