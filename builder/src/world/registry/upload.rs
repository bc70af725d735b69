//! A blob on its way to a registry: in pieces of bounded size, and after a cut from where the registry has it.

use std::thread;

use measure::ReadAt;
use ureq::Body;
use ureq::http::Response;

use super::super::download::Trouble;
use super::Registry;
use super::send::{Method, Request};
use crate::model::oci::Digest;
use crate::model::release::Stamp;

/// How much is sent at once, in bytes, where the registry does not ask for more.
const PIECE: u64 = 8 << 20;

/// How much is sent at once at most.
const LARGEST_PIECE: u64 = 64 << 20;

/// An upload that the registry knows.
struct Session {
    url: String,
    /// How much of the blob has arrived there.
    arrived: u64,
    piece: u64,
}

impl Registry {
    /// Sends a blob until the registry has it, or has failed too often at the same place.
    pub(super) fn upload(&self, stamp: &Stamp, file: &dyn ReadAt) -> Result<(), Trouble> {
        let mut session = self.insist(|| self.start())?;
        let (mut failures, mut furthest) = (0, 0);
        loop {
            match self.go_on(&mut session, stamp, file) {
                Err(Trouble::Broken(problem)) => {
                    if session.arrived <= furthest {
                        failures += 1;
                    }
                    furthest = furthest.max(session.arrived);
                    if failures >= self.limits.attempts {
                        return Err(Trouble::Broken(problem));
                    }
                }
                outcome => return outcome,
            }
            thread::sleep(self.limits.pause_after(failures));
            match self
                .insist(|| self.look(&session))?
                .filter(|found| found.arrived <= stamp.size)
            {
                Some(found) => session = found,
                None if self.insist(|| self.head_blob(&stamp.sha256))? => return Ok(()),
                None => session = self.insist(|| self.start())?,
            }
        }
    }

    fn start(&self) -> Result<Session, Trouble> {
        let response = self.send(&Request::new(Method::Post, self.url("blobs/uploads/")))?;
        let least = response.headers().get("OCI-Chunk-Min-Length");
        let least: Option<u64> = least.and_then(|value| value.to_str().ok()?.parse().ok());
        let piece = least.unwrap_or(0).clamp(PIECE, LARGEST_PIECE);
        let url = self
            .location(&response)?
            .ok_or_else(|| Trouble::Refused("it says not where to send the file".into()))?;
        Ok(Session { url, arrived: 0, piece })
    }

    /// Sends what is missing, and ends the upload.
    fn go_on(&self, session: &mut Session, stamp: &Stamp, file: &dyn ReadAt) -> Result<(), Trouble> {
        let whole = stamp.size <= session.piece;
        while !whole && session.arrived < stamp.size {
            let piece = read(file, session.arrived, session.piece.min(stamp.size - session.arrived))?;
            let end = session.arrived + piece.len() as u64;
            let response = self.send(
                &Request::new(Method::Patch, session.url.clone())
                    .header("Content-Type", BYTES.into())
                    .header("Content-Range", format!("{}-{}", session.arrived, end - 1))
                    .body(&piece),
            )?;
            session.url = self.location(&response)?.unwrap_or_else(|| session.url.clone());
            session.arrived = end;
        }
        let last = read(file, session.arrived, stamp.size - session.arrived)?;
        let sign = if session.url.contains('?') { '&' } else { '?' };
        let url = format!("{}{sign}digest={}", session.url, Digest(stamp.sha256));
        let request = Request::new(Method::Put, url)
            .header("Content-Type", BYTES.into())
            .body(&last);
        let rest = (session.arrived > 0 && !last.is_empty()).then(|| format!("{}-{}", session.arrived, stamp.size - 1));
        let request = rest
            .into_iter()
            .fold(request, |request, range| request.header("Content-Range", range));
        self.send(&request).map(drop)
    }

    /// How far an upload is; none where the registry has forgotten it.
    fn look(&self, session: &Session) -> Result<Option<Session>, Trouble> {
        let response = match self.send(&Request::new(Method::Get, session.url.clone())) {
            Err(Trouble::Absent(_) | Trouble::Refused(_)) => return Ok(None),
            response => response?,
        };
        let range = response.headers().get("Range").and_then(|value| value.to_str().ok());
        let end = range.and_then(|range| {
            range
                .trim_start_matches("bytes=")
                .strip_prefix("0-")?
                .parse::<u64>()
                .ok()
        });
        let url = self.location(&response)?.unwrap_or_else(|| session.url.clone());
        // `0-0` is what registries say of no bytes too, and no piece of ours has one.
        let arrived = end.filter(|end| *end > 0).map_or(0, |end| end.saturating_add(1));
        Ok(Some(Session {
            url,
            arrived,
            piece: session.piece,
        }))
    }

    fn location(&self, response: &Response<Body>) -> Result<Option<String>, Trouble> {
        let location = response.headers().get("Location").and_then(|value| value.to_str().ok());
        location.map(|location| self.resolve(location)).transpose()
    }
}

const BYTES: &str = "application/octet-stream";

/// Reads `count` bytes from a given one on.
fn read(file: &dyn ReadAt, from: u64, count: u64) -> Result<Vec<u8>, Trouble> {
    let mut bytes = vec![0; count as usize];
    let read = file.read_at(from, &mut bytes);
    read.map_err(|error| Trouble::Refused(format!("the file cannot be read: {error}")))?;
    Ok(bytes)
}
