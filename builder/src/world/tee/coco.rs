//! The guest components of a CoCo pod: their REST API on the loopback interface (`api-server-rest`).

use std::io::{ErrorKind, Read as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use data_encoding::BASE64URL_NOPAD;
use ureq::Agent;

use super::Silence;
use crate::mend::{Exit, OrMend as _};

/// Where the guest components listen, for the pod alone.
pub const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8006);

/// Largest answer that is taken, in bytes: a quote and an event log, as text.
const LARGEST: u64 = 16 << 20;

/// How the report data travels in the request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Encoding {
    /// As text, which every version binds as it is.
    Text,
    /// As base64, which versions before 0.21 bind as text, without a word.
    Base64,
}

impl Encoding {
    /// Returns the encoding that most versions understand for `data`.
    pub fn of(data: &[u8]) -> Self {
        match data.iter().all(u8::is_ascii_alphanumeric) {
            true => Self::Text,
            false => Self::Base64,
        }
    }

    /// Returns what is sent as `runtime_data`; versions that know no encoding bind these bytes.
    pub fn text(self, data: &[u8]) -> String {
        match self {
            Self::Text => String::from_utf8_lossy(data).into_owned(),
            Self::Base64 => BASE64URL_NOPAD.encode(data),
        }
    }
}

/// Returns the evidence over this report data, as JSON; whether it binds that is for the caller to see.
///
/// # Errors
/// Nobody listens; the answer is an error, larger than 16 MiB, or takes longer than `patience`.
///
/// # Panics
/// An address that is not of the loopback interface: evidence is of this VM or of none.
pub fn ask(address: SocketAddr, data: &[u8], patience: Duration) -> Result<Vec<u8>, Silence> {
    assert!(address.ip().is_loopback(), "{address} is not of the loopback interface");
    if let Err(error) = TcpStream::connect_timeout(&address, patience) {
        return Err(match error.kind() {
            ErrorKind::ConnectionRefused => Silence::Absent(format!("nobody listens at {address}")),
            _ => anyhow::Error::new(error)
                .context(format!("cannot connect to {address}"))
                .into(),
        });
    }
    let encoding = Encoding::of(data);
    let mut url = format!("http://{address}/aa/evidence?runtime_data={}", encoding.text(data));
    if encoding == Encoding::Base64 {
        url.push_str("&encoding=base64");
    }
    let config = Agent::config_builder()
        .proxy(None)
        .max_redirects(0)
        .http_status_as_error(false)
        .timeout_global(Some(patience))
        .build();
    let answer = config.new_agent().get(&url).call();
    let mut answer = answer.or_mend(Exit::Outside, "the guest components do not answer", MEND)?;
    let mut bytes = Vec::new();
    let body = answer.body_mut().with_config().limit(LARGEST + 1).reader();
    let read = body.take(LARGEST + 1).read_to_end(&mut bytes);
    read.or_mend(
        Exit::Outside,
        "the guest components stop in the middle of an answer",
        MEND,
    )?;
    match answer.status().as_u16() {
        200 if bytes.len() as u64 <= LARGEST => Ok(bytes),
        200 => {
            let problem = format!("the guest components answer with more than {LARGEST} bytes");
            Err(Exit::Outside.because(problem, MEND).into())
        }
        404 => Err(Exit::Outside
            .because("the guest components give no evidence (status 404)", ENABLE)
            .into()),
        status => {
            let text = String::from_utf8_lossy(&bytes[..bytes.len().min(200)])
                .trim()
                .to_owned();
            let problem = format!("the guest components answer with status {status}: {text:?}");
            Err(Exit::Outside.because(problem, MEND).into())
        }
    }
}

const MEND: &str = "see the logs of attestation-agent and api-server-rest in the guest";

const ENABLE: &str = "let them: kernel parameter agent.guest_components_rest_api=all";
