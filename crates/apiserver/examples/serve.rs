use std::sync::Arc;
use std::time::Duration;
#[tokio::main]
async fn main() {
    let dir = std::path::PathBuf::from(std::env::args().nth(1).unwrap());
    let mut config = tug_apiserver::Config::new(dir.clone());
    config.listen = vec!["127.0.0.1:16443".parse().unwrap()];
    let started = std::time::Instant::now();
    let server =
        tug_apiserver::Server::start(config, Arc::new(tug_store::SqliteStore::open(dir.join("state.db")).unwrap()))
            .await
            .unwrap();
    eprintln!("started in {:?}", started.elapsed());
    let (cert, key) =
        server.pki().issue_client("kubernetes-admin", &["system:masters"], Duration::from_secs(3600)).unwrap();
    std::fs::write(dir.join("ca.pem"), server.pki().ca_pem()).unwrap();
    std::fs::write(dir.join("c.pem"), cert).unwrap();
    std::fs::write(dir.join("k.pem"), key).unwrap();
    std::fs::write(dir.join("config"), format!("apiVersion: v1\nkind: Config\ncurrent-context: t\ncontexts: [{{name: t, context: {{cluster: t, user: t}}}}]\nclusters: [{{name: t, cluster: {{server: 'https://127.0.0.1:16443', certificate-authority: {0}/ca.pem}}}}]\nusers: [{{name: t, user: {{client-certificate: {0}/c.pem, client-key: {0}/k.pem}}}}]\n", dir.display())).unwrap();
    std::future::pending::<()>().await
}
