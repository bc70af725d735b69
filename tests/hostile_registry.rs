//! An OCI registry on the loopback interface that, when told to, does what registries should not.

#![allow(dead_code, reason = "each test that includes this uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a server that breaks is a failed test")]

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use measure::Sha256;

/// What happens to a request instead of an answer.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// This status, with these headers and an error of the specification's form.
    Status(u16, Vec<(&'static str, String)>),
    /// The whole length is said, these many bytes are sent, the connection is closed.
    CutAnswer(usize),
    /// These many bytes of an upload are kept, the connection is closed.
    CutUpload(usize),
    /// The upload is forgotten, the connection is closed.
    Forget,
    /// Other bytes, of the same length.
    Wrong,
}

/// A fault, and the requests that it befalls: by method, by a part of the path, so many times.
#[derive(Clone, Debug)]
struct Planned {
    method: &'static str,
    path: String,
    times: usize,
    fault: Fault,
}

/// A request that arrived.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: usize,
}

#[derive(Default)]
struct State {
    blobs: BTreeMap<String, Vec<u8>>,
    manifests: BTreeMap<String, Vec<u8>>,
    uploads: BTreeMap<String, Vec<u8>>,
    planned: Vec<Planned>,
    log: Vec<Request>,
    referrers_api: bool,
    /// Everything that refers to something is said to refer to whatever is asked for.
    lists_all: bool,
    /// Where the list of referrers goes on.
    next: Option<String>,
    /// What `Authorization` must be.
    authorization: Option<String>,
    challenge: String,
    token: Option<(String, String)>,
}

/// A running registry.
#[derive(Clone)]
pub(crate) struct Registry {
    pub(crate) host: String,
    state: Arc<Mutex<State>>,
}

struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Registry {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let state = State {
            referrers_api: true,
            ..State::default()
        };
        let registry = Self {
            host,
            state: Arc::new(Mutex::new(state)),
        };
        let server = registry.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let server = server.clone();
                thread::spawn(move || {
                    let _ = server.converse(stream); // the client may hang up
                });
            }
        });
        registry
    }

    /// Takes the referrers API away.
    pub(crate) fn without_referrers_api(self) -> Self {
        self.state.lock().unwrap().referrers_api = false;
        self
    }

    /// Lists as referrers of anything what refers to something.
    pub(crate) fn lists_all_as_referrers(&self) {
        self.state.lock().unwrap().lists_all = true;
    }

    /// Says that the list of referrers goes on there.
    pub(crate) fn goes_on(&self, url: &str) {
        self.state.lock().unwrap().next = Some(url.to_owned());
    }

    /// Wants this `Authorization`, and says so with this challenge.
    pub(crate) fn wants(&self, authorization: &str, challenge: &str) {
        let mut state = self.state.lock().unwrap();
        state.authorization = Some(authorization.to_owned());
        state.challenge = challenge.to_owned();
    }

    /// Gives this token at `/token` to whoever has this `Authorization`.
    pub(crate) fn gives(&self, token: &str, authorization: &str) {
        self.state.lock().unwrap().token = Some((token.to_owned(), authorization.to_owned()));
    }

    pub(crate) fn plan(&self, method: &'static str, path: &str, times: usize, fault: Fault) {
        let path = path.to_owned();
        self.state.lock().unwrap().planned.push(Planned {
            method,
            path,
            times,
            fault,
        });
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state.lock().unwrap().log.clone()
    }

    pub(crate) fn forget_requests(&self) {
        self.state.lock().unwrap().log.clear();
    }

    pub(crate) fn manifest(&self, name: &str) -> Option<Vec<u8>> {
        self.state.lock().unwrap().manifests.get(name).cloned()
    }

    pub(crate) fn put_manifest(&self, name: &str, bytes: &[u8]) {
        let mut state = self.state.lock().unwrap();
        state.manifests.insert(digest(bytes), bytes.to_owned());
        state.manifests.insert(name.to_owned(), bytes.to_owned());
    }

    pub(crate) fn put_blob(&self, bytes: &[u8]) {
        self.state.lock().unwrap().blobs.insert(digest(bytes), bytes.to_owned());
    }

    fn converse(&self, stream: TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let Some((method, path, headers)) = head(&mut reader)? else {
            return Ok(());
        };
        let length: usize = headers
            .get("content-length")
            .map_or(0, |length| length.parse().unwrap());
        let request = Request {
            method,
            path,
            headers,
            body: length,
        };
        let fault = {
            let mut state = self.state.lock().unwrap();
            state.log.push(request.clone());
            state.fault(&request)
        };
        if let Some(Fault::CutUpload(_) | Fault::Forget) = fault {
            return self.cut_upload(&mut reader, &request, fault.unwrap());
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let mut reply = match &fault {
            Some(Fault::Status(status, headers)) => refusal(*status, headers),
            _ => self.state.lock().unwrap().answer(&request, body),
        };
        if let Some(Fault::Wrong) = fault {
            reply.body.iter_mut().for_each(|byte| *byte ^= 1);
        }
        let sent = match fault {
            Some(Fault::CutAnswer(count)) => count,
            _ => reply.body.len(),
        };
        send(stream, &request, &reply, sent)
    }

    fn cut_upload(&self, reader: &mut impl io::Read, request: &Request, fault: Fault) -> io::Result<()> {
        let id = upload(&request.path).to_owned();
        let kept = if let Fault::CutUpload(count) = fault { count } else { 0 };
        let mut body = vec![0; kept];
        reader.read_exact(&mut body)?;
        let mut state = self.state.lock().unwrap();
        match fault {
            Fault::Forget => drop(state.uploads.remove(&id)),
            _ => state.uploads.get_mut(&id).unwrap().extend(body),
        }
        Ok(())
    }
}

impl State {
    fn fault(&mut self, request: &Request) -> Option<Fault> {
        let planned = self.planned.iter_mut().find(|planned| {
            planned.times > 0 && planned.method == request.method && request.path.contains(&planned.path)
        })?;
        planned.times -= 1;
        Some(planned.fault.clone())
    }

    fn answer(&mut self, request: &Request, body: Vec<u8>) -> Reply {
        let given = request.headers.get("authorization").cloned();
        if let Some(query) = request.path.strip_prefix("/token?") {
            return match &self.token {
                Some((token, wanted))
                    if given.as_ref() == Some(wanted) && query.contains("scope=repository%3Aa%2Fb") =>
                {
                    ok(200, format!("{{\"token\": \"{token}\"}}").into_bytes())
                }
                _ => refusal(401, &[]),
            };
        }
        if self.authorization.is_some() && given != self.authorization {
            return refusal(401, &[("WWW-Authenticate", self.challenge.clone())]);
        }
        let path = request
            .path
            .split_once("/v2/a/b/")
            .map_or("", |(_, path)| path)
            .to_owned();
        match (request.method.as_str(), path.split('/').collect::<Vec<_>>().as_slice()) {
            ("GET" | "HEAD", ["blobs", digest]) => found(self.blobs.get(*digest), request),
            ("GET" | "HEAD", ["manifests", name]) => found(self.manifests.get(*name), request),
            ("PUT", ["manifests", name]) => self.put(name, &body),
            ("GET", ["referrers", subject]) if self.referrers_api => self.referrers(subject),
            ("POST", ["blobs", "uploads", ""]) => {
                let id = self.uploads.len().to_string();
                self.uploads.insert(id.clone(), Vec::new());
                at(202, format!("/v2/a/b/blobs/uploads/{id}"))
            }
            (method, ["blobs", "uploads", rest]) => self.upload(method, rest, request, body),
            _ => refusal(404, &[]),
        }
    }

    fn upload(&mut self, method: &str, rest: &str, request: &Request, body: Vec<u8>) -> Reply {
        let (id, query) = rest.split_once('?').unwrap_or((rest, ""));
        let Some(bytes) = self.uploads.get_mut(id) else {
            return refusal(404, &[]);
        };
        let range = request
            .headers
            .get("content-range")
            .and_then(|range| range.split_once('-'));
        if range.is_some_and(|(from, _)| from.parse() != Ok(bytes.len())) {
            return refusal(416, &[]);
        }
        bytes.extend(body);
        if method == "PUT" {
            let bytes = self.uploads.remove(id).unwrap();
            if query != format!("digest={}", digest(&bytes)) {
                return refusal(400, &[]);
            }
            self.blobs.insert(digest(&bytes), bytes);
            return ok(201, Vec::new());
        }
        let last = bytes.len().saturating_sub(1);
        let mut reply = at(
            if method == "GET" { 204 } else { 202 },
            format!("/v2/a/b/blobs/uploads/{id}"),
        );
        reply.headers.push(("Range".into(), format!("0-{last}")));
        reply
    }

    fn put(&mut self, name: &str, body: &[u8]) -> Reply {
        let manifest: serde_json::Value = serde_json::from_slice(body).unwrap();
        let blobs = manifest["layers"].as_array().into_iter().flatten();
        let unknown = blobs
            .clone()
            .any(|layer| !self.blobs.contains_key(layer["digest"].as_str().unwrap()));
        if unknown || (name.starts_with("sha256:") && name != digest(body)) {
            return refusal(400, &[]);
        }
        self.manifests.insert(digest(body), body.to_owned());
        self.manifests.insert(name.to_owned(), body.to_owned());
        let mut reply = ok(201, Vec::new());
        if let Some(subject) = manifest["subject"]["digest"].as_str().filter(|_| self.referrers_api) {
            reply.headers.push(("OCI-Subject".into(), subject.to_owned()));
        }
        reply
    }

    fn referrers(&self, subject: &str) -> Reply {
        let manifests = self.manifests.iter().filter(|(name, _)| name.starts_with("sha256:"));
        let listed = manifests.filter_map(|(name, bytes)| {
            let manifest: serde_json::Value = serde_json::from_slice(bytes).unwrap();
            let refers = manifest["subject"].is_object() && self.lists_all;
            (refers || manifest["subject"]["digest"] == subject).then(|| {
                serde_json::json!({"mediaType": manifest["mediaType"], "digest": name, "size": bytes.len(),
                    "artifactType": manifest["artifactType"], "annotations": {}})
            })
        });
        let listed: Vec<_> = listed.collect();
        let index = serde_json::json!({"schemaVersion": 2, "manifests": listed,
            "mediaType": "application/vnd.oci.image.index.v1+json"});
        let mut reply = ok(200, index.to_string().into_bytes());
        let link = self
            .next
            .iter()
            .map(|url| ("Link".into(), format!("<{url}>; rel=\"next\"")));
        reply.headers.extend(link);
        reply
    }
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", Sha256::of(bytes))
}

fn upload(path: &str) -> &str {
    let last = path.rsplit('/').next().unwrap();
    last.split('?').next().unwrap()
}

type Head = (String, String, BTreeMap<String, String>);

fn head(reader: &mut impl io::BufRead) -> io::Result<Option<Head>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            return Ok(Some((method, path, headers)));
        };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
}

fn ok(status: u16, body: Vec<u8>) -> Reply {
    Reply {
        status,
        headers: Vec::new(),
        body,
    }
}

fn at(status: u16, location: String) -> Reply {
    Reply {
        status,
        headers: vec![("Location".into(), location)],
        body: Vec::new(),
    }
}

fn refusal(status: u16, headers: &[(&'static str, String)]) -> Reply {
    let headers = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect();
    let body = br#"{"errors": [{"code": "SOME_CODE", "message": "what the registry says"}]}"#.to_vec();
    Reply { status, headers, body }
}

fn found(bytes: Option<&Vec<u8>>, request: &Request) -> Reply {
    let Some(bytes) = bytes else { return refusal(404, &[]) };
    let from = request
        .headers
        .get("range")
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
    match from.map(|from| from.parse::<usize>().unwrap()) {
        None => ok(200, bytes.clone()),
        Some(from) => {
            let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
            let headers = vec![("Content-Range".into(), range)];
            Reply {
                status: 206,
                headers,
                body: bytes[from..].to_vec(),
            }
        }
    }
}

fn send(mut stream: TcpStream, request: &Request, reply: &Reply, count: usize) -> io::Result<()> {
    let headers = reply.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
    let (status, length) = (reply.status, reply.body.len());
    let length = if status == 204 {
        String::new()
    } else {
        format!("Content-Length: {length}\r\n")
    };
    let headers: String = headers.chain([length, "Connection: close\r\n".into()]).collect();
    write!(stream, "HTTP/1.1 {status} text\r\n{headers}\r\n")?;
    if request.method != "HEAD" {
        stream.write_all(&reply.body[..count.min(reply.body.len())])?;
    }
    Ok(())
}
