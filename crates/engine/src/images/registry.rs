//! Registries: where an image may be fetched from, with which credentials and certificates.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{NoProxy, Proxy, StatusCode};
use tokio::runtime::Handle;

use crate::engine::{Error, Result};
use crate::images::distribution::{Client, Refusal, root_cause};
use crate::images::reference::{DEFAULT_REGISTRY, Reference};
use crate::images::trust;
use crate::spec::Auth;

/// Where docker.io's API really is.
const DOCKER_HUB: &str = "registry-1.docker.io";
/// Where docker looks for a registry's own certificates.
const CERTIFICATES: &str = "/etc/docker/certs.d";

/// How long the other side may stay silent.
const PATIENCE: Duration = Duration::from_secs(60);

/// One place to fetch from.
pub struct Endpoint {
    /// `host:port`.
    pub host: String,
    pub client: Client,
}

/// How a registry is spoken to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Transport {
    Tls,
    /// Whoever answers is believed.
    AnyTls,
    Plain,
}

/// Which way images go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    Pull,
    Push,
}

/// Where images come from besides their registries, and how hosts' names are found.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    /// By registry, in the order in which they are tried.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Whose threads look names up; the caller's when `None`.
    pub names: Option<Handle>,
}

impl Routes {
    /// Mirrors first, then the registry itself. Credentials go to the registry alone, never to a mirror of it. Blocks.
    pub fn endpoints(&self, reference: &Reference, auth: &Auth) -> Result<Vec<Endpoint>> {
        let mut found = Vec::new();
        for url in self.mirrors.get(&reference.registry).into_iter().flatten() {
            let (scheme, place) = url
                .split_once("://")
                .ok_or_else(|| Error::Invalid(format!("mirror {url:?} of {} is not a URL", reference.registry)))?;
            let transport = if scheme == "http" { Transport::Plain } else { Transport::Tls };
            let place = place.trim_end_matches('/');
            found.push(self.endpoint(place, transport, &Auth::Anonymous, Direction::Pull)?);
        }
        found.extend(self.own_endpoints(&reference.registry, auth, Direction::Pull)?);
        Ok(found)
    }

    /// The registry itself, in the ways in which it may speak. Blocks.
    pub fn own_endpoints(&self, registry: &str, auth: &Auth, direction: Direction) -> Result<Vec<Endpoint>> {
        let host = if registry == DEFAULT_REGISTRY { DOCKER_HUB } else { registry };
        // In Docker's order.
        let transports: &[_] =
            if is_loopback(host) { &[Transport::AnyTls, Transport::Plain] } else { &[Transport::Tls] };
        transports.iter().map(|transport| self.endpoint(host, *transport, auth, direction)).collect()
    }

    /// Whoever serves a URL. Blocks.
    pub fn server(&self, url: &url::Url) -> Result<Endpoint> {
        let transport = if url.scheme() == "http" { Transport::Plain } else { Transport::Tls };
        let host = url.host_str().unwrap_or_default();
        let place = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        self.endpoint(&place, transport, &Auth::Anonymous, Direction::Pull)
    }

    /// `place` is `host:port`, with a path behind it for some mirrors.
    fn endpoint(&self, place: &str, transport: Transport, auth: &Auth, direction: Direction) -> Result<Endpoint> {
        let host = place.split('/').next().unwrap_or(place);
        let (scheme, tls) = match transport {
            Transport::Tls => ("https", trust::tls(&Path::new(CERTIFICATES).join(host))?),
            Transport::AnyTls | Transport::Plain => {
                (if transport == Transport::Plain { "http" } else { "https" }, trust::any_tls())
            }
        };
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .connect_timeout(Duration::from_secs(30))
            .user_agent(concat!("tug/", env!("CARGO_PKG_VERSION")));
        builder = match direction {
            // Between two pieces of data, not for a whole layer.
            Direction::Pull => builder.read_timeout(PATIENCE),
            // Nothing is read while a layer is sent.
            Direction::Push => builder.tcp_user_timeout(PATIENCE),
        };
        if let Some(names) = &self.names {
            builder = builder.dns_resolver(Lookup(names.clone()));
        }
        let failed =
            |error: reqwest::Error| Error::Failed { step: "making a registry client", message: root_cause(&error) };
        builder = builder.no_proxy();
        // Go's programs never ask a proxy for what is here.
        if !is_loopback(host) {
            for (scheme, url) in proxies(|name| std::env::var(name).ok()) {
                let proxy = if scheme == "http" { Proxy::http(url) } else { Proxy::https(url) };
                builder = builder.proxy(proxy.map_err(failed)?.no_proxy(NoProxy::from_env()));
            }
        }
        let http = builder.build().map_err(failed)?;
        let client = Client::new(http, format!("{scheme}://{place}"), auth.clone());
        Ok(Endpoint { host: host.into(), client })
    }
}

/// Through which proxy each scheme is spoken: by the variables that Go's programs read, which `ALL_PROXY` is none of.
fn proxies(variable: impl Fn(&str) -> Option<String>) -> Vec<(&'static str, String)> {
    let given = |name: &str| variable(name).filter(|value| !value.is_empty());
    let of = |scheme: &'static str| {
        let upper = format!("{}_PROXY", scheme.to_ascii_uppercase());
        Some((scheme, given(&upper).or_else(|| given(&format!("{scheme}_proxy")))?))
    };
    ["http", "https"].into_iter().filter_map(of).collect()
}

/// Looks names up on threads of a runtime.
struct Lookup(Handle);

impl Resolve for Lookup {
    fn resolve(&self, name: Name) -> Resolving {
        let names = self.0.clone();
        Box::pin(async move {
            let look = move || std::net::ToSocketAddrs::to_socket_addrs(&(name.as_str(), 0));
            let found: Addrs = Box::new(names.spawn_blocking(look).await??);
            Ok(found)
        })
    }
}

/// Docker takes registries on 127.0.0.0/8 and `localhost` for insecure ones without being told to.
fn is_loopback(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name == "localhost" || name.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_loopback())
}

/// A registry's refusal as the docker daemon words it.
pub fn explain(reference: &Reference, host: &str, refusal: Refusal) -> Error {
    let denied = || {
        Error::NotFound(format!(
            "pull access denied for {}, repository does not exist or may require 'docker login'",
            reference.familiar_name()
        ))
    };
    let unknown =
        || Error::NotFound(format!("manifest for {} not found: manifest unknown: manifest unknown", shown(reference)));
    match &refusal {
        Refusal::Answer { code, .. } => match code.as_str() {
            "MANIFEST_UNKNOWN" | "NOT_FOUND" => unknown(),
            "NAME_UNKNOWN" | "DENIED" | "UNAUTHORIZED" => denied(),
            _ => failed(host, refusal),
        },
        Refusal::Status(StatusCode::NOT_FOUND) => unknown(),
        Refusal::Status(StatusCode::UNAUTHORIZED) => denied(),
        Refusal::Token { status: StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, .. } => denied(),
        _ => failed(host, refusal),
    }
}

/// What was tried, with the reasons why it didn't do: of one place the last that says something.
#[derive(Default)]
pub struct Failures(Vec<(String, Error)>);

impl Failures {
    pub fn add(&mut self, host: &str, error: Error) {
        match self.0.last_mut() {
            // A registry's plain refusal says more than that it can't be spoken to in another way too.
            Some((last, Error::NotFound(_))) if last == host && !matches!(error, Error::NotFound(_)) => {}
            Some((last, earlier)) if last == host => *earlier = error,
            _ => self.0.push((host.into(), error)),
        }
    }

    /// The registry's own error, with those of its mirrors behind it.
    pub fn told(mut self) -> Error {
        let (_, own) = self.0.pop().expect("there is at least the registry itself");
        if self.0.is_empty() {
            return own;
        }
        let refused = |error: &Error| matches!(error, Error::NotFound(_));
        let not_found = refused(&own) || self.0.iter().any(|(_, error)| refused(error));
        let mirrors = self.0.iter().map(|(host, error)| {
            let said = message(error);
            format!("; mirror {host}: {}", said.strip_prefix(&format!("registry {host}: ")).unwrap_or(&said))
        });
        let message = message(&own) + &mirrors.collect::<String>();
        if not_found { Error::NotFound(message) } else { Error::Failed { step: PULLING, message } }
    }
}

const PULLING: &str = "pulling";

fn message(error: &Error) -> String {
    match error {
        Error::Failed { step: PULLING, message } => message.clone(),
        other => other.to_string(),
    }
}

fn shown(reference: &Reference) -> String {
    let name = reference.familiar_name();
    match (&reference.digest, &reference.tag) {
        (Some(digest), _) => format!("{name}@{digest}"),
        (None, Some(tag)) => format!("{name}:{tag}"),
        (None, None) => name,
    }
}

fn failed(host: &str, what: impl std::fmt::Display) -> Error {
    Error::Failed { step: PULLING, message: format!("registry {host}: {what}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_those_of_gos_programs() {
        type Pairs = &'static [(&'static str, &'static str)];
        let cases: [(Pairs, Pairs); 5] = [
            (&[], &[]),
            (&[("HTTPS_PROXY", "http://a:1")], &[("https", "http://a:1")]),
            (&[("http_proxy", "a:1"), ("https_proxy", "b:2")], &[("http", "a:1"), ("https", "b:2")]),
            (&[("HTTP_PROXY", "a:1"), ("http_proxy", "b:2")], &[("http", "a:1")]),
            (&[("ALL_PROXY", "socks5://a:1"), ("all_proxy", "a:1"), ("HTTPS_PROXY", "")], &[]),
        ];
        for (set, expected) in cases {
            let found = proxies(|name| set.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()));
            let found: Vec<_> = found.iter().map(|(scheme, url)| (*scheme, url.as_str())).collect();
            assert_eq!(found, expected, "{set:?}");
        }
    }
}
