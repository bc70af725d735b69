//! One request to one mirror: the rest of a file, from a given byte on.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek as _, SeekFrom};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ureq::http::{Response, Uri};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, Proxy};

use super::environment::Proxies;

/// Below this rate, in bytes per second, a download is given up even though bytes still trickle in.
const SLOWEST: u64 = 4096;

/// Where distributions keep their certificate authorities: Debian, Fedora, openSUSE, Alpine.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Asks mirrors, through the host's proxies where it has some.
#[derive(Debug)]
pub(super) struct Client {
    proxies: Proxies,
    stall: Duration,
    /// One for each proxy that was needed, and one for none. They keep connections.
    agents: Mutex<BTreeMap<Option<String>, Agent>>,
}

/// What a mirror sends.
pub(super) struct Answer {
    /// The first byte it sends; before it there was nothing new.
    pub(super) from: u64,
    /// Size in bytes of the whole file, where the mirror says it.
    pub(super) size: Option<u64>,
    pub(super) body: Box<dyn Read>,
}

/// Why a mirror sends nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("it is not there ({0})")]
    Absent(String),
    #[error("it is refused with status {0}")]
    Status(u16),
    /// Worth another try.
    #[error("{0}")]
    Broken(String),
}

impl Client {
    /// Returns a client that gives up after `stall` without a byte.
    pub(super) fn new(proxies: Proxies, stall: Duration) -> Self {
        let agents = Mutex::default();
        Self { proxies, stall, agents }
    }

    /// Asks for the bytes of `url` from `from` on, when at most `most` are wanted.
    pub(super) fn get(&self, url: &str, from: u64, most: u64) -> Result<Answer, Refusal> {
        match url.strip_prefix("file://") {
            Some(path) => open(path, from).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => Refusal::Absent(error.to_string()),
                _ => Refusal::Broken(error.to_string()),
            }),
            None => self.request(url, from, most),
        }
    }

    fn request(&self, url: &str, from: u64, most: u64) -> Result<Answer, Refusal> {
        let broken = |error: &dyn std::fmt::Display| Refusal::Broken(error.to_string());
        let agent = self.agent(url).map_err(|error| broken(&format!("{error:#}")))?;
        let longest = self.longest(most);
        let mut request = agent.get(url);
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
        }
        let request = request.config().timeout_recv_body(Some(longest)).build();
        answer(request.call().map_err(|error| broken(&error))?, from)
    }

    /// How long a body of at most `most` bytes may take.
    pub(super) fn longest(&self, most: u64) -> Duration {
        self.stall * 2 + Duration::from_secs(most / SLOWEST)
    }

    /// The agent for this address: through the proxy that it needs, or through none.
    pub(super) fn agent(&self, url: &str) -> Result<Agent> {
        let uri: Uri = url.parse()?;
        let (scheme, host) = (uri.scheme_str().unwrap_or_default(), uri.host().unwrap_or_default());
        let proxy = self.proxies.to(scheme, host).map(str::to_owned);
        let mut agents = self.agents.lock().expect("no holder of the lock panics");
        if let Some(agent) = agents.get(&proxy) {
            return Ok(agent.clone());
        }
        let unusable = || format!("the proxy {proxy:?} is not usable");
        let through = proxy.as_deref().map(Proxy::new).transpose().with_context(unusable)?;
        let agent = agent(self.stall, through);
        agents.insert(proxy, agent.clone());
        Ok(agent)
    }
}

fn agent(stall: Duration, proxy: Option<Proxy>) -> Agent {
    let config = Agent::config_builder()
        .proxy(proxy)
        .tls_config(TlsConfig::builder().root_certs(roots()).build())
        .http_status_as_error(false)
        .user_agent(concat!("begat/", env!("CARGO_PKG_VERSION")))
        .timeout_resolve(Some(stall))
        .timeout_connect(Some(stall))
        .timeout_recv_response(Some(stall * 2))
        .timeout_per_read(Some(stall))
        .timeout_per_write(Some(stall));
    config.build().new_agent()
}

/// The authorities that this host trusts, so that those of its owner count, or Mozilla's where it names none.
fn roots() -> RootCerts {
    let bundle = BUNDLES.iter().find_map(|path| fs::read(path).ok()).unwrap_or_default();
    let certificates = parse_pem(&bundle).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    let certificates: Vec<_> = certificates.collect();
    if certificates.is_empty() {
        RootCerts::WebPki
    } else {
        certificates.into()
    }
}

/// What a mirror answers to a request for the bytes from `from` on.
pub(super) fn answer(response: Response<Body>, from: u64) -> Result<Answer, Refusal> {
    let status = response.status().as_u16();
    let (start, size) = match status {
        200 => (0, response.body().content_length()),
        206 => content_range(&response).ok_or_else(|| Refusal::Broken("its Content-Range makes no sense".into()))?,
        404 | 410 => return Err(Refusal::Absent(format!("status {status}"))),
        408 | 416 | 425 | 429 | 500..=599 => return Err(Refusal::Broken(format!("status {status}"))),
        _ => return Err(Refusal::Status(status)),
    };
    if start != 0 && start != from {
        return Err(Refusal::Broken(format!(
            "asked from byte {from}, it answers from byte {start}"
        )));
    }
    // ureq's own limit is 10 MB; ours is the size that the lock names, and whoever reads the body keeps to it.
    let body = response.into_body().into_with_config().limit(u64::MAX).reader();
    Ok(Answer {
        from: start,
        size,
        body: Box::new(body),
    })
}

/// The first byte and the size of `bytes 10-19/20` (RFC 9110, 14.4).
fn content_range(response: &Response<Body>) -> Option<(u64, Option<u64>)> {
    let value = response.headers().get("Content-Range")?.to_str().ok()?;
    let (range, size) = value.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, size.parse().ok()))
}

fn open(path: &str, from: u64) -> io::Result<Answer> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let from = file.seek(SeekFrom::Start(from.min(size)))?;
    Ok(Answer {
        from,
        size: Some(size),
        body: Box::new(file),
    })
}
