//! What a registry wants to see before it answers: the challenge of a `WWW-Authenticate` header (RFC 9110, 11.6.1), and
//! tokens as the distribution project's token server hands them out.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::credentials::Credentials;
use super::super::download::Trouble;
use super::Registry;
use super::send::{self, Method, Request, escape};

/// What a token server's answer has at most, in bytes.
const TOKEN_LIMIT: u64 = 1 << 20;

/// One challenge: its scheme in lower case, and its parameters.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Challenge {
    scheme: String,
    parameters: BTreeMap<String, String>,
}

impl Challenge {
    /// Reads the value of a header that holds one challenge, as registries send it.
    pub(super) fn parse(value: &str) -> Option<Self> {
        let (scheme, mut rest) = value.trim().split_once(' ').unwrap_or((value.trim(), ""));
        let mut parameters = BTreeMap::new();
        while let Some((name, after)) = rest.split_once('=') {
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_at(after.find(',').unwrap_or(after.len())),
            };
            parameters.insert(name.trim().to_ascii_lowercase(), value.to_owned());
            rest = after.trim_start().trim_start_matches(',');
        }
        let scheme = scheme.to_ascii_lowercase();
        Some(Self { scheme, parameters })
    }
}

impl Registry {
    /// Returns the `Authorization` that answers one of these challenges.
    pub(super) fn answer(&self, challenges: &[Challenge]) -> Result<String, Trouble> {
        let of = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme == scheme);
        if let Some(challenge) = of("bearer") {
            return self.token(challenge).map(|token| format!("Bearer {token}"));
        }
        let basic = of("basic").and_then(|_| self.credentials.basic());
        basic.ok_or_else(|| Trouble::Denied("it wants credentials, and there are none for it".into()))
    }

    /// Asks the token server that the challenge names.
    fn token(&self, challenge: &Challenge) -> Result<String, Trouble> {
        let parameter = |name: &str| challenge.parameters.get(name).map_or("", String::as_str);
        let query = format!(
            "service={}&scope={}",
            escape(parameter("service")),
            escape(parameter("scope"))
        );
        let realm = parameter("realm");
        let response = if let Credentials::Refresh(refresh) = &self.credentials {
            let form = format!(
                "grant_type=refresh_token&client_id=begat&{query}&refresh_token={}",
                escape(refresh)
            );
            let request = Request::new(Method::Post, realm.into()).body(form.as_bytes());
            let request = request.header("Content-Type", "application/x-www-form-urlencoded".into());
            self.ask(&request, realm, None)
        } else {
            let sign = if realm.contains('?') { '&' } else { '?' };
            let request = Request::new(Method::Get, format!("{realm}{sign}{query}"));
            self.ask(&request, realm, self.credentials.basic().as_deref())
        };
        let (response, _) = response.map_err(|trouble| about_token(realm, &trouble))?;
        let status = response.status().as_u16();
        if matches!(status, 400 | 401 | 403) {
            return Err(Trouble::Denied(format!(
                "its token server {realm} answers with status {status}"
            )));
        }
        let bytes = send::expect(response).and_then(|response| send::bytes(response, TOKEN_LIMIT));
        let bytes = bytes.map_err(|trouble| about_token(realm, &trouble))?;
        let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let token = ["token", "access_token"]
            .iter()
            .find_map(|name| answer.get(name)?.as_str());
        let token = token.filter(|token| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()));
        token
            .map(str::to_owned)
            .ok_or_else(|| Trouble::Refused(format!("its token server {realm} gives no token")))
    }
}

fn about_token(realm: &str, trouble: &Trouble) -> Trouble {
    let text = format!("its token server {realm}: {}", trouble.text());
    match trouble {
        Trouble::Broken(_) => Trouble::Broken(text),
        _ => Trouble::Refused(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the distribution project's page "Token authentication".
    #[test]
    fn a_challenge_is_read_with_its_commas() {
        let text =
            r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push""#;
        let found = Challenge::parse(text).unwrap();
        assert_eq!(found.scheme, "bearer");
        assert_eq!(found.parameters["scope"], "repository:a/b:pull,push");
        assert_eq!(found.parameters["realm"], "https://auth.example/token");
        assert_eq!(
            Challenge::parse("Basic realm=x, charset=\"UTF-8\"").unwrap().parameters["realm"],
            "x"
        );
        assert_eq!(Challenge::parse("Basic").unwrap().scheme, "basic");
        assert_eq!(Challenge::parse("Bearer realm=\"x"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_header_is_too_odd(text in ".{0,80}|(Bearer |[a-z]+=|\"[a-z,]*\"|,){0,12}") {
            let _ = Challenge::parse(&text);
        }
    }
}
