//! `/networks/…`.

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::networks::Networks;
use crate::networks::create::Create;
use crate::networks::document::Document;
use crate::networks::filters::Filters;
use crate::networks::settings::EndpointSettings;
use crate::reply::{self, Body, Failure};

/// A container's id by its name, its id, or what that begins with; dockerd's words when there is none.
pub type Find<'a> = &'a (dyn Fn(&str) -> Result<String, Failure> + Send + Sync);

/// What a client asks.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    pub method: &'a Method,
    /// Of the path, decoded: `networks` and what follows.
    pub segments: &'a [&'a str],
    pub query: &'a str,
    /// The second number of the API's version.
    pub version: u32,
    pub body: Bytes,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Connect {
    container: String,
    endpoint_config: EndpointSettings,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Disconnect {
    container: String,
    force: bool,
}

impl Networks {
    /// # Errors
    /// In dockerd's words.
    pub async fn route(&self, call: Call<'_>, find: Find<'_>) -> Result<Response<Body>, Failure> {
        let after = call.segments.get(1..).unwrap_or_default();
        match (call.method, after) {
            (&Method::GET, [] | [""]) => self.list(&call),
            (&Method::POST, ["create"]) => {
                let mut asked: Create = call.json()?;
                // It came with API 1.48.
                asked.enable_ipv4 = asked.enable_ipv4.filter(|_| call.version >= 48);
                let made = self.create(asked).await?;
                Ok(status(StatusCode::CREATED, &json!({ "Id": made.id, "Warning": "" })))
            }
            (&Method::POST, ["prune"]) => self.prune(&call).await,
            (&Method::POST, [name @ .., "connect"]) if !name.is_empty() => {
                let asked: Connect = call.json()?;
                let container = find(&asked.container)?;
                self.connect(&container, &name.join("/"), asked.endpoint_config).await?;
                Ok(empty(StatusCode::OK))
            }
            (&Method::POST, [name @ .., "disconnect"]) if !name.is_empty() => {
                let asked: Disconnect = call.json()?;
                self.leave_network(&asked, &name.join("/"), find).await?;
                Ok(empty(StatusCode::OK))
            }
            (&Method::GET, name) => self.inspect(&call, &name.join("/")),
            (&Method::DELETE, name) if !name.is_empty() => {
                self.delete(&name.join("/")).await?;
                Ok(empty(StatusCode::NO_CONTENT))
            }
            _ => Err(Failure::new(404, "page not found")),
        }
    }

    fn list(&self, call: &Call<'_>) -> Result<Response<Body>, Failure> {
        let filters = Filters::of_list(&call.parameter("filters").unwrap_or_default())?;
        // Before API 1.28 a list showed what an inspection does.
        let shown = self.fitting(&filters).into_iter().map(|network| self.shown(&network, call.version < 28));
        Ok(reply::json(&shown.collect::<Vec<_>>()))
    }

    fn fitting(&self, filters: &Filters) -> Vec<std::sync::Arc<Document>> {
        let state = self.inner.state.lock();
        let is_used = |network: &Document| state.on(&network.id).next().is_some();
        state.networks.values().filter(|network| filters.fits(network, is_used(network))).cloned().collect()
    }

    fn shown(&self, network: &Document, whole: bool) -> Value {
        let state = self.inner.state.lock();
        let on = state.on(&network.id).filter(|_| whole);
        let endpoints =
            on.map(|(member, attached)| attached.shown_in_network(&member.request.id, &member.request.name));
        network.shown(endpoints.collect())
    }

    fn inspect(&self, call: &Call<'_>, term: &str) -> Result<Response<Body>, Failure> {
        if let Some(verbose) = call.parameter("verbose").filter(|verbose| !verbose.is_empty()) {
            // What it adds is of services, which only a swarm has.
            if !matches!(
                verbose.as_str(),
                "1" | "t" | "T" | "true" | "TRUE" | "True" | "0" | "f" | "F" | "false" | "FALSE" | "False"
            ) {
                let why = format!("strconv.ParseBool: parsing {verbose:?}: invalid syntax");
                return Err(Failure::new(400, format!("invalid value for verbose: {verbose}: {why}")));
            }
        }
        let network = self.find(term)?;
        if call.parameter("scope").is_some_and(|scope| !scope.is_empty() && scope != "local") {
            return Err(Failure::new(404, format!("network {term} not found")));
        }
        Ok(reply::json(&self.shown(&network, true)))
    }

    async fn prune(&self, call: &Call<'_>) -> Result<Response<Body>, Failure> {
        let filters = Filters::of_prune(&call.parameter("filters").unwrap_or_default())?;
        let mut deleted = Vec::new();
        for network in self.fitting(&filters) {
            match self.delete(&network.id).await {
                Ok(()) => deleted.push(network.name.clone()),
                // Somebody came to use it, or removed it.
                Err(failure) => tracing::debug!(network = network.name, error = failure.message, "not pruned"),
            }
        }
        (self.inner.tell)("prune", "", [("reclaimed".to_owned(), "0".to_owned())].into());
        let deleted = (!deleted.is_empty()).then_some(deleted);
        Ok(reply::json(&json!({ "NetworksDeleted": deleted })))
    }

    async fn leave_network(&self, asked: &Disconnect, network: &str, find: Find<'_>) -> Result<(), Failure> {
        match find(&asked.container) {
            Ok(container) => self.disconnect(&container, network, asked.force).await,
            Err(_) if asked.force => {
                self.find(network)?;
                Err(Failure::new(404, format!("endpoint {} not found", asked.container)))
            }
            Err(failure) => Err(failure),
        }
    }
}

impl Call<'_> {
    fn parameter(&self, name: &str) -> Option<String> {
        let mut pairs = url::form_urlencoded::parse(self.query.as_bytes());
        pairs.find(|(found, _)| found == name).map(|(_, value)| value.into_owned())
    }

    /// The body's JSON without its nulls; the default where the body is empty.
    fn json<T: DeserializeOwned + Default>(&self) -> Result<T, Failure> {
        let invalid = |error: serde_json::Error| Failure::new(400, format!("invalid JSON: {error}"));
        if self.body.iter().all(u8::is_ascii_whitespace) {
            return Ok(T::default());
        }
        let mut document: Value = serde_json::from_slice(&self.body).map_err(invalid)?;
        strip_nulls(&mut document);
        if document.is_null() { Ok(T::default()) } else { serde_json::from_value(document).map_err(invalid) }
    }
}

fn strip_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(strip_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_nulls),
        _ => {}
    }
}

fn status(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = reply::json(value);
    *response.status_mut() = status;
    response
}

fn empty(status: StatusCode) -> Response<Body> {
    use http_body_util::{BodyExt, Empty};
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response
}
