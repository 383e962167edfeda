use std::net::Ipv4Addr;
use std::str::FromStr;

use std::time::Duration;

use hickory_proto::op::{Edns, Message};
use hickory_proto::rr::rdata::{A, CNAME};
use hickory_proto::rr::{RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::*;
use crate::listen::response_to;

const LOOPBACK: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

/// `cluster.local`, with what the cases ask for.
struct Cluster;

impl Zone for Cluster {
    fn answer(&self, query: &Query) -> Answer {
        let name = query.name().to_string();
        let record = |data| Record::from_rdata(query.name().clone(), 5, data);
        let alias = |target: &str| {
            let target = Name::from_str(target).expect("a name");
            Answer::Alias { record: Box::new(record(RData::CNAME(CNAME(target.clone())))), target }
        };
        let here = |addresses: Vec<Ipv4Addr>| {
            let answers = addresses.into_iter().map(|address| record(RData::A(A(address)))).collect();
            Answer::Here(Here { answers, ..Here::default() })
        };
        match name.strip_suffix(".shop.svc.cluster.local.") {
            None => Answer::Elsewhere,
            Some("web") => here(vec![[10, 96, 3, 4].into()]),
            Some("many") => here((0..200).map(|n| [10, 96, 9, n].into()).collect()),
            Some("alias") => alias("web.shop.svc.cluster.local."),
            Some("away") => alias("example.com."),
            Some(_) => Answer::Here(Here { code: ResponseCode::NXDomain, ..Here::default() }),
        }
    }
}

/// A server on a port of loopback, and its listeners.
async fn server(upstreams: Vec<SocketAddr>) -> (SocketAddr, JoinSet<()>) {
    let sockets = Sockets::bind(LOOPBACK.into()).await.expect("a free port");
    let address = sockets.local_address().expect("it is bound");
    let mut tasks = JoinSet::new();
    Server::new(Arc::new(Cluster), upstreams, None).serve(sockets, &mut tasks);
    (address, tasks)
}

/// A resolver that has one record for every name, and says by it how it was asked: the last octet is 1 over UDP, where
/// it truncates when `cuts`, and 2 over TCP.
async fn upstream(cuts: bool) -> (SocketAddr, JoinSet<()>) {
    let sockets = Sockets::bind(LOOPBACK.into()).await.expect("a free port");
    let address = sockets.local_address().expect("it is bound");
    let reply = move |question: &[u8], last: u8| {
        let asked = Message::from_vec(question).expect("a question");
        let mut response = response_to(&asked);
        response.metadata.truncation = cuts && last == 1;
        let record = RData::A(A([192, 0, 2, last].into()));
        response.add_answer(Record::from_rdata(asked.queries[0].name().clone(), 60, record));
        response.to_vec().expect("encoded")
    };
    let mut tasks = JoinSet::new();
    let (udp, tcp) = (sockets.udp, sockets.tcp);
    tasks.spawn(async move {
        let mut buffer = [0; 1500];
        loop {
            let (len, client) = udp.recv_from(&mut buffer).await.expect("received");
            udp.send_to(&reply(&buffer[..len], 1), client).await.expect("sent");
        }
    });
    tasks.spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.expect("accepted");
            let mut question = vec![0; usize::from(stream.read_u16().await.expect("framed"))];
            stream.read_exact(&mut question).await.expect("read");
            let answer = reply(&question, 2);
            stream.write_u16(answer.len() as u16).await.expect("written");
            stream.write_all(&answer).await.expect("written");
        }
    });
    (address, tasks)
}

fn question(name: &str, payload: Option<u16>) -> Vec<u8> {
    let mut message = Message::query();
    message.metadata.id = 4711;
    message.add_query(Query::query(Name::from_str(name).expect("a name"), RecordType::A));
    if let Some(payload) = payload {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        message.set_edns(edns);
    }
    message.to_vec().expect("encoded")
}

async fn ask_bytes(server: SocketAddr, question: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind(LOOPBACK).await.expect("a free port");
    socket.connect(server).await.expect("connected");
    socket.send(question).await.expect("sent");
    let mut buffer = vec![0; 65535];
    let len = timeout(Duration::from_secs(20), socket.recv(&mut buffer)).await.expect("in time").expect("received");
    buffer.truncate(len);
    buffer
}

async fn ask(server: SocketAddr, name: &str, payload: Option<u16>) -> Message {
    Message::from_vec(&ask_bytes(server, &question(name, payload)).await).expect("a message")
}

async fn ask_tcp(server: SocketAddr, names: &[&str]) -> Vec<Message> {
    let mut stream = TcpStream::connect(server).await.expect("connected");
    let mut answers = Vec::new();
    for name in names {
        let question = question(name, None);
        stream.write_u16(question.len() as u16).await.expect("written");
        stream.write_all(&question).await.expect("written");
        let mut answer = vec![0; usize::from(stream.read_u16().await.expect("framed"))];
        stream.read_exact(&mut answer).await.expect("read");
        answers.push(Message::from_vec(&answer).expect("a message"));
    }
    answers
}

fn records(message: &Message) -> Vec<String> {
    message.answers.iter().map(|record| record.data.to_string()).collect()
}

#[tokio::test]
async fn over_udp_and_tcp() {
    let (server, _tasks) = server(vec![]).await;
    let answer = ask(server, "web.shop.svc.cluster.local.", None).await;
    assert_eq!(answer.metadata.id, 4711);
    assert!(answer.metadata.authoritative && answer.metadata.recursion_available);
    assert_eq!(records(&answer), ["10.96.3.4"]);
    assert!(answer.edns.is_none(), "a client that doesn't speak EDNS gets none");

    let both = ask_tcp(server, &["web.shop.svc.cluster.local.", "none.shop.svc.cluster.local."]).await;
    assert_eq!(records(&both[0]), ["10.96.3.4"]);
    assert_eq!(both[1].metadata.response_code, ResponseCode::NXDomain);
}

#[tokio::test]
async fn long_answers_are_cut_to_what_the_client_takes() {
    let (server, _tasks) = server(vec![]).await;
    let name = "many.shop.svc.cluster.local.";
    for (payload, most) in [(None, 512), (Some(1000), 1000), (Some(4096), 1232)] {
        let bytes = ask_bytes(server, &question(name, payload)).await;
        let answer = Message::from_vec(&bytes).expect("a message");
        assert!(answer.metadata.truncation && bytes.len() <= most && answer.answers.len() > 10, "{payload:?}");
    }
    let whole = &ask_tcp(server, &[name]).await[0];
    assert_eq!((whole.answers.len(), whole.metadata.truncation), (200, false));
}

#[tokio::test]
async fn other_names_are_asked_upstream_as_the_client_asked() {
    // A port of loopback that nobody listens on refuses at once: the next is asked.
    let dead = UdpSocket::bind(LOOPBACK).await.expect("a free port").local_addr().expect("bound");
    let (alive, _upstream) = upstream(true).await;
    let (server, _tasks) = server(vec![dead, alive]).await;
    let answer = ask(server, "example.com.", None).await;
    assert_eq!((answer.metadata.id, answer.metadata.truncation), (4711, true));
    assert_eq!(records(&answer), ["192.0.2.1"]);
    assert_eq!(records(&ask_tcp(server, &["example.com."]).await[0]), ["192.0.2.2"]);
}

#[tokio::test]
async fn aliases_are_followed() {
    let (upstream, _upstream) = upstream(true).await;
    let (server, _tasks) = server(vec![upstream]).await;
    let inside = ask(server, "alias.shop.svc.cluster.local.", None).await;
    assert_eq!(records(&inside), ["web.shop.svc.cluster.local.", "10.96.3.4"]);
    let outside = ask(server, "away.shop.svc.cluster.local.", None).await;
    assert_eq!(records(&outside), ["example.com.", "192.0.2.2"], "asked again over TCP, for the first was cut");
}

#[tokio::test]
async fn without_a_resolver_other_names_fail_and_nonsense_is_refused() {
    let (server, _tasks) = server(vec![]).await;
    assert_eq!(ask(server, "example.com.", None).await.metadata.response_code, ResponseCode::ServFail);
    let mut garbled = question("web.shop.svc.cluster.local.", None);
    garbled.truncate(20);
    let answer = Message::from_vec(&ask_bytes(server, &garbled).await).expect("a message");
    assert_eq!((answer.metadata.id, answer.metadata.response_code), (4711, ResponseCode::FormErr));
}
