//! The environment of this process: read here, once, and nowhere else.

use std::ffi::OsString;
use std::path::PathBuf;

/// What begat takes from the environment: never what to build.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `$XDG_CACHE_HOME`, or `$HOME/.cache`.
    pub cache: Option<PathBuf>,
    /// `$XDG_RUNTIME_DIR`: what is in there is gone when the user is.
    pub runtime: Option<PathBuf>,
    /// Which way to the network.
    pub proxies: Proxies,
    /// The folder of cargo, `$CARGO_HOME` or `$HOME/.cargo`: what it has fetched is there.
    pub cargo: Option<PathBuf>,
    /// Where credentials of registries are kept, the first first: see [`super::credentials`].
    pub logins: Vec<PathBuf>,
}

/// The HTTP proxies of this host. They must let us CONNECT to the mirrors, to those on port 80 as well.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    /// For `http://` addresses.
    pub http: Option<String>,
    /// For `https://` addresses.
    pub https: Option<String>,
    /// Hosts that are reached directly: names, suffixes, or `*`.
    pub none: Vec<String>,
}

impl Environment {
    /// Reads the environment of this process.
    pub fn of_this_process() -> Self {
        let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = || absolute("HOME").map(|home| home.join(".cache"));
        let below = |name, path: &str| absolute(name).map(|folder| folder.join(path));
        let logins = [
            variable("REGISTRY_AUTH_FILE").map(PathBuf::from),
            below("XDG_RUNTIME_DIR", "containers/auth.json"),
            below("XDG_CONFIG_HOME", "containers/auth.json").or_else(|| below("HOME", ".config/containers/auth.json")),
            below("DOCKER_CONFIG", "config.json").or_else(|| below("HOME", ".docker/config.json")),
        ];
        let none = either("no_proxy", "NO_PROXY").unwrap_or_default();
        Self {
            cache: absolute("XDG_CACHE_HOME").or_else(home),
            runtime: absolute("XDG_RUNTIME_DIR"),
            cargo: absolute("CARGO_HOME").or_else(|| below("HOME", ".cargo")),
            logins: logins.into_iter().flatten().collect(),
            proxies: Proxies {
                // Upper case would let a web server's clients choose it, were begat run by CGI: curl has the same rule.
                http: text("http_proxy"),
                https: either("https_proxy", "HTTPS_PROXY"),
                none: none.split(',').map(|host| host.trim().to_owned()).collect(),
            },
        }
    }
}

impl Proxies {
    /// Returns the proxy to ask for an address of this `scheme` and `host`; none where it is reached directly, as this
    /// machine always is: what is said to it without encryption goes nowhere else.
    pub fn to(&self, scheme: &str, host: &str) -> Option<&str> {
        let proxy = if scheme == "https" { &self.https } else { &self.http };
        let direct = is_loopback(host) || self.none.iter().any(|entry| reached_directly(host, entry));
        proxy.as_deref().filter(|_| !direct)
    }
}

fn reached_directly(host: &str, entry: &str) -> bool {
    let name = entry.trim_start_matches('*').trim_start_matches('.');
    match host.strip_suffix(name) {
        _ if name.is_empty() => entry.starts_with('*'),
        Some(rest) => rest.is_empty() || rest.ends_with('.'),
        None => false,
    }
}

/// Whether a host, with or without a port, is this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let address: Result<std::net::IpAddr, _> = name.parse();
    name == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn either(first: &str, second: &str) -> Option<String> {
    text(first).or_else(|| text(second))
}

fn text(name: &str) -> Option<String> {
    variable(name).and_then(|value| value.into_string().ok())
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_names_hosts_suffixes_or_all() {
        let to = |none: &str, host| {
            let none = vec![none.to_owned()];
            let http = Some("http://proxy:3128".to_owned());
            let https = None;
            Proxies { http, https, none }.to("http", host).is_none()
        };
        assert!(to("example.org", "example.org"));
        assert!(to(".example.org", "deb.example.org"));
        assert!(to("*", "anything"));
        assert!(!to("example.org", "badexample.org"));
        assert!(!to("", "example.org"));
        assert!(to("", "127.0.0.1") && to("", "localhost") && to("", "[::1]"));
    }

    #[test]
    fn this_machine_is_told_from_others() {
        for host in [
            "localhost",
            "localhost:5000",
            "127.0.0.1:5000",
            "127.9.9.9",
            "[::1]:5000",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example", "127.example:5000", "[::2]:5000", "10.0.0.1", ""] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
