//! Evidence collected from TEEs that other programs play: a kernel with configfs-tsm, a TPM in software, the guest
//! components of a pod; and the endorsements that it lacks, from a service on the loopback interface.

#![expect(clippy::unwrap_used, reason = "a fixture that cannot be made is a failed test")]

#[allow(dead_code, reason = "a release is made here")]
mod fixture;
mod simulated;
mod whole;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use builder::document::claims::Claims;
use builder::document::provenance::{Builder, Machine, Run};
use builder::mend::{self, Exit};
use builder::model::job::Ordered;
use builder::model::key::SigningKey;
use builder::model::measurements::{self, Measurement};
use builder::model::record::Terms;
use builder::model::{Record, Request, Trust};
use builder::stage::appraise::{Appraisal, Instance, Judge, Roots, Wanted};
use builder::stage::attested::{self, Attesting};
use builder::stage::chain::{COMPLETION, DISPATCH, Generation};
use builder::stage::collateral::Services;
use builder::stage::collect::{Places, ReportData, Source};
use builder::stage::on_disk::OnDisk;
use builder::stage::release::Existing;
use builder::stage::sign;
use builder::stage::signatures::Demand;
use builder::world::Store;
use builder::world::environment::Proxies;
use builder::world::tee::configfs_tsm::Tree;
use builder::world::vendor::Vendors;
use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use jiff::Timestamp;
use measure::event_log::{Digests, EventLog, Register};
use measure::evidence::snp::SnpProduct;
use measure::evidence::{AkTrust, Bytes, Evidence, HclEvidence, SnpEvidence, TdxEvidence, TdxRoot, TpmEvidence};
use measure::{Digest, Sha256, Sha384};
use rustix::io::Errno;
use serde_json::json;
use simulated::snp::{NOW, Platform, Said};
use simulated::tdx::{self, Td};
use simulated::tpm::{self, Ak, Simulated};
use tempfile::TempDir;
use uuid::Uuid;

/// What is asked for: the 48 bytes of a SHA-384.
fn asked() -> ReportData {
    ReportData::new((1..=48).collect()).unwrap()
}

/// A report of version 3, from a Milan, over this data.
fn report(data: &[u8]) -> Vec<u8> {
    let mut report = vec![0; 1184];
    report[0] = 3;
    report[0x50..0x50 + data.len()].copy_from_slice(data);
    report[0x188..0x18b].copy_from_slice(&[25, 1, 1]);
    report[0x1a0..0x1e0].fill(0xab);
    report
}

/// The body of a quote over this data.
fn quote(data: &[u8]) -> Vec<u8> {
    let mut quote = vec![0; 632];
    (quote[0], quote[4]) = (4, 0x81);
    quote[568..568 + data.len()].copy_from_slice(data);
    quote
}

/// A kernel that keeps to `Documentation/ABI/testing/configfs-tsm-report`, and a TEE behind it.
#[derive(Clone, Debug)]
struct Kernel {
    provider: Option<&'static str>,
    answer: fn(&[u8]) -> Vec<u8>,
    aux: Vec<u8>,
    /// How often the TEE is busy, and how often somebody else writes after us.
    busy: Cell<u32>,
    meddled: Cell<u32>,
    fails: bool,
    /// What was written to each request that is there, and how often.
    requests: Arc<Mutex<RefCell<Requests>>>,
}

/// What was written to each request, and how often.
type Requests = BTreeMap<PathBuf, (Vec<u8>, u32)>;

impl Kernel {
    fn new(provider: &'static str, answer: fn(&[u8]) -> Vec<u8>) -> Self {
        Self {
            provider: Some(provider),
            answer,
            aux: Vec::new(),
            busy: Cell::new(0),
            meddled: Cell::new(0),
            fails: false,
            requests: Arc::default(),
        }
    }

    /// Asks this kernel, and sees that it is left as it was.
    fn collect(&self) -> anyhow::Result<Evidence> {
        let places = Places {
            tree: Box::new(self.clone()),
            ccel: "/nonexistent".into(),
            tpm: "/nonexistent".into(),
            ..Places::default()
        };
        let evidence = places.collect(Some(Source::ConfigfsTsm), &asked());
        assert!(
            self.requests.lock().unwrap().borrow().is_empty(),
            "a request is left behind"
        );
        evidence.map(|(_, evidence)| evidence)
    }

    fn refusal(&self) -> String {
        mend::report(&self.collect().unwrap_err())
    }
}

fn take(times: &Cell<u32>) -> bool {
    let left = times.get();
    times.set(left.saturating_sub(1));
    left > 0
}

impl Tree for Kernel {
    fn make(&self, request: &Path) -> io::Result<()> {
        if self.provider.is_none() {
            return Err(Errno::NXIO.into());
        }
        let requests = self.requests.lock().unwrap();
        let old = requests.borrow_mut().insert(request.to_owned(), (Vec::new(), 0));
        assert_eq!(old, None, "two requests have one name");
        Ok(())
    }

    fn remove(&self, request: &Path) -> io::Result<()> {
        let requests = self.requests.lock().unwrap();
        let removed = requests.borrow_mut().remove(request);
        removed.map(drop).ok_or(Errno::NOENT.into())
    }

    fn read(&self, file: &Path) -> io::Result<Vec<u8>> {
        let requests = self.requests.lock().unwrap();
        let requests = requests.borrow();
        let (data, generation) = requests.get(file.parent().unwrap()).ok_or(Errno::NOENT)?;
        match file.file_name().unwrap().to_str().unwrap() {
            "provider" => Ok(format!("{}\n", self.provider.unwrap()).into_bytes()),
            "generation" => Ok(format!("{generation}\n").into_bytes()),
            "outblob" | "auxblob" if data.is_empty() => Err(Errno::INVAL.into()),
            "outblob" if self.fails => Err(Errno::IO.into()),
            "outblob" if take(&self.busy) => Err(Errno::BUSY.into()),
            "outblob" => Ok((self.answer)(data)),
            "auxblob" if self.provider == Some("sev_guest") => Ok(self.aux.clone()),
            _ => Err(Errno::NOENT.into()),
        }
    }

    fn write(&self, file: &Path, bytes: &[u8]) -> io::Result<()> {
        assert_eq!(file.file_name().unwrap(), "inblob");
        if bytes.len() != 64 {
            return Err(Errno::INVAL.into()); // as sev_guest and tdx_guest do
        }
        let requests = self.requests.lock().unwrap();
        let mut requests = requests.borrow_mut();
        let request = requests.get_mut(file.parent().unwrap()).ok_or(Errno::NOENT)?;
        *request = (bytes.to_vec(), request.1 + 1);
        if take(&self.meddled) {
            *request = (vec![0; 64], request.1 + 1);
        }
        Ok(())
    }
}

/// A table of the GHCB with one certificate, a VCEK: its GUID, where it lies, its length; then an entry of zeros.
fn table(certificate: &[u8]) -> Vec<u8> {
    let guid = HEXLOWER.decode(b"8d75da6364e66445adc5f4b93be8accd").unwrap();
    let place = [48, certificate.len() as u32].map(u32::to_le_bytes);
    [&guid, place.as_flattened(), &[0; 24], certificate].concat()
}

#[test]
fn a_report_comes_with_its_certificates() {
    let kernel = Kernel {
        aux: table(b"vcek"),
        ..Kernel::new("sev_guest", report)
    };
    let expected = SnpEvidence {
        report: report(&asked().padded()).into(),
        certificates: vec![b"vcek".to_vec().into()],
        crls: Vec::new(),
    };
    assert_eq!(kernel.collect().unwrap(), Evidence::Snp(expected));
}

#[test]
fn a_quote_comes_without_certificates() {
    let evidence = Kernel::new("tdx_guest", quote).collect().unwrap();
    let expected = TdxEvidence {
        quote: quote(&asked().padded()).into(),
        ..TdxEvidence::default()
    };
    assert_eq!(evidence, Evidence::Tdx(expected));
}

#[test]
fn a_busy_tee_is_waited_for() {
    let kernel = Kernel::new("sev_guest", report);
    kernel.busy.set(2);
    assert!(kernel.collect().is_ok());
}

#[test]
fn a_request_that_somebody_else_wrote_to_is_made_again() {
    let kernel = Kernel::new("sev_guest", report);
    kernel.meddled.set(2);
    assert!(kernel.collect().is_ok());
    kernel.meddled.set(u32::MAX);
    assert!(
        kernel.refusal().contains("somebody else writes"),
        "{}",
        kernel.refusal()
    );
}

#[test]
fn a_report_over_other_data_is_not_taken() {
    let refusal = Kernel::new("sev_guest", |_| report(&[7; 64])).refusal();
    assert!(
        refusal.contains("the evidence of the configfs-tsm binds 0707"),
        "{refusal}"
    );
}

#[test]
fn a_host_that_gives_a_broken_table_is_told_of() {
    let mut table = table(b"vcek");
    table[16] = 0xff;
    let kernel = Kernel {
        aux: table,
        ..Kernel::new("sev_guest", report)
    };
    assert!(kernel.refusal().contains("cannot be read"), "{}", kernel.refusal());
}

#[test]
fn nothing_is_left_behind_by_a_tee_that_fails() {
    let kernel = Kernel {
        fails: true,
        ..Kernel::new("sev_guest", report)
    };
    assert!(
        kernel.refusal().contains("the TEE gives no outblob"),
        "{}",
        kernel.refusal()
    );
    let other = Kernel::new("arm_cca_guest", report);
    assert!(other.refusal().contains("\"arm_cca_guest\""), "{}", other.refusal());
}

#[test]
fn a_tee_that_fails_is_not_replaced_by_a_lesser_one() {
    let (address, _) = serve(|_| good_rest("encoding=base64", asked().bytes()));
    let kernel = Kernel {
        fails: true,
        ..Kernel::new("sev_guest", report)
    };
    let places = |kernel: Kernel| Places {
        tree: Box::new(kernel),
        tpm: "/nonexistent".into(),
        coco: address,
        ..Places::default()
    };
    let error = places(kernel).collect(None, &asked()).unwrap_err();
    assert!(mend::report(&error).contains("outblob"));
    let absent = Kernel {
        provider: None,
        ..Kernel::new("sev_guest", report)
    };
    assert_eq!(places(absent).collect(None, &asked()).unwrap().0, Source::Coco);
}

/// What a server on the loopback interface answers.
struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    slow: bool,
}

fn ok(body: impl Into<Vec<u8>>) -> Answer {
    Answer {
        status: 200,
        headers: Vec::new(),
        body: body.into(),
        slow: false,
    }
}

fn absent() -> Answer {
    Answer {
        status: 404,
        ..ok("Attestation Feature Not Enabled")
    }
}

/// Starts a server; returns its address and the paths that it is asked for.
fn serve(answer: impl Fn(&str) -> Answer + Send + 'static) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let log = Arc::clone(&asked);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let Some(first) = lines.next() else { continue }; // who only looks whether somebody listens
            let _ = lines.take_while(|line| !line.is_empty()).count();
            let path = first.split(' ').nth(1).unwrap().to_owned();
            let answer = answer(&path);
            log.lock().unwrap().push(path);
            let _ = send(&stream, &answer); // the client may hang up
        }
    });
    (address, asked)
}

fn send(mut stream: &std::net::TcpStream, answer: &Answer) -> io::Result<()> {
    write!(stream, "HTTP/1.1 {} x\r\nConnection: close\r\n", answer.status)?;
    for (name, value) in &answer.headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    write!(stream, "Content-Length: {}\r\n\r\n", answer.body.len())?;
    if answer.slow {
        thread::sleep(Duration::from_secs(5));
    }
    stream.write_all(&answer.body)
}

fn rest(answer: impl Fn(&str) -> Answer + Send + 'static) -> anyhow::Result<Evidence> {
    rest_over(&asked(), answer)
}

fn rest_over(data: &ReportData, answer: impl Fn(&str) -> Answer + Send + 'static) -> anyhow::Result<Evidence> {
    let places = Places {
        coco: serve(answer).0,
        patience: Duration::from_secs(3),
        ..Places::default()
    };
    places.collect(Some(Source::Coco), data).map(|(_, evidence)| evidence)
}

/// The JSON of a TDX guest over this data.
fn tdx_json(data: &[u8]) -> Answer {
    ok(json!({"quote": BASE64.encode(&quote(data)), "cc_eventlog": null}).to_string())
}

fn good_rest(parameter: &str, data: &[u8]) -> Answer {
    assert!(parameter.contains("encoding=base64"));
    tdx_json(data)
}

/// What the guest components are asked for as `runtime_data`.
fn runtime_data(path: &str) -> &str {
    let query = path.strip_prefix("/aa/evidence?runtime_data=").unwrap();
    query.split('&').next().unwrap()
}

#[test]
fn guest_components_give_evidence() {
    let evidence = rest(|path| {
        let data = BASE64URL_NOPAD.decode(runtime_data(path).as_bytes()).unwrap();
        good_rest(path, &data)
    });
    let expected = TdxEvidence {
        quote: quote(asked().bytes()).into(),
        ..TdxEvidence::default()
    };
    assert_eq!(evidence.unwrap(), Evidence::Tdx(expected));
}

/// Older than 0.21: they ignore `encoding` and bind the text.
#[test]
fn report_data_of_another_encoding_of_the_same_statement() {
    let error = rest(|path| tdx_json(runtime_data(path).as_bytes())).unwrap_err();
    let report = mend::report(&error);
    assert!(report.contains("they are older than 0.21"), "{report}");
    assert!(report.contains("sha256-hex"), "{report}");
    assert_eq!(mend::exit_code(&error), mend::Exit::Unsupported);
}

/// Text is bound by every version.
#[test]
fn old_guest_components_bind_text() {
    let text = Sha256::of("record").to_string().into_bytes();
    let data = ReportData::new(text.clone()).unwrap();
    let evidence = rest_over(&data, |path| {
        assert!(!path.contains("encoding"), "{path}");
        tdx_json(runtime_data(path).as_bytes())
    });
    assert!(evidence.unwrap().binds(&text).unwrap());
}

#[test]
fn evidence_for_another_request() {
    let error = rest(|_| tdx_json(&[9; 48])).unwrap_err();
    assert!(mend::report(&error).contains("binds 0909"), "{}", mend::report(&error));
}

/// The 48 bytes asked for, and other bytes behind them.
#[test]
fn evidence_that_binds_more() {
    let error = rest(|_| tdx_json(&[asked().bytes(), &[1]].concat())).unwrap_err();
    assert!(mend::report(&error).contains("binds 0102"), "{}", mend::report(&error));
}

#[test]
fn answers_that_are_too_large_or_too_slow_or_no_evidence() {
    let refusal = |answer: fn() -> Answer| mend::report(&rest(move |_| answer()).unwrap_err());
    let large = refusal(|| ok(vec![b' '; (16 << 20) + 1]));
    assert!(large.contains("more than 16777216 bytes"), "{large}");
    let start = Instant::now();
    let slow = refusal(|| Answer {
        slow: true,
        ..tdx_json(&[0; 48])
    });
    assert!(
        slow.contains("stop in the middle") || slow.contains("do not answer"),
        "{slow}"
    );
    assert!(start.elapsed() < Duration::from_secs(5));
    let off = refusal(absent);
    assert!(off.contains("agent.guest_components_rest_api=all"), "{off}");
    for body in ["", "{}", "[", r#"{"quote":"AAAA"}"#] {
        let error = rest(move |_| ok(body)).unwrap_err();
        assert_eq!(mend::exit_code(&error), mend::Exit::Unsupported, "{body}: {error:#}");
    }
    let redirect = refusal(|| Answer {
        status: 302,
        headers: vec![("Location", "http://127.0.0.1:1/".into())],
        ..ok("")
    });
    assert!(redirect.contains("error:"), "{redirect}");
}

/// A TPM in software: of this host, or of a tool tree that begat has unpacked; with nothing of either, nothing is tested.
struct Swtpm {
    process: Child,
    folder: TempDir,
}

impl Swtpm {
    fn start() -> Option<Self> {
        let Some(mut command) = swtpm() else {
            println!("skipped: there is no swtpm");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let shown = folder.path().display();
        let state = format!("dir={shown}");
        let server = format!("type=unixio,path={shown}/tpm");
        command.args(["socket", "--tpm2", "--tpmstate", &state, "--server", &server]);
        let process = command
            .args(["--flags", "not-need-init,startup-clear"])
            .spawn()
            .unwrap();
        let swtpm = Self { process, folder };
        for _ in 0..600 {
            if swtpm.socket().exists() {
                return Some(swtpm);
            }
            thread::sleep(Duration::from_millis(100));
        }
        panic!("swtpm makes no socket");
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("tpm")
    }

    fn collect(self, data: &ReportData) -> (Self, anyhow::Result<Evidence>) {
        let places = Places {
            tpm: self.socket(),
            ..Places::default()
        };
        let evidence = places.collect(Some(Source::Tpm), data);
        (self, evidence.map(|(_, evidence)| evidence))
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        let _ = self.process.kill(); // ended already is as good
        let _ = self.process.wait();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a program that begat does not start, and where it may be"
)]
fn swtpm() -> Option<Command> {
    if Path::new("/usr/bin/swtpm").exists() {
        return Some(Command::new("/usr/bin/swtpm"));
    }
    let home = PathBuf::from(std::env::var_os("HOME")?);
    let trees = fs::read_dir(home.join(".cache/begat/trees")).ok()?;
    let mut trees = trees.map_while(Result::ok).map(|tree| tree.path());
    let tree = trees.find(|tree| tree.join("usr/bin/swtpm").exists())?;
    let libraries = tree.join("usr/lib/x86_64-linux-gnu");
    let mut command = Command::new(tree.join("usr/lib64/ld-linux-x86-64.so.2"));
    let path = format!("{0}:{0}/swtpm", libraries.display());
    command.arg("--library-path").arg(path).arg(tree.join("usr/bin/swtpm"));
    Some(command)
}

#[test]
fn a_tpm_quotes_what_was_booted() {
    let Some(swtpm) = Swtpm::start() else { return };
    let socket = swtpm.socket();
    let output = begat(&[
        "attest",
        "--device",
        socket.to_str().unwrap(),
        "--report-data",
        &"61".repeat(48),
    ]);
    let evidence: Evidence = serde_json::from_slice(&output.stdout).unwrap();
    let Evidence::Tpm(tpm) = evidence else {
        panic!("{evidence:?}");
    };
    let trust = AkTrust {
        keys: [Sha256::of(&*tpm.ak)].into(),
        ..AkTrust::default()
    };
    let genuine = tpm.verify(&trust, Timestamp::UNIX_EPOCH).unwrap();
    assert_eq!(&*genuine.claims().extra_data, [0x61; 48]);
    assert_eq!(genuine.claims().pcrs.len(), 16);
    assert!(
        genuine
            .claims()
            .pcrs
            .values()
            .all(|pcr| pcr.sha256.is_some() && pcr.sha384.is_some())
    );

    let mut edited = tpm.clone();
    let value = edited.pcrs.get_mut("sha384").unwrap().get_mut(&4).unwrap();
    *value = Bytes::from(vec![1; 48]);
    assert!(edited.verify(&trust, Timestamp::UNIX_EPOCH).is_err());
}

#[test]
fn a_tpm_has_one_key() {
    let Some(first) = Swtpm::start() else { return };
    let key = |evidence: anyhow::Result<Evidence>| match evidence.unwrap() {
        Evidence::Tpm(tpm) => tpm.ak,
        other => panic!("{other:?}"),
    };
    let (first, evidence) = first.collect(&asked());
    let ak = key(evidence);
    let (first, evidence) = first.collect(&asked());
    assert_eq!(key(evidence), ak);
    drop(first);
    let Some(other) = Swtpm::start() else { return };
    let (_other, evidence) = other.collect(&asked());
    assert_ne!(key(evidence), ak, "another TPM has another key");
}

fn begat(arguments: &[&str]) -> std::process::Output {
    #[expect(clippy::disallowed_methods, reason = "the program that is tested")]
    let mut command = Command::new(env!("CARGO_BIN_EXE_begat"));
    command.args(arguments).output().unwrap()
}

/// What fetches from a service on the loopback interface.
fn vendors() -> Vendors {
    Vendors::new(Proxies::default(), Duration::from_secs(5), Duration::from_millis(10))
}

fn kds(answer: impl Fn(&str) -> Answer + Send + 'static) -> (Services, Arc<Mutex<Vec<String>>>) {
    let (address, asked) = serve(answer);
    let mut services = Services::default();
    services.from_kds(&format!("http://{address}/"));
    (services, asked)
}

fn snp(report: Vec<u8>) -> Evidence {
    Evidence::Snp(SnpEvidence {
        report: report.into(),
        ..SnpEvidence::default()
    })
}

#[test]
fn what_a_report_lacks_is_fetched_once() {
    const CHAIN: &str = "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n\
                         -----BEGIN CERTIFICATE-----\nBAUG\n-----END CERTIFICATE-----\n";
    let (services, asked) = kds(|path| match path.rsplit('/').next().unwrap() {
        "cert_chain" => ok(CHAIN),
        "crl" => ok("crl"),
        _ => ok("vcek"),
    });
    let mut evidence = snp(report(&[]));
    let missing = services.missing(&evidence).unwrap();
    services.complete(&mut evidence, &|url| vendors().get(url)).unwrap();
    let Evidence::Snp(snp) = &evidence else { unreachable!() };
    let certificates: Vec<&[u8]> = snp.certificates.iter().map(|der| &**der).collect();
    assert_eq!(certificates, [b"vcek".as_slice(), &[1, 2, 3], &[4, 5, 6]]);
    assert_eq!(&*snp.crls[0], b"crl");
    let expected = [
        format!(
            "/vcek/v1/Milan/{}?blSPL=00&teeSPL=00&snpSPL=00&ucodeSPL=00",
            "ab".repeat(64)
        ),
        "/vcek/v1/Milan/cert_chain".into(),
        "/vcek/v1/Milan/crl".into(),
    ];
    assert_eq!(*asked.lock().unwrap(), expected);
    assert!(
        missing.iter().zip(&expected).all(|(url, path)| url.ends_with(path)),
        "{missing:?}"
    );
    assert!(services.missing(&evidence).unwrap().is_empty());
}

/// Version 2 does not say which CPU it is of.
#[test]
fn a_report_that_names_no_cpu_is_looked_for_under_each() {
    let (services, asked) = kds(|path| match path {
        milan if milan.contains("/Milan/") => absent(),
        _ => ok("x"),
    });
    let mut report = report(&[]);
    report[0] = 2;
    let mut evidence = snp(report);
    services.complete(&mut evidence, &|url| vendors().get(url)).unwrap();
    assert!(asked.lock().unwrap()[1].starts_with("/vcek/v1/Genoa/abab"));
}

#[test]
fn a_service_that_has_nothing_changes_nothing() {
    let (services, _) = kds(|path| if path.ends_with("/crl") { absent() } else { ok("x") });
    let mut evidence = snp(report(&[]));
    let error = services.complete(&mut evidence, &|url| vendors().get(url)).unwrap_err();
    assert!(mend::report(&error).contains("has no VCEK"), "{error:#}");
    assert_eq!(evidence, snp(report(&[])));
}

/// A quote of a real machine, and what Intel said about it then: of dcap-qvl's tests.
#[test]
fn the_collateral_of_a_quote_is_that_of_intel() {
    let folder = Path::new("../../shared/vectors/evidence/tdx/dcap-qvl");
    let (Ok(quote), Ok(collateral)) = (
        fs::read(folder.join("tdx_quote")),
        fs::read(folder.join("tdx_quote_collateral.json")),
    ) else {
        println!("skipped: there is no {}", folder.display());
        return;
    };
    let expected: dcap_qvl::QuoteCollateralV3 = serde_json::from_slice(&collateral).unwrap();
    let pccs = expected.clone();
    let (address, asked) = serve(move |path| match path.split('?').next().unwrap() {
        "/sgx/certification/v4/pckcrl" => Answer {
            headers: vec![("SGX-PCK-CRL-Issuer-Chain", escaped(&pccs.pck_crl_issuer_chain))],
            ..ok(pccs.pck_crl.clone())
        },
        "/sgx/certification/v4/rootcacrl" => ok(HEXLOWER.encode(&pccs.root_ca_crl)),
        "/tdx/certification/v4/tcb" => Answer {
            headers: vec![("TCB-Info-Issuer-Chain", escaped(&pccs.tcb_info_issuer_chain))],
            ..ok(signed("tcbInfo", &pccs.tcb_info, &pccs.tcb_info_signature))
        },
        "/tdx/certification/v4/qe/identity" => Answer {
            headers: vec![(
                "SGX-Enclave-Identity-Issuer-Chain",
                escaped(&pccs.qe_identity_issuer_chain),
            )],
            ..ok(signed(
                "enclaveIdentity",
                &pccs.qe_identity,
                &pccs.qe_identity_signature,
            ))
        },
        _ => absent(),
    });
    let mut services = Services::default();
    services.from_pccs(&format!("http://{address}"));
    let mut evidence = Evidence::Tdx(TdxEvidence {
        quote: quote.into(),
        ..TdxEvidence::default()
    });
    services.complete(&mut evidence, &|url| vendors().get(url)).unwrap();
    let Evidence::Tdx(tdx) = &evidence else { unreachable!() };
    let fetched: dcap_qvl::QuoteCollateralV3 = serde_json::from_slice(tdx.collateral.as_ref().unwrap()).unwrap();
    assert_eq!(
        fetched,
        dcap_qvl::QuoteCollateralV3 {
            pck_certificate_chain: None,
            ..expected
        }
    );
    assert!(asked.lock().unwrap()[2].contains("fmspc=B0C06F000000"), "{asked:?}");
}

fn signed(name: &str, document: &str, signature: &[u8]) -> String {
    format!(
        r#"{{"{name}":{document},"signature":"{}"}}"#,
        HEXLOWER.encode(signature)
    )
}

fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// A chip that says that its guest was launched as the made-up release predicts.
static CHIP: LazyLock<Platform> = LazyLock::new(|| Platform::new(SnpProduct::Milan));

fn genuine_report(data: &[u8]) -> Vec<u8> {
    CHIP.report(&Said {
        measurement: Sha384::of("launch"),
        report_data: Digest::from(<[u8; 64]>::try_from(data).unwrap()),
        ..Said::default()
    })
}

/// Who is to vouch: this kernel, and otherwise nobody.
fn vouched_by(kernel: Kernel, required: bool) -> Attesting {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap(); // and it is closed again
    let places = Places {
        tree: Box::new(kernel),
        ccel: "/nonexistent".into(),
        tpm: "/nonexistent".into(),
        coco: nobody,
        ..Places::default()
    };
    Attesting {
        places,
        source: None,
        required,
    }
}

fn absent_kernel() -> Kernel {
    Kernel {
        provider: None,
        ..Kernel::new("sev_guest", report)
    }
}

fn genuine_kernel() -> Kernel {
    let vcek = CHIP.certify(&CHIP.vek(Said::default().tcbs[0]));
    Kernel {
        aux: table(&vcek),
        ..Kernel::new("sev_guest", genuine_report)
    }
}

fn signing_key() -> SigningKey {
    SigningKey::from_random([1; 32]).unwrap()
}

fn request(terms: &Terms) -> Request {
    Request::new(Uuid::nil(), terms.clone(), &fixture::origin(), &signing_key().public())
}

/// Signs a made-up release as a build does; returns its record.
fn build(release: &Path, terms: &Terms, attesting: &Attesting) -> Record {
    let manifest = fixture::publish(release, Existing::Refuse);
    let witness = attesting.dispatch(&request(terms)).unwrap();
    let machine = witness.as_ref().map(attested::Witness::machine);
    let run = Run {
        id: Uuid::nil(),
        builder: machine.map_or(Builder::Unattested, Builder::Attested),
        version: "0.1.0".into(),
        times: None,
        compiled: Vec::new(),
    };
    let subject = sign::read(&OnDisk::open(release).unwrap(), manifest).unwrap();
    let claims = Claims::new(&subject, &run, terms.clone(), &signing_key().public());
    let mut files = claims.signed_by(&signing_key());
    if let Some(witness) = witness {
        files.extend(witness.complete(&claims.record).unwrap());
    }
    sign::append(release, &files).unwrap();
    claims.record
}

fn generation(release: &Path) -> Generation {
    let demand = Demand {
        key: Some(signing_key().public()),
        at: Timestamp::from_second(NOW).unwrap(),
    };
    let mut generation = Generation::read(release, &demand).unwrap();
    fixture::forgive(&mut generation.findings);
    generation
}

#[test]
fn what_requires_a_tee_fails_where_there_is_none() {
    let terms = Terms::default();
    let error = vouched_by(absent_kernel(), true)
        .dispatch(&request(&terms))
        .unwrap_err();
    assert_eq!(mend::exit_code(&error), Exit::Outside);
    let report = mend::report(&error);
    assert!(report.contains("nothing here gives evidence"), "{report}");
    assert!(report.contains("mend: in a VM with SEV-SNP or TDX"), "{report}");
    let anything = vouched_by(absent_kernel(), false);
    assert!(anything.dispatch(&request(&terms)).unwrap().is_none());
}

/// It might be made to fail, so that the release says that it is unattested.
#[test]
fn a_tee_that_fails_is_no_tee_that_is_absent() {
    let kernel = Kernel {
        fails: true,
        ..genuine_kernel()
    };
    let attesting = vouched_by(kernel, false);
    let error = attesting.dispatch(&request(&Terms::default())).unwrap_err();
    assert!(mend::report(&error).contains("outblob"), "{error:#}");
}

#[test]
fn a_build_is_vouched_for_before_and_after() {
    let parent = tempfile::tempdir().unwrap();
    let [zero, one] = ["zero", "one"].map(|name| parent.path().join(name));
    let first = build(&zero, &Terms::default(), &vouched_by(absent_kernel(), false));
    assert!(!zero.join("evidence").exists());
    let terms = Terms {
        generation: 1,
        previous: Some(first.digest()),
        ..Terms::default()
    };
    let record = build(&one, &terms, &vouched_by(genuine_kernel(), true));
    let bound = |file| {
        let evidence: Evidence = serde_json::from_slice(&fs::read(one.join(file)).unwrap()).unwrap();
        assert_eq!(Machine::of(&evidence), Machine::Snp);
        evidence.report_data().unwrap()
    };
    let asked = terms.binding.report_data(&Request::of(&record).text());
    assert_eq!(bound(DISPATCH), asked);
    assert_eq!(bound(COMPLETION), record.report_data());

    let roots = Roots {
        amd: CHIP.roots(),
        intel: TdxRoot::INTEL,
    };
    let minimum = "[snp]\nminimum-tcb.milan = { bootloader = 4, tee = 0, snp = 24, microcode = 219 }\n";
    let trust = Trust::parse("trust.toml", minimum).unwrap();
    let mut one = generation(&one);
    let judge = Judge {
        roots: &roots,
        trust: &trust,
        quorum: None,
        at: Timestamp::from_second(NOW).unwrap(),
    };
    one.judge(Some(&generation(&zero)), &judge);
    assert_eq!(one.findings, []);
    assert!(one.claims.contains_key(DISPATCH) && one.claims.contains_key(COMPLETION));
}

/// Every file of a release, and what is in it.
fn contents(release: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = builder::world::files::list(release).unwrap().into_iter();
    let files = entries.filter(|entry| entry.kind == builder::world::files::Kind::File);
    files
        .map(|entry| (entry.path.clone(), fs::read(release.join(entry.path)).unwrap()))
        .collect()
}

/// Has another machine vouch for the release, which it must not, and returns why.
fn split_refused(release: &Path, ordered: &Ordered) -> anyhow::Error {
    let before = contents(release);
    let attesting = vouched_by(genuine_kernel(), true);
    let empty = tempfile::tempdir().unwrap();
    let store = Store::open(empty.path()).unwrap();
    let error = attested::split(release, &store, Existing::Refuse, ordered, &attesting).unwrap_err();
    assert_eq!(contents(release), before, "something was written");
    error
}

#[test]
fn a_changed_file_is_not_vouched_for() {
    let parent = tempfile::tempdir().unwrap();
    let release = parent.path().join("release");
    fixture::publish(&release, Existing::Refuse);
    fs::write(release.join("vmlinuz"), "kermit".repeat(300)).unwrap();
    let error = split_refused(&release, &Ordered::default());
    assert_eq!(mend::exit_code(&error), Exit::No);
    assert!(mend::report(&error).contains("is not what it says"), "{error:#}");
}

/// Its manifest is right, its firmware is none, and its measurements are made up.
#[test]
fn measurements_that_are_made_up_are_not_vouched_for() {
    let parent = tempfile::tempdir().unwrap();
    let release = parent.path().join("release");
    fixture::publish(&release, Existing::Refuse);
    let error = split_refused(&release, &Ordered::default());
    assert_ne!(mend::exit_code(&error), Exit::Outside, "{error:#}");
}

/// Everything that the release alone leads to is right; its bills say what they like.
#[test]
fn attack_bills_of_materials_that_no_package_is_compared_with() {
    let parent = tempfile::tempdir().unwrap();
    let release = parent.path().join("release");
    whole::publish(&release);
    let error = split_refused(&release, &Ordered::default());
    assert_eq!(mend::exit_code(&error), Exit::Outside, "{error:#}");
    let report = mend::report(&error);
    assert!(
        report.contains("nothing is signed that was not compared: where each file"),
        "{report}"
    );
}

#[test]
fn another_release_than_was_ordered_is_not_vouched_for() {
    let parent = tempfile::tempdir().unwrap();
    let release = parent.path().join("release");
    fixture::publish(&release, Existing::Refuse);
    let ordered = Ordered {
        lock: Some(Sha256::of("another")),
        ..Ordered::default()
    };
    let error = split_refused(&release, &ordered);
    assert_eq!(mend::exit_code(&error), Exit::LockMismatch);
}

/// A guest of SEV-SNP, of whoever's, that vouches for the key of a TPM in software.
struct Vtpm {
    guest: Said,
    pcrs: [(u8, Sha256); 2],
    resets: u8,
}

/// The registers that the launch on a TPM predicts.
fn pcrs() -> [(u8, Sha256); 2] {
    [(0, Sha256::of("firmware")), (4, Sha256::of("kernel"))]
}

/// One key, since it takes long to make.
static AK: LazyLock<Ak> = LazyLock::new(|| Ak::rsa(2048, false));

impl Vtpm {
    fn of(guest: Said) -> Self {
        let pcrs = pcrs();
        Self { guest, pcrs, resets: 7 }
    }

    fn evidence(&self) -> Evidence {
        let vcek = CHIP.certify(&CHIP.vek(Said::default().tcbs[0]));
        let mut hardware = None;
        let report = tpm::hcl_of_guest(&AK, |report_data| {
            let report_data = Digest::from(report_data);
            let said = Said {
                report_data,
                ..self.guest.clone()
            };
            let evidence = CHIP.evidence_with(&said, vec![vcek]);
            let report = evidence.report.to_vec();
            hardware = Some(evidence);
            report
        });
        let mut tpm = Simulated::new(AK.clone(), b"nonce", self.pcrs);
        tpm.resets = self.resets;
        let hardware = Box::new(Evidence::Snp(hardware.unwrap()));
        let report = report.into();
        Evidence::Tpm(TpmEvidence {
            hcl: Some(HclEvidence { report, hardware }),
            ..tpm.evidence()
        })
    }
}

/// The launches of a release: on a TPM, and on what else.
fn predicted(others: &[measurements::Platform]) -> Vec<Measurement> {
    let launch = |platform: &measurements::Platform| {
        let registers = pcrs().map(|(pcr, _)| measurements::Quantity::Register(Register::Pcr(pcr)));
        let values = registers.map(|quantity| measurements::Value {
            quantity,
            case: None,
            digests: Digests {
                sha256: pcrs().into_iter().find_map(|(pcr, value)| {
                    (measurements::Quantity::Register(Register::Pcr(pcr)) == quantity).then_some(value)
                }),
                sha384: None,
            },
            covers: measurements::EXECUTABLES.into(),
            varies_with: [].into(),
            pre_vmsa: None,
            log: EventLog::default(),
        });
        Measurement {
            launch: measurements::Launch {
                platform: platform.clone(),
                boot: measurements::Boot::Disk,
                firmware: measurements::FirmwareFile {
                    name: "OVMF.fd".to_owned().try_into().unwrap(),
                    sha256: Sha256::of("firmware"),
                },
            },
            values: values.into(),
        }
    };
    [measurements::Platform::Tpm].iter().chain(others).map(launch).collect()
}

/// A paravisor, its launch, and a policy that pins it.
fn paravisor() -> (Said, String) {
    let measurement = Sha384::of("a paravisor");
    let policy = format!(
        "[snp]\nminimum-tcb.milan = {{ bootloader = 4, tee = 0, snp = 24, microcode = 219 }}\n[tpm]\npcrs = [0, 4]\n\
         [[tpm.paravisor]]\nplatform = \"snp\"\nmeasurement = \"{measurement}\"\n"
    );
    let said = Said {
        measurement,
        ..Said::default()
    };
    (said, policy)
}

fn appraised(evidence: &Evidence, policy: &str, launches: &[Measurement]) -> Appraisal {
    let roots = Roots {
        amd: CHIP.roots(),
        intel: TdxRoot::INTEL,
    };
    let trust = Trust::parse("trust.toml", policy).unwrap();
    let judge = Judge {
        roots: &roots,
        trust: &trust,
        quorum: None,
        at: Timestamp::from_second(NOW).unwrap(),
    };
    let launches = Some(launches);
    judge.appraise(evidence, &Wanted { launches, bound: None })
}

fn codes(appraisal: &Appraisal) -> Vec<String> {
    let code = |finding| json!(finding)["code"].as_str().unwrap().to_owned();
    appraisal.findings.iter().map(code).collect()
}

#[test]
fn a_vtpm_of_a_pinned_paravisor_is_confidential() {
    let (guest, policy) = paravisor();
    let launches = predicted(&[measurements::Platform::Tdx]);
    let appraisal = appraised(&Vtpm::of(guest).evidence(), &policy, &launches);
    assert_eq!(codes(&appraisal), [""; 0]);
    assert_eq!(appraisal.claims.unwrap()["tpm"]["vouched-by"], "paravisor");
    assert!(!appraisal.unchecked.iter().any(|what| what.contains("paravisor")));
}

/// It is genuine, binds the key, and the TPM in it has the registers that it was told to have.
#[test]
fn attack_a_vtpm_of_a_guest_of_ones_own() {
    let (_, pinned) = paravisor();
    let own = Said {
        measurement: Sha384::of("my own Linux"),
        ..Said::default()
    };
    let evidence = Vtpm::of(own).evidence();
    let unpinned = pinned.split("[[tpm.paravisor]]").next().unwrap().to_owned();
    let measured = unpinned.clone() + "allow-measured-boot = true\nallow-weaker-than-predicted = true\n";
    let not_pinned = "tpm-paravisor-not-pinned";
    let launches = predicted(&[]);
    for policy in [&pinned, &unpinned, &measured] {
        let appraisal = appraised(&evidence, policy, &launches);
        assert_eq!(codes(&appraisal), [not_pinned], "{policy}");
        assert_eq!(appraisal.claims.unwrap()["tpm"]["vouched-by"], "hardware");
        assert!(appraisal.unchecked.iter().any(|what| what.contains("which paravisor")));
    }
    // as a measured boot it is worth what the policy says of its key
    let named = |rest: &str| format!("{unpinned}keys = [\"{}\"]\n{rest}", AK.digest());
    assert_eq!(
        codes(&appraised(&evidence, &named(""), &launches)),
        ["tpm-not-confidential"]
    );
    let accepted = appraised(&evidence, &named("allow-measured-boot = true\n"), &launches);
    assert_eq!(codes(&accepted), [""; 0]);
    assert!(
        accepted
            .unchecked
            .iter()
            .any(|what| what.contains("allow-measured-boot"))
    );
}

/// The guest of a paravisor can ask for a report, too, over whatever it likes; but not as VMPL 0.
#[test]
fn attack_a_report_that_the_guest_of_a_paravisor_asked_for() {
    let (guest, policy) = paravisor();
    let evidence = Vtpm::of(Said { vmpl: 2, ..guest }).evidence();
    for policy in [policy.clone(), policy.replace("[snp]\n", "[snp]\nvmpl = 2\n")] {
        let appraisal = appraised(&evidence, &policy, &predicted(&[]));
        assert_eq!(codes(&appraisal), ["snp-vmpl", "tpm-paravisor-not-pinned"]);
    }
}

#[test]
fn attack_a_measured_boot_where_a_confidential_vm_was_predicted() {
    let evidence = Evidence::Tpm(Simulated::new(Ak::p256(1), b"nonce", pcrs()).evidence());
    let key = Ak::p256(1).digest();
    let policy = format!("[tpm]\npcrs = [0, 4]\nkeys = [\"{key}\"]\nallow-measured-boot = true\n");
    assert_eq!(codes(&appraised(&evidence, &policy, &predicted(&[]))), [""; 0]);
    let launches = predicted(&[measurements::Platform::Tdx]);
    let weaker = appraised(&evidence, &policy, &launches);
    assert_eq!(codes(&weaker), ["weaker-than-predicted"]);
    assert!(
        weaker.findings[0].to_string().contains("launches on TDX"),
        "{}",
        weaker.findings[0]
    );
    let accepted = appraised(&evidence, &(policy + "allow-weaker-than-predicted = true\n"), &launches);
    assert_eq!(codes(&accepted), [""; 0]);
    assert!(
        accepted
            .unchecked
            .iter()
            .any(|what| what.contains("allow-weaker-than-predicted"))
    );
}

/// Of firmware alone, say: it starts whatever lies on the disk.
#[test]
fn attack_a_launch_that_leaves_code_open() {
    let (guest, policy) = paravisor();
    let evidence = Vtpm::of(guest).evidence();
    let mut launches = predicted(&[]);
    assert_eq!(codes(&appraised(&evidence, &policy, &launches)), [""; 0]);
    for value in &mut launches[0].values {
        value.covers.remove(&measure::event_log::Part::Initrd);
    }
    assert_eq!(codes(&appraised(&evidence, &policy, &launches)), ["launch-missing"]);
}

/// Dispatch and completion of the same counters: another key, another guest, another chip.
#[test]
fn attack_two_machines_with_equal_counters() {
    let (guest, policy) = paravisor();
    let instance = |evidence: &Evidence, policy: &str| appraised(evidence, policy, &predicted(&[])).instance.unwrap();
    let vtpm = |report_id: u8, resets| {
        let report_id = Digest::from([report_id; 32]);
        let vtpm = Vtpm {
            resets,
            ..Vtpm::of(Said {
                report_id,
                ..guest.clone()
            })
        };
        instance(&vtpm.evidence(), &policy)
    };
    let first = vtpm(1, 7);
    assert!(vtpm(1, 7).follows(&first));
    assert!(!vtpm(2, 7).follows(&first) && !vtpm(1, 8).follows(&first));

    let bare = |ak: u8| {
        let evidence = Evidence::Tpm(Simulated::new(Ak::p256(ak), b"nonce", pcrs()).evidence());
        let keys = [1, 2].map(|ak| format!("\"{}\"", Ak::p256(ak).digest())).join(", ");
        let policy = format!("[tpm]\npcrs = [0, 4]\nkeys = [{keys}]\nallow-measured-boot = true\n");
        instance(&evidence, &policy)
    };
    assert!(bare(1).follows(&bare(1)));
    assert!(!bare(2).follows(&bare(1)) && !bare(1).follows(&first));

    let guest = |chip: u8, report: u8| Instance::Guest {
        chip: Digest::from([chip; 64]),
        report: Digest::from([report; 32]),
    };
    assert!(guest(1, 1).follows(&guest(1, 1)));
    assert!(!guest(2, 1).follows(&guest(1, 1)) && !guest(1, 2).follows(&guest(1, 1)));
}

/// TDX names no TD; but what a TD was started with, and where, stays.
#[test]
fn attack_two_tds_that_were_started_differently() {
    let root = tdx::root();
    let (roots, trust) = (
        Roots {
            amd: CHIP.roots(),
            intel: TdxRoot::simulated(&root),
        },
        Trust::default(),
    );
    let judge = Judge {
        roots: &roots,
        trust: &trust,
        quorum: None,
        at: tdx::now(),
    };
    let instance = |change: &dyn Fn(&mut Td)| {
        let mut td = Td::default();
        change(&mut td);
        let evidence = Evidence::Tdx(td.evidence(&tdx::Platform::default()));
        judge.appraise(&evidence, &Wanted::default()).instance.unwrap()
    };
    let first = instance(&|_| {});
    assert!(instance(&|td| td.report_data = [1; 64]).follows(&first));
    assert!(instance(&|td| td.rtmrs[3] = [1; 48]).follows(&first));
    let changes: [&dyn Fn(&mut Td); 4] = [
        &|td| td.mrtd = [1; 48],
        &|td| td.rtmrs[0] = [1; 48],
        &|td| td.mr_config_id = [1; 48],
        &|td| td.xfam = 0x6_42e7,
    ];
    for change in changes {
        assert!(!instance(change).follows(&first));
    }
    let other = tdx::Platform {
        ppid: [0x67; 16],
        ..tdx::Platform::default()
    };
    let evidence = Evidence::Tdx(Td::default().evidence(&other));
    let other = judge.appraise(&evidence, &Wanted::default()).instance.unwrap();
    assert!(!other.follows(&first));
}
