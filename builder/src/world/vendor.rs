//! Services of CPU vendors, and caches of them, which give endorsements to anybody who asks.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::thread;
use std::time::Duration;

use anyhow::Result;

use super::environment::Proxies;
use super::http::Client;
use crate::mend::{Exit, OrMend as _};

/// Largest answer that is taken, in bytes; lists of revoked certificates have some hundred KiB at most.
const LARGEST: u64 = 8 << 20;

/// AMD's service answers one request in ten seconds or so from one address, and others with status 429.
const ATTEMPTS: u32 = 4;

/// A way to these services.
#[derive(Debug)]
pub struct Vendors {
    client: Client,
    /// Before a request is made again; twice as long each time.
    pause: Duration,
}

/// What a service says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Said {
    pub bytes: Vec<u8>,
    /// By lower-case name.
    pub headers: BTreeMap<String, String>,
}

impl Vendors {
    /// Returns the way through this host's proxies. `stall` is for how long nothing may come.
    pub fn new(proxies: Proxies, stall: Duration, pause: Duration) -> Self {
        let client = Client::new(proxies, stall);
        Self { client, pause }
    }

    /// Returns what is at `url`; nothing where there is nothing. The bytes are as hostile as any.
    ///
    /// # Errors
    /// The service cannot be reached, refuses, or sends more than 8 MiB.
    pub fn get(&self, url: &str) -> Result<Option<Said>> {
        for attempt in 1..ATTEMPTS {
            match self.once(url) {
                Ok((429 | 500..=599, _)) | Err(_) => thread::sleep(self.pause * (1 << (attempt - 1))),
                outcome => return judged(url, outcome?),
            }
        }
        judged(url, self.once(url)?)
    }

    fn once(&self, url: &str) -> Result<(u16, Said)> {
        const MEND: &str = "try again where there is a network, or name a cache: --kds URL, --pccs URL";
        let problem = || format!("cannot fetch {url}");
        let agent = self.client.agent(url).or_mend(Exit::Outside, problem(), MEND)?;
        let request = agent
            .get(url)
            .config()
            .timeout_recv_body(Some(self.client.longest(LARGEST)));
        let answer = request.build().call();
        let mut answer = answer.or_mend(Exit::Outside, problem(), MEND)?;
        let text = |value: &ureq::http::HeaderValue| Some(value.to_str().ok()?.to_owned());
        let headers = answer.headers().iter();
        let headers = headers.filter_map(|(name, value)| Some((name.as_str().to_owned(), text(value)?)));
        let (status, headers, mut bytes) = (answer.status().as_u16(), headers.collect(), Vec::new());
        let body = answer.body_mut().with_config().limit(LARGEST + 1).reader();
        body.take(LARGEST + 1)
            .read_to_end(&mut bytes)
            .or_mend(Exit::Outside, problem(), MEND)?;
        if bytes.len() as u64 > LARGEST {
            let problem = format!("{url} has more than {LARGEST} bytes");
            return Err(Exit::Outside.because(problem, "name another service"));
        }
        Ok((status, Said { bytes, headers }))
    }
}

fn judged(url: &str, (status, said): (u16, Said)) -> Result<Option<Said>> {
    match status {
        200 => Ok(Some(said)),
        404 | 410 => Ok(None),
        _ => Err(Exit::Outside.because(format!("{url} is refused with status {status}"), "try again later")),
    }
}
