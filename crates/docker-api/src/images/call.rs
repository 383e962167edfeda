//! What a request says besides its body.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use http::{HeaderMap, Method, Request};
use hyper::body::Incoming;
use serde::Deserialize;
use tug_engine::{Auth, Platform};

use crate::reply::Failure;

/// A request without its body.
pub struct Call {
    pub method: Method,
    /// Of the API's version 1.x; the newest when the path has none.
    pub minor: u32,
    query: Vec<(String, String)>,
    headers: HeaderMap,
}

impl Call {
    pub fn of(request: Request<Incoming>) -> (Self, Incoming) {
        let (head, body) = request.into_parts();
        let version = head.uri.path().strip_prefix("/v1.").and_then(|rest| rest.split('/').next()?.parse().ok());
        let query = url::form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes()).into_owned();
        let newest = crate::API_VERSION.trim_start_matches("1.").parse().unwrap_or(u32::MAX);
        let (method, headers) = (head.method, head.headers);
        (Self { method, minor: version.unwrap_or(newest), query: query.collect(), headers }, body)
    }

    /// The first value, or nothing at all.
    pub fn one(&self, name: &str) -> &str {
        self.query.iter().find(|(given, _)| given == name).map_or("", |(_, value)| value)
    }

    pub fn all(&self, name: &str) -> Vec<String> {
        self.query.iter().filter(|(given, _)| given == name).map(|(_, value)| value.clone()).collect()
    }

    pub fn flag(&self, name: &str) -> bool {
        let value = self.one(name).trim().to_ascii_lowercase();
        !["", "0", "no", "false", "none"].contains(&value.as_str())
    }

    pub fn flag_or(&self, name: &str, default: bool) -> bool {
        if self.query.iter().any(|(given, _)| given == name) { self.flag(name) } else { default }
    }

    /// `X-Registry-Auth`; whoever sends nonsense there is taken for nobody, as Docker does.
    pub fn auth(&self) -> Auth {
        let header = self.headers.get("x-registry-auth").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let engines = [&URL_SAFE, &URL_SAFE_NO_PAD, &STANDARD, &STANDARD_NO_PAD];
        let bytes = engines.iter().find_map(|engine| engine.decode(header).ok()).unwrap_or_default();
        serde_json::from_slice::<AuthConfig>(&bytes).map_or(Auth::Anonymous, AuthConfig::into_auth)
    }

    /// As `--platform` gives it.
    pub fn platform(&self) -> Result<Option<Platform>, Failure> {
        let text = self.one("platform");
        if text.is_empty() || self.minor < 32 { Ok(None) } else { Ok(Some(Platform::parse(text)?)) }
    }

    /// A platform as JSON, which clients send since some version of the API.
    ///
    /// # Errors
    /// In dockerd's words when it is none, or one of several.
    pub fn json_platform(&self, name: &str, since: u32) -> Result<Option<Platform>, Failure> {
        let mut given = self.query.iter().filter(|(given, value)| given == name && !value.is_empty());
        let Some((_, text)) = given.next().filter(|_| self.minor >= since) else { return Ok(None) };
        if given.next().is_some() {
            let words =
                "multiple platform parameters are not supported in this API version; use API version 1.52 or later";
            return Err(Failure::new(400, words));
        }
        let invalid = |error| Failure::new(400, format!("failed to parse platform: {error}"));
        let WrittenPlatform { os, architecture, variant } = serde_json::from_str(text).map_err(invalid)?;
        if os.is_empty() || architecture.is_empty() {
            return Err(Failure::new(400, "both OS and Architecture must be provided"));
        }
        let parts = [os, architecture, variant];
        Ok(Some(Platform::parse(parts.join("/").trim_end_matches('/'))?))
    }
}

/// Of OCI's specification; what else there is in it says more than an image does.
#[derive(Default, Deserialize)]
#[serde(default)]
struct WrittenPlatform {
    os: String,
    architecture: String,
    variant: String,
}

/// Docker's `AuthConfig`.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct AuthConfig {
    pub username: String,
    pub password: String,
    /// `username:password`.
    pub auth: String,
    pub serveraddress: String,
    pub registrytoken: String,
}

impl AuthConfig {
    pub fn into_auth(self) -> Auth {
        if !self.registrytoken.is_empty() {
            return Auth::Bearer(self.registrytoken);
        }
        if !self.username.is_empty() {
            return Auth::Basic { username: self.username, password: self.password };
        }
        let pair = STANDARD.decode(&self.auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        match pair.as_deref().and_then(|pair| pair.split_once(':')) {
            Some((username, password)) => Auth::Basic { username: username.into(), password: password.into() },
            None => Auth::Anonymous,
        }
    }
}

/// A path with its `%2F` and the like taken for what they stand for.
pub fn decoded(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, behind @ ..] = rest {
        let digits = behind.get(..2).filter(|_| *first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
