use std::net::SocketAddr;
use std::sync::Arc;

use http::{Response, StatusCode, header};
use http_body_util::Full;
use hyper::Request;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::{Target, handle};
use crate::auth::Access;
use crate::auth::fake::{Dir, Registry, access, pod};
use crate::pki::Pki;

/// Answers with the request's path and whether it came with credentials; echoes after an upgrade.
async fn echo(mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    if request.headers().contains_key(header::UPGRADE) {
        let upgraded = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let stream = TokioIo::new(upgraded.await.expect("an upgrade"));
            let (mut read, mut write) = tokio::io::split(stream);
            // The test ends the connection as it likes.
            tokio::io::copy(&mut read, &mut write).await.ok();
        });
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert(header::CONNECTION, "Upgrade".parse().expect("a value"));
        response.headers_mut().insert(header::UPGRADE, "websocket".parse().expect("a value"));
        return Ok(response);
    }
    let credentials = request.headers().contains_key(header::AUTHORIZATION);
    Ok(Response::new(Full::from(format!("{} credentials={credentials}", request.uri()))))
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) {
    // Connections end when their test does.
    http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(echo)).with_upgrades().await.ok();
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

/// A kubelet with a certificate of `authority`, which asks for its client's.
async fn kubelet(authority: &Pki) -> SocketAddr {
    let (cert, key) = authority.issue_server("n1", &["127.0.0.1".into()]).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(authority.client_verifier().expect("a verifier"))
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(cert.as_bytes()).expect("a certificate")],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key"),
        )
        .expect("a usable certificate");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                tokio::spawn(answer(stream));
            }
        }
    });
    address
}

/// Serves `target` alone, over plain HTTP.
async fn serve(access: Arc<Access>, target: Target<'static>) -> SocketAddr {
    let (listener, address) = listen().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let access = access.clone();
            let service = service_fn(move |request| {
                let access = access.clone();
                async move { Ok::<_, std::convert::Infallible>(handle(&access, target, request).await) }
            });
            tokio::spawn(async move {
                let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                connection.with_upgrades().await.ok();
            });
        }
    });
    address
}

fn cluster(node: SocketAddr) -> Arc<Access> {
    let registry = Registry::with(&[pod("ns", "p", json!({"nodeName": "n1", "containers": [{"name": "c"}]}))]);
    let access = Arc::new(access(&registry));
    place(&registry, node);
    access
}

fn place(registry: &Registry, node: SocketAddr) {
    registry.put(json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "n1"},
        "status": {
            "addresses": [{"type": "InternalIP", "address": node.ip()}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": node.port()}},
        },
    }));
}

/// An access whose authority also signed its kubelet.
async fn cluster_with_kubelet() -> Arc<Access> {
    let registry = Registry::with(&[pod("ns", "p", json!({"nodeName": "n1", "containers": [{"name": "c"}]}))]);
    let access = Arc::new(access(&registry));
    place(&registry, kubelet(&access.pki).await);
    access
}

const fn target(resource: &'static str, subresource: &'static str, name: &'static str) -> Target<'static> {
    Target { resource, subresource, namespace: "ns", name, rest: "" }
}

/// Sends a request head and reads the answer until its end.
async fn ask(address: SocketAddr, head: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let head = format!("GET {head}\r\nHost: x\r\nAuthorization: Bearer secret\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

async fn upgraded(address: SocketAddr, query: &str, protocol: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let head = format!(
        "GET /x?{query} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.expect("a whole head"));
    }
    (stream, String::from_utf8(answer).expect("text"))
}

#[tokio::test]
async fn a_log_comes_from_the_kubelet() {
    let access = cluster_with_kubelet().await;
    let address = serve(access, target("pods", "log", "p")).await;
    let answer = ask(address, "/x?follow=true&container=c HTTP/1.1").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.contains("/containerLogs/ns/p/c?follow=true credentials=false"), "{answer}");
}

#[tokio::test]
async fn an_upgrade_is_spliced_until_the_server_closes() {
    let access = cluster_with_kubelet().await;
    let address = serve(access.clone(), target("pods", "exec", "p")).await;
    let (mut stream, head) = upgraded(address, "command=sh&stdin=true", "websocket").await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    for text in ["hello", "again"] {
        stream.write_all(text.as_bytes()).await.expect("sent");
        let mut echoed = [0; 5];
        stream.read_exact(&mut echoed).await.expect("echoed");
        assert_eq!(echoed, text.as_bytes());
    }
    access.closing.cancel();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0, "it ends");
}

#[tokio::test]
async fn what_can_not_be_passed_on_is_refused() {
    let exec = target("pods", "exec", "p");
    let address = serve(cluster_with_kubelet().await, exec).await;
    let answer = ask(address, "/x?command=sh HTTP/1.1").await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("Upgrade request required"), "{answer}");

    let (listener, nobody) = listen().await;
    drop(listener);
    let address = serve(cluster(nobody), target("pods", "log", "p")).await;
    let answer = ask(address, "/x HTTP/1.1").await;
    assert!(answer.contains(&format!("error dialing backend: dial tcp {nobody}: Connection refused")), "{answer}");

    let dir = Dir::new();
    let foreign = Pki::load_or_create(&dir.0, &[]).expect("another authority");
    let address = serve(cluster(kubelet(&foreign).await), target("pods", "log", "p")).await;
    let answer = ask(address, "/x HTTP/1.1").await;
    assert!(answer.contains("error dialing backend: tls: invalid peer certificate"), "{answer}");
}

#[tokio::test]
async fn pods_and_services_are_proxied() {
    let (listener, backend) = listen().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    let mut web = pod("ns", "web", json!({"containers": [{"name": "c"}]}));
    web["status"] = json!({"podIP": backend.ip()});
    let service = |name: &str| {
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": "ns"},
            "spec": {"ports": [{"name": "http", "port": 80}]},
        })
    };
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "web-1", "namespace": "ns", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [
            {"addresses": ["192.0.2.1"], "conditions": {"ready": false}},
            {"addresses": [backend.ip()], "conditions": {"ready": true}},
        ],
        "ports": [{"name": "http", "port": backend.port()}],
    });
    let access = Arc::new(access(&Registry::with(&[web, service("web"), service("idle"), slice])));
    let by_port: &'static str = Box::leak(format!("http:web:{}", backend.port()).into_boxed_str());
    let cases = [
        ("pods", by_port, "/a%20b/c", "/a%20b/c?q=1 credentials=false"),
        ("services", "web", "", "/?q=1 credentials=false"),
        ("services", "web:http", "/a", "/a?q=1 credentials=false"),
        ("services", "http:web:80", "/a", "/a?q=1 credentials=false"),
        ("services", "idle", "/a", r#"no endpoints available for service \"idle\""#),
        ("services", "web:other", "/a", r#"no service port \"other\" found for service \"web\""#),
        ("services", "none", "/a", r#"services \"none\" not found"#),
        ("services", "https:web:http", "/a", "service proxying over https is not served yet"),
    ];
    for (resource, name, rest, expected) in cases {
        let address = serve(access.clone(), Target { rest, ..target(resource, "proxy", name) }).await;
        let answer = ask(address, "/x?q=1 HTTP/1.1").await;
        assert!(answer.contains(expected), "{resource} {name}: {answer}");
    }
}
