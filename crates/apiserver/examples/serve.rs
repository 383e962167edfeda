//! An API server alone, to be tried with a client of one's choice: `serve DIRECTORY [ADDRESS]`. The administrator's
//! kubeconfig is written into the directory.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use tug_apiserver::{Config, Server};
use tug_store::SqliteStore;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).init();
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().ok_or("usage: serve DIRECTORY [ADDRESS]")?);
    let address: SocketAddr = arguments.next().unwrap_or("127.0.0.1:16443".into()).parse()?;
    std::fs::create_dir_all(&directory)?;

    let started = Instant::now();
    let mut config = Config::new(directory.clone());
    config.listen = vec![address];
    let store = SqliteStore::open(directory.join("state.db"))?;
    let server = Server::start(config, Arc::new(store)).await?;
    eprintln!("answers after {:?}", started.elapsed());

    let life = Duration::from_secs(24 * 60 * 60);
    let (certificate, key) = server.pki().issue_client("kubernetes-admin", &["system:masters"], life)?;
    let base64 = |text: &str| BASE64_STANDARD.encode(text);
    let cluster = json!({
        "server": format!("https://{}", server.addresses()[0]),
        "certificate-authority-data": base64(server.pki().ca_pem()),
    });
    let user = json!({ "client-certificate-data": base64(&certificate), "client-key-data": base64(&key) });
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "serve",
        "contexts": [{ "name": "serve", "context": { "cluster": "serve", "user": "serve" } }],
        "clusters": [{ "name": "serve", "cluster": cluster }],
        "users": [{ "name": "serve", "user": user }],
    });
    let path = directory.join("kubeconfig");
    std::fs::write(&path, kubeconfig.to_string())?;
    eprintln!("KUBECONFIG={}", path.display());
    tokio::signal::ctrl_c().await?;
    server.shutdown().await;
    Ok(())
}
