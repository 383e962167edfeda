//! Questions over UDP and TCP, and their answers, cut to what the client can take.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::DNSClass;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::forward::{HEADER, Transport};
use crate::{Answer, Here, Server};

/// Questions in work for one address; past it a UDP question is dropped, and its client asks again.
const CONCURRENT_QUESTIONS: usize = 1000;
/// TCP connections to one address; past it new ones wait.
const CONCURRENT_CONNECTIONS: usize = 200;
const IDLE_CONNECTION: Duration = Duration::from_secs(10);
/// What a client takes over UDP that says nothing of it (RFC 1035).
const UDP_LEAST: u16 = 512;
/// What we say that we take, and the most that we send over UDP: no fragments on any path (DNS flag day 2020).
const UDP_MOST: u16 = 1232;
/// How many times an alias may lead to another.
const ALIASES: usize = 8;

/// One port, for UDP and TCP.
pub struct Sockets {
    pub(crate) udp: Arc<UdpSocket>,
    pub(crate) tcp: TcpListener,
}

impl Sockets {
    /// # Errors
    /// If the address can't be listened on.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let tcp = TcpListener::bind(address).await?;
        // The same port for both, also when the kernel chose it.
        let udp = Arc::new(UdpSocket::bind(tcp.local_addr()?).await?);
        Ok(Self { udp, tcp })
    }

    /// Of sockets that are bound to one port already, in another network namespace for one.
    ///
    /// # Errors
    /// If they can't be waited for.
    pub fn new(udp: std::net::UdpSocket, tcp: std::net::TcpListener) -> io::Result<Self> {
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        Ok(Self { udp: Arc::new(UdpSocket::from_std(udp)?), tcp: TcpListener::from_std(tcp)? })
    }

    /// # Errors
    /// As [`Sockets::bind`].
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

impl Server {
    /// Serves until the tasks are dropped.
    pub fn serve(self: &Arc<Self>, sockets: Sockets, tasks: &mut JoinSet<()>) {
        tasks.spawn(serve_udp(sockets.udp, self.clone()));
        tasks.spawn(serve_tcp(sockets.tcp, self.clone()));
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, server: Arc<Server>) {
    let permits = Arc::new(Semaphore::new(CONCURRENT_QUESTIONS));
    let mut tasks = JoinSet::new();
    let mut buffer = vec![0; 65535];
    let mut dropped = 0u64;
    loop {
        let (len, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // A client that is gone (its ICMP error arrives here), or no memory: neither ends the service.
            Err(error) => {
                tracing::debug!(%error, "receiving a DNS question");
                tokio::task::yield_now().await;
                continue;
            }
        };
        while tasks.try_join_next().is_some() {}
        let Ok(permit) = permits.clone().try_acquire_owned() else {
            dropped += 1;
            tracing::warn!(dropped, "too many DNS questions at once");
            continue;
        };
        let (socket, server, question) = (socket.clone(), server.clone(), buffer[..len].to_vec());
        tasks.spawn(async move {
            if let Some(answer) = server.answer(&question, Transport::Udp).await
                && let Err(error) = socket.send_to(&answer, client).await
            {
                tracing::debug!(%client, %error, "sending a DNS answer");
            }
            drop(permit);
        });
    }
}

async fn serve_tcp(listener: TcpListener, server: Arc<Server>) {
    let permits = Arc::new(Semaphore::new(CONCURRENT_CONNECTIONS));
    let mut tasks = JoinSet::new();
    loop {
        let permit = permits.clone().acquire_owned().await.expect("the semaphore is never closed");
        while tasks.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, client)) => {
                let server = server.clone();
                tasks.spawn(async move {
                    if let Err(error) = serve_connection(stream, &server).await {
                        tracing::debug!(%client, %error, "DNS over TCP");
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of file descriptors, most likely: others must end first.
                tracing::warn!(%error, "accepting a DNS connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve_connection(mut stream: TcpStream, server: &Server) -> io::Result<()> {
    loop {
        let question = async {
            let mut question = vec![0; usize::from(stream.read_u16().await?)];
            stream.read_exact(&mut question).await?;
            io::Result::Ok(question)
        };
        let question = match timeout(IDLE_CONNECTION, question).await {
            Ok(Ok(question)) => question,
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Ok(()),
        };
        let Some(answer) = server.answer(&question, Transport::Tcp).await else {
            return Ok(());
        };
        let len = u16::try_from(answer.len()).map_err(io::Error::other)?;
        let mut framed = len.to_be_bytes().to_vec();
        framed.extend_from_slice(&answer);
        timeout(IDLE_CONNECTION, stream.write_all(&framed)).await??;
    }
}

impl Server {
    /// The answer to a question as it came; `None` for what is no question at all.
    async fn answer(&self, question: &[u8], transport: Transport) -> Option<Vec<u8>> {
        if question.len() < HEADER {
            return None;
        }
        let Ok(asked) = Message::from_vec(question) else {
            let id = u16::from_be_bytes([question[0], question[1]]);
            return Message::error_msg(id, OpCode::Query, ResponseCode::FormErr).to_vec().ok();
        };
        if asked.metadata.message_type != MessageType::Query {
            return None;
        }
        let mut response = response_to(&asked);
        let [query] = asked.queries.as_slice() else {
            response.metadata.response_code = ResponseCode::FormErr;
            return encode(response, &asked, transport);
        };
        if asked.metadata.op_code != OpCode::Query {
            response.metadata.response_code = ResponseCode::NotImp;
            return encode(response, &asked, transport);
        }
        let answer = match query.query_class() {
            DNSClass::IN => self.zone.answer(query),
            _ => Answer::Elsewhere,
        };
        match answer {
            Answer::Elsewhere => {
                if let Some(answer) = self.forwarder.ask(question, transport).await {
                    return Some(answer);
                }
                response.metadata.response_code = ResponseCode::ServFail;
            }
            Answer::Unknown => response.metadata.response_code = ResponseCode::ServFail,
            Answer::Here(here) => fill(&mut response, here),
            Answer::Alias { record, target } => {
                response.metadata.authoritative = true;
                response.add_answer(*record);
                let target = Query::query(target, query.query_type());
                response.metadata.response_code = self.follow_alias(&mut response, target).await;
            }
        }
        encode(response, &asked, transport)
    }

    /// Adds what an alias's target stands for: clients leave following it to us.
    async fn follow_alias(&self, response: &mut Message, mut target: Query) -> ResponseCode {
        for _ in 0..ALIASES {
            let answer = self.zone.answer(&target);
            match answer {
                Answer::Unknown => return ResponseCode::ServFail,
                Answer::Here(here) => {
                    let code = here.code;
                    fill(response, here);
                    return code;
                }
                Answer::Alias { record, target: next } => {
                    response.add_answer(*record);
                    target = Query::query(next, target.query_type());
                }
                Answer::Elsewhere => {
                    let mut question = Message::query();
                    question.metadata.recursion_desired = true;
                    question.add_query(target);
                    let Ok(question) = question.to_vec() else { return ResponseCode::ServFail };
                    let mut answer = self.forwarder.ask(&question, Transport::Udp).await;
                    // Half an answer still beats none where a resolver has no TCP.
                    if answer.as_ref().is_some_and(|answer| is_truncated(answer)) {
                        answer = self.forwarder.ask(&question, Transport::Tcp).await.or(answer);
                    }
                    let Some(answer) = answer.and_then(|answer| Message::from_vec(&answer).ok()) else {
                        return ResponseCode::ServFail;
                    };
                    response.metadata.authoritative = false;
                    response.add_answers(answer.answers);
                    return answer.metadata.response_code;
                }
            }
        }
        ResponseCode::ServFail
    }
}

/// The `TC` bit.
fn is_truncated(message: &[u8]) -> bool {
    message[2] & 0x02 != 0
}

pub(crate) fn response_to(asked: &Message) -> Message {
    let mut response = Message::response(asked.metadata.id, asked.metadata.op_code);
    response.metadata.recursion_desired = asked.metadata.recursion_desired;
    response.metadata.recursion_available = true;
    response.add_queries(asked.queries.iter().cloned());
    if asked.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_MOST);
        response.set_edns(edns);
    }
    response
}

fn fill(response: &mut Message, here: Here) {
    response.metadata.authoritative = true;
    response.metadata.response_code = here.code;
    response.add_answers(here.answers);
    response.add_authorities(here.authorities);
    response.add_additionals(here.additionals);
}

/// Cut to what the client takes: additional records first, then as many answers as must go, with the bit that says so.
/// Some answers are better than none: there are resolvers that never ask again over TCP.
fn encode(mut response: Message, asked: &Message, transport: Transport) -> Option<Vec<u8>> {
    let most = match transport {
        Transport::Tcp => usize::from(u16::MAX),
        Transport::Udp => {
            let said = asked.edns.as_ref().map_or(UDP_LEAST, Edns::max_payload);
            usize::from(said.clamp(UDP_LEAST, UDP_MOST))
        }
    };
    let mut bytes = response.to_vec().ok()?;
    while bytes.len() > most {
        if response.additionals.is_empty() {
            response.metadata.truncation = true;
            response.answers.truncate(response.answers.len() * 3 / 4);
            if response.answers.is_empty() {
                response.authorities.clear();
                return response.to_vec().ok();
            }
        }
        response.additionals.clear();
        bytes = response.to_vec().ok()?;
    }
    Some(bytes)
}
