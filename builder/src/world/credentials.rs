//! Credentials of registries, from where other OCI tools keep them: `auth.json` of podman, skopeo and buildah
//! (containers-auth.json(5)), `config.json` of docker and oras. Nothing in here is ever printed.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use data_encoding::{BASE64, BASE64_NOPAD};
use serde_json::Value;

use crate::mend::{Exit, OrMend as _};

/// What a file of credentials has at most, in bytes.
const LIMIT: u64 = 1 << 20;

/// What a registry is told about us.
#[derive(Clone, Default, Eq, PartialEq)]
pub enum Credentials {
    #[default]
    None,
    Basic {
        user: String,
        password: String,
    },
    /// What a token is had for, instead of a password.
    Refresh(String),
    /// A program keeps them, which begat does not start.
    Helper(String),
}

/// Which kind of credentials it is, and no more.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Basic { .. } => "Basic",
            Self::Refresh(_) => "Refresh",
            Self::Helper(_) => "Helper",
        })
    }
}

impl Credentials {
    /// Returns the credentials for a repository of `host`, from the first of these files that has some.
    ///
    /// # Errors
    /// A file that is there and cannot be read, or is none.
    pub fn find(files: &[PathBuf], host: &str, repository: &str) -> Result<Self> {
        for path in files {
            if let Some(value) = read(path)? {
                match Self::of(&value, host, repository) {
                    Some(Self::None) | None => {}
                    Some(found) => return Ok(found),
                }
            }
        }
        Ok(Self::None)
    }

    /// What a file says: the entry of the longest part of the repository's path, or of the host.
    fn of(file: &Value, host: &str, repository: &str) -> Option<Self> {
        let helper = |program: &Value| program.as_str().map(|name| Self::Helper(name.to_owned()));
        if let Some(found) = file
            .get("credHelpers")
            .and_then(|helpers| helpers.get(host))
            .and_then(helper)
        {
            return Some(found);
        }
        let whole = format!("{host}/{repository}");
        let places = whole
            .char_indices()
            .rev()
            .filter(|(_, c)| *c == '/')
            .map(|(end, _)| &whole[..end]);
        let places = [whole.as_str()].into_iter().chain(places);
        let auths = file.get("auths")?.as_object()?;
        let entry = places
            .into_iter()
            .find_map(|place| auths.iter().find(|(key, _)| bare(key) == place).map(|(_, entry)| entry));
        match entry.and_then(Self::entry) {
            None => file.get("credsStore").filter(|_| entry.is_some()).and_then(helper),
            found => found,
        }
    }

    fn entry(entry: &Value) -> Option<Self> {
        let text = |name: &str| entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        if let Some(token) = text("identitytoken") {
            return Some(Self::Refresh(token.to_owned()));
        }
        if let Some((user, password)) = text("username").zip(text("password")) {
            return Some(Self::Basic {
                user: user.to_owned(),
                password: password.to_owned(),
            });
        }
        let auth = text("auth")?.trim_end_matches('=');
        let pair = String::from_utf8(BASE64_NOPAD.decode(auth.as_bytes()).ok()?).ok()?;
        let (user, password) = pair.split_once(':')?;
        Some(Self::Basic {
            user: user.to_owned(),
            password: password.trim_end_matches('\0').to_owned(),
        })
    }

    /// Returns the value of an `Authorization` header (RFC 7617).
    pub(super) fn basic(&self) -> Option<String> {
        match self {
            Self::Basic { user, password } => Some(format!(
                "Basic {}",
                BASE64.encode(format!("{user}:{password}").as_bytes())
            )),
            _ => None,
        }
    }
}

/// A key of `auths` without what docker puts around a host: `https://host/v1/`.
fn bare(key: &str) -> &str {
    let key = key
        .trim_start_matches("https://")
        .trim_start_matches("http://")
        .trim_end_matches('/');
    key.trim_end_matches("/v1").trim_end_matches("/v2")
}

/// The file's values; what is wrong with it is told without quoting it.
fn read(path: &Path) -> Result<Option<Value>> {
    const MEND: &str = "correct it, or log in again: podman login HOST, docker login HOST";
    let problem = || format!("cannot read the registry credentials in {}", path.display());
    let mut bytes = Vec::new();
    match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).or_mend(Exit::Outside, problem(), MEND),
        Ok(file) => file
            .take(LIMIT)
            .read_to_end(&mut bytes)
            .or_mend(Exit::Outside, problem(), MEND)?,
    };
    let value: Result<Value, _> = serde_json::from_slice(&bytes);
    let value = value.map_err(|error| format!("it is no JSON at line {}, column {}", error.line(), error.column()));
    value.map(Some).or_mend(Exit::Usage, problem(), MEND)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mend;

    fn found(text: &str, host: &str, repository: &str) -> Credentials {
        Credentials::of(&serde_json::from_str(text).unwrap(), host, repository).unwrap_or_default()
    }

    fn basic(user: &str, password: &str) -> Credentials {
        let (user, password) = (user.to_owned(), password.to_owned());
        Credentials::Basic { user, password }
    }

    /// `echo -n alice:s3cret:x | base64`
    const ALICE: &str = "YWxpY2U6czNjcmV0Ong=";

    #[test]
    fn the_longest_key_of_auths_counts_and_docker_writes_urls() {
        let text = format!(
            r#"{{"auths": {{"https://one.example/v1/": {{"auth": "{ALICE}"}},
            "two.example/team": {{"username": "bob", "password": "p"}}, "two.example": {{"identitytoken": "t"}}}}}}"#
        );
        assert_eq!(found(&text, "one.example", "a/b"), basic("alice", "s3cret:x"));
        assert_eq!(found(&text, "two.example", "team/b"), basic("bob", "p"));
        assert_eq!(found(&text, "two.example", "teams/b"), Credentials::Refresh("t".into()));
        assert_eq!(found(&text, "two.example.evil", "team/b"), Credentials::None);
        assert_eq!(found(&text, "example", "b"), Credentials::None);
    }

    #[test]
    fn a_helper_is_named() {
        let helper = Credentials::Helper("pass".into());
        assert_eq!(
            found(r#"{"credHelpers": {"a.example": "pass"}}"#, "a.example", "b"),
            helper
        );
        assert_eq!(
            found(
                r#"{"auths": {"a.example": {}}, "credsStore": "pass"}"#,
                "a.example",
                "b"
            ),
            helper
        );
    }

    #[test]
    fn nothing_shows_a_secret() {
        assert_eq!(format!("{:?}", basic("alice", "s3cret")), "Basic");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("auth.json");
        std::fs::write(&file, r#"{"auths": {"a": {"auth": "s3cret"}"#).unwrap();
        let error = Credentials::find(&[file], "a", "b").unwrap_err();
        let report = mend::report(&error);
        assert!(!report.contains("s3cret") && report.contains("line 1"), "{report}");
    }
}
