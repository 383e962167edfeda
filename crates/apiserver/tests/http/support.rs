//! A server of its own for each test, and a client that speaks to it over TLS as anybody would.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Certificate, Client, Identity, Method, RequestBuilder, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use tug_apiserver::{Config, Server};
use tug_store::SqliteStore;

pub struct Api {
    pub server: Arc<Server>,
    pub client: Client,
    pub address: String,
    _dir: TempDir,
}

/// What came back.
pub struct Answer {
    pub code: StatusCode,
    pub warnings: Vec<String>,
    pub body: Value,
}

impl Api {
    pub async fn start() -> Self {
        // Another test of this process may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = TempDir::new().expect("a directory");
        let mut config = Config::new(dir.path().to_owned());
        config.listen = vec!["127.0.0.1:0".parse().expect("an address")];
        let store = SqliteStore::open(dir.path().join("state.db")).expect("a store");
        let server = Server::start(config, Arc::new(store)).await.expect("a server");
        let address = format!("https://{}", server.addresses()[0]);
        let life = Duration::from_secs(3600);
        let (certificate, key) = server.pki().issue_client("admin", &["system:masters"], life).expect("a certificate");
        let client = client(&server, Some(Identity::from_pem((certificate + &key).as_bytes()).expect("an identity")));
        Self { server, client, address, _dir: dir }
    }

    /// Somebody without credentials.
    pub fn nobody(&self) -> Client {
        client(&self.server, None)
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.address))
    }

    pub async fn get(&self, path: &str) -> Answer {
        answer(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        answer(self.request(Method::POST, path).json(body)).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        answer(self.request(Method::PUT, path).json(body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        answer(self.request(Method::DELETE, path)).await
    }

    /// `kind` is `json`, `merge` or `strategic-merge`.
    pub async fn patch(&self, path: &str, kind: &str, body: &Value) -> Answer {
        let media_type = format!("application/{kind}-patch+json");
        answer(self.request(Method::PATCH, path).header("content-type", media_type).body(body.to_string())).await
    }
}

fn client(server: &Server, identity: Option<Identity>) -> Client {
    let authority = Certificate::from_pem(server.pki().ca_pem().as_bytes()).expect("an authority");
    let builder = Client::builder().tls_certs_only([authority]).no_proxy();
    let builder = match identity {
        Some(identity) => builder.identity(identity),
        None => builder,
    };
    builder.build().expect("a client")
}

pub async fn answer(request: RequestBuilder) -> Answer {
    let response = request.send().await.expect("an answer");
    let code = response.status();
    let warnings = response.headers().get_all("warning").iter().map(|w| w.to_str().expect("text").to_owned()).collect();
    let text = response.text().await.expect("a body");
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Answer { code, warnings, body }
}

impl Answer {
    /// The body, if the request succeeded.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!(self.code.is_success(), "{} {}", self.code, self.body);
        self.body
    }

    /// Code, reason and message, if it failed.
    #[track_caller]
    pub fn failed(&self) -> (u16, &str, &str) {
        assert!(!self.code.is_success(), "{} {}", self.code, self.body);
        let text = |field: &str| self.body[field].as_str().unwrap_or_default();
        (self.code.as_u16(), text("reason"), text("message"))
    }
}
