//! One request to a registry: redirects followed as far as they may be, challenges answered once.

use std::io::Read;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use ureq::http::{self, Response, Uri};
use ureq::{AsSendBody, Body};

use super::super::download::Trouble;
use super::super::environment::is_loopback;
use super::challenge::Challenge;
use super::{Registry, bounded};

/// As many redirects as a storage behind a registry may need.
const REDIRECTS: usize = 5;

/// What of a registry's message is shown, in characters.
const MESSAGE: usize = 300;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Method {
    Get,
    Head,
    Patch,
    Post,
    Put,
}

/// A request, which can be made again.
#[derive(Debug)]
pub(super) struct Request<'a> {
    method: Method,
    url: String,
    headers: Vec<(&'static str, String)>,
    body: &'a [u8],
    /// How many bytes the answer may have, for its time limit.
    most: u64,
}

impl<'a> Request<'a> {
    pub(super) fn new(method: Method, url: String) -> Self {
        let (headers, body, most) = (Vec::new(), &[][..], 0);
        Self {
            method,
            url,
            headers,
            body,
            most,
        }
    }

    pub(super) fn header(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(super) fn body(self, body: &'a [u8]) -> Self {
        Self { body, ..self }
    }

    /// Expects up to `most` bytes.
    pub(super) fn of(self, most: u64) -> Self {
        Self { most, ..self }
    }

    fn is_repeatable(&self) -> bool {
        matches!(self.method, Method::Get | Method::Head)
    }
}

impl Registry {
    /// The URL of something in the repository.
    pub(super) fn url(&self, what: &str) -> String {
        format!("{}/v2/{}/{what}", self.origin(), self.repository)
    }

    fn origin(&self) -> String {
        let scheme = if self.plain || is_loopback(&self.host) {
            "http"
        } else {
            "https"
        };
        format!("{scheme}://{}", self.host)
    }

    /// The URL that a `Location` names.
    pub(super) fn resolve(&self, location: &str) -> Result<String, Trouble> {
        if location.starts_with('/') && !location.starts_with("//") {
            return Ok(format!("{}{location}", self.origin()));
        }
        if location.starts_with("https://") || location.starts_with("http://") {
            return Ok(location.to_owned());
        }
        Err(Trouble::Refused("it names a location that is no URL".into()))
    }

    /// Sends a request and answers a challenge of the registry, once; any answer but success is a trouble.
    pub(super) fn send(&self, request: &Request<'_>) -> Result<Response<Body>, Trouble> {
        let home = self.origin();
        let authorization = self.authorization.lock().expect("no holder of the lock panics").clone();
        let (response, at_home) = self.ask(request, &home, authorization.as_deref())?;
        if response.status() != 401 {
            return expect(response);
        }
        if !at_home {
            let problem = "it leads to another host, which wants credentials: the registry's are not for it";
            return Err(Trouble::Refused(problem.into()));
        }
        let values = response.headers().get_all("WWW-Authenticate").iter();
        let challenges: Vec<Challenge> = values
            .filter_map(|value| Challenge::parse(value.to_str().ok()?))
            .collect();
        let authorization = self.answer(&challenges)?;
        let (response, _) = self.ask(request, &home, Some(&authorization))?;
        if response.status() != 401 {
            *self.authorization.lock().expect("no holder of the lock panics") = Some(authorization);
        }
        expect(response)
    }

    /// Sends a request and follows redirects; returns the answer, and whether it is that of the host of the URL `home`,
    /// which alone sees the `authorization`.
    pub(super) fn ask(
        &self,
        request: &Request<'_>,
        home: &str,
        authorization: Option<&str>,
    ) -> Result<(Response<Body>, bool), Trouble> {
        let (mut url, home) = (request.url.clone(), authority(home));
        for _ in 0..=REDIRECTS {
            let at_home = home.is_some() && authority(&url) == home;
            let response = self.once(request, &url, authorization.filter(|_| at_home))?;
            let location = response.headers().get("Location").and_then(|value| value.to_str().ok());
            match location.filter(|_| request.is_repeatable() && response.status().is_redirection()) {
                Some(location) => url = self.resolve(location)?,
                None => return Ok((response, at_home)),
            }
        }
        Err(Trouble::Refused(format!("it redirects more than {REDIRECTS} times")))
    }

    fn once(&self, request: &Request<'_>, url: &str, authorization: Option<&str>) -> Result<Response<Body>, Trouble> {
        self.check(url)?;
        match request.method {
            Method::Get => self.run(request, http::Request::get(url), authorization, ()),
            Method::Head => self.run(request, http::Request::head(url), authorization, ()),
            Method::Patch => self.run(request, http::Request::patch(url), authorization, request.body),
            Method::Post => self.run(request, http::Request::post(url), authorization, request.body),
            Method::Put => self.run(request, http::Request::put(url), authorization, request.body),
        }
    }

    fn run(
        &self,
        request: &Request<'_>,
        mut made: http::request::Builder,
        authorization: Option<&str>,
        body: impl AsSendBody,
    ) -> Result<Response<Body>, Trouble> {
        for (name, value) in &request.headers {
            made = made.header(*name, value);
        }
        if let Some(authorization) = authorization {
            made = made.header("Authorization", authorization);
        }
        let made = made
            .body(body)
            .map_err(|_| Trouble::Refused("it names an address that is no URL".into()))?;
        let agent = self.client.agent(&made.uri().to_string());
        let agent = agent.map_err(|error| Trouble::Broken(format!("{error:#}")))?;
        let configured = agent
            .configure_request(made)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_recv_response(Some(self.limits.stall * PATIENCE))
            .timeout_recv_body(Some(self.client.longest(request.most)))
            .build();
        agent
            .run(configured)
            .map_err(|error| Trouble::Broken(error.to_string()))
    }

    /// Plain HTTP goes to this machine, or to the registry where that was asked for.
    fn check(&self, url: &str) -> Result<(), Trouble> {
        let (scheme, host) =
            authority(url).ok_or_else(|| Trouble::Refused("it names an address that is no URL".into()))?;
        let asked_for = self.plain && Some((scheme.clone(), host.clone())) == authority(&self.origin());
        if scheme == "https" || (scheme == "http" && (asked_for || is_loopback(&host))) {
            return Ok(());
        }
        Err(Trouble::Refused(format!(
            "it leads to {scheme}://{host}, and only https may be followed"
        )))
    }
}

/// A registry may hash a large blob before it answers: so many times a stall.
const PATIENCE: u32 = 20;

/// Scheme and host with its port, where that is not the usual one: of one host, they are one text.
fn authority(url: &str) -> Option<(String, String)> {
    let uri: Uri = url.parse().ok()?;
    let (scheme, host) = (uri.scheme_str()?.to_ascii_lowercase(), uri.authority()?.as_str());
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let usual = if scheme == "https" { ":443" } else { ":80" };
    let host = host.strip_suffix(usual).unwrap_or(host).to_ascii_lowercase();
    Some((scheme, host))
}

/// Success, or which trouble it is.
pub(super) fn expect(response: Response<Body>) -> Result<Response<Body>, Trouble> {
    let status = response.status().as_u16();
    if (200..300).contains(&status) {
        return Ok(response);
    }
    let pause = response
        .headers()
        .get("Retry-After")
        .and_then(|value| value.to_str().ok()?.parse().ok());
    let text = format!("status {status}{}", message(response));
    Err(match status {
        404 | 410 => Trouble::Absent(format!("it is not there ({text})")),
        401 | 403 => Trouble::Denied(format!("it is denied ({text})")),
        408 | 425 | 429 | 500..=599 => {
            thread::sleep(Duration::from_secs(pause.unwrap_or(0).min(LONGEST_PAUSE)));
            Trouble::Broken(text)
        }
        _ => Trouble::Refused(format!("it is refused ({text})")),
    })
}

/// What a registry may ask us to wait, in seconds.
const LONGEST_PAUSE: u64 = 30;

/// What a registry says about it (distribution specification, "Error Codes"), made fit to be printed.
fn message(response: Response<Body>) -> String {
    let bytes = bounded(response.into_body().into_reader(), 1 << 16).unwrap_or_default();
    let said: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let error = &said["errors"][0];
    let words = ["code", "message"].iter().filter_map(|name| error[name].as_str());
    let text: String = words.collect::<Vec<_>>().join(" ");
    let text: String = text.chars().filter(|c| !c.is_control()).take(MESSAGE).collect();
    if text.is_empty() { text } else { format!(": {text}") }
}

/// The bytes of an answer, of at most `limit`.
pub(super) fn bytes(response: Response<Body>, limit: u64) -> Result<Vec<u8>, Trouble> {
    let body = response.into_body().into_with_config().limit(u64::MAX).reader();
    bounded(body.take(limit + 1), limit)
}

/// The next page of a list: `Link: </v2/…>; rel="next"` (RFC 8288).
pub(super) fn next_page(response: &Response<Body>) -> Option<String> {
    let link = response.headers().get("Link")?.to_str().ok()?;
    let (url, rest) = link.strip_prefix('<')?.split_once('>')?;
    rest.contains("rel=\"next\"").then(|| url.to_owned())
}

/// A value in a query.
pub(super) fn escape(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let escaped = value.bytes().map(|byte| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    });
    escaped.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_before_the_host_is_no_host() {
        let found = authority("https://127.0.0.1@evil.example/x");
        assert_eq!(found, Some(("https".into(), "evil.example".into())));
    }

    #[test]
    fn a_host_is_the_same_with_its_usual_port_and_in_any_case() {
        for (one, other) in [
            ("https://a.example/x", "https://A.example:443/y"),
            ("http://a.example", "http://a.example:80"),
            ("https://[::1]:443/", "https://[::1]/"),
        ] {
            assert_eq!(authority(one), authority(other));
            assert!(authority(one).is_some());
        }
        for (one, other) in [
            ("https://a.example", "http://a.example"),
            ("https://a.example", "https://a.example:80"),
            ("https://a.example", "https://a.example:8443"),
            ("https://a.example", "https://b.a.example"),
        ] {
            assert_ne!(authority(one), authority(other));
        }
    }
}
