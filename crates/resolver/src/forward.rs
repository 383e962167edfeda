//! Questions about other domains: sent to the upstream resolvers as they came, answered as they answer.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::runtime::Handle;
use tokio::time::timeout;

const PORT: u16 = 53;
/// An upstream is asked the next time at once, so this is short; glibc itself waits 5 s for us.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
const TRIES: usize = 2;
/// Header: id, flags, four counts.
pub(crate) const HEADER: usize = 12;

pub(crate) struct Forwarder {
    upstreams: Vec<SocketAddr>,
    runtime: Option<Handle>,
}

/// How the client asked, which is how upstream is asked: an answer too long for one is too long for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// The resolvers of a `resolv.conf`'s content, at most three as in glibc.
pub fn resolvers(resolv_conf: &str) -> Vec<SocketAddr> {
    let servers = resolv_conf.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next()? == "nameserver").then(|| words.next()).flatten()
    });
    let addresses = servers.filter_map(|server| server.parse::<IpAddr>().ok());
    addresses.take(3).map(|address| SocketAddr::new(address, PORT)).collect()
}

impl Forwarder {
    pub(crate) fn new(upstreams: Vec<SocketAddr>, runtime: Option<Handle>) -> Self {
        Self { upstreams, runtime }
    }

    /// The first answer to the question, as it came but for the id. `None` when nobody answers.
    pub(crate) async fn ask(&self, question: &[u8], transport: Transport) -> Option<Vec<u8>> {
        for upstream in std::iter::repeat_n(&self.upstreams, TRIES).flatten() {
            let (upstream, question) = (*upstream, question.to_vec());
            let asking = async move { timeout(ANSWER_TIMEOUT, exchange(upstream, &question, transport)).await };
            let answer = match &self.runtime {
                Some(runtime) => match runtime.spawn(asking).await {
                    Ok(answer) => answer,
                    Err(_) => return None,
                },
                None => asking.await,
            };
            match answer {
                Ok(Ok(answer)) => return Some(answer),
                Ok(Err(error)) => tracing::debug!(%upstream, %error, "upstream resolver failed"),
                Err(_) => tracing::debug!(%upstream, "upstream resolver is silent"),
            }
        }
        None
    }
}

async fn exchange(upstream: SocketAddr, question: &[u8], transport: Transport) -> io::Result<Vec<u8>> {
    // An id of our own and a port of the kernel's choice: whoever wants to forge an answer has both to guess.
    let mut asked = question.to_vec();
    let id: [u8; 2] = rand::random();
    asked[..2].copy_from_slice(&id);
    let mut answer = match transport {
        Transport::Udp => over_udp(upstream, &asked).await?,
        Transport::Tcp => over_tcp(upstream, &asked).await?,
    };
    answer[..2].copy_from_slice(&question[..2]);
    Ok(answer)
}

async fn over_udp(upstream: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = if upstream.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(upstream).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; 65535];
    loop {
        let len = socket.recv(&mut buffer).await?;
        // Something else, or forged: the true answer may still come.
        if len >= HEADER && buffer[..2] == question[..2] {
            buffer.truncate(len);
            return Ok(buffer);
        }
    }
}

async fn over_tcp(upstream: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(upstream).await?;
    let len = u16::try_from(question.len()).map_err(io::Error::other)?;
    let mut framed = len.to_be_bytes().to_vec();
    framed.extend_from_slice(question);
    stream.write_all(&framed).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    if answer.len() < HEADER || answer[..2] != question[..2] {
        return Err(io::Error::other("the answer is to another question"));
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_read_as_glibc_does() {
        let conf =
            "# nameserver 9.9.9.9\nsearch lan\n nameserver 127.0.0.53\nnameserver\t2001:db8::1 # two\nnameserver x\n";
        let expected: Vec<SocketAddr> =
            ["127.0.0.53:53", "[2001:db8::1]:53"].map(|address| address.parse().expect("an address")).into();
        assert_eq!(resolvers(conf), expected);
        assert_eq!(resolvers(&"nameserver 10.0.0.1\n".repeat(5)).len(), 3);
    }
}
