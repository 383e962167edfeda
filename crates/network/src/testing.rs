//! Network namespaces of a test's own, with real servers and clients in them. They end with their last user.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};

use crate::links::{self, Connection};
use crate::netns;

/// Far longer than any answer takes; only a lost packet waits for it.
const LOST: Duration = Duration::from_secs(3);

/// Cheap to clone; all clones are one namespace.
#[derive(Clone)]
pub(crate) struct Namespace(Arc<File>);

impl Namespace {
    pub(crate) fn new() -> Self {
        let file = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("tests run as root");
            links::set_up("lo").expect("lo goes up");
            File::open("/proc/thread-self/ns/net").expect("a thread has a namespace")
        });
        Self(Arc::new(file.join().expect("the thread ends")))
    }

    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd()).into()
    }

    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        netns::run(self, || Ok(work())).expect("the namespace can be entered")
    }

    /// Hangs `outer` on a bridge of this namespace: `outer` is `address`, this side is the bridge's own.
    pub(crate) fn uplink(&self, outer: &Namespace, bridge: &str, own: &str, address: &str) {
        let own: ipnet::Ipv4Net = own.parse().expect("a net");
        self.run(|| {
            links::ensure_bridge(bridge, own, 1500).expect("a bridge");
            let connection = Connection {
                link: "tugtest0",
                bridge,
                address: address.parse().expect("a net"),
                gateway: own.addr(),
                mtu: 1500,
            };
            links::connect(&connection, outer).expect("a pair");
        });
    }

    /// Gives a link of this namespace one more address.
    pub(crate) fn give(&self, link: &str, address: &str) {
        let address: ipnet::IpNet = address.parse().expect("a net");
        self.run(|| links::add_address(link, address)).expect("given");
    }

    /// Listens on a TCP port of all addresses and tells each client its own address and `name`.
    pub(crate) fn serve(&self, port: u16, name: &'static str) {
        let listener = self.run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).expect("a free port"));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let peer = stream.peer_addr().expect("it is connected").ip().to_canonical();
                // A client that is gone already needs no answer.
                let _ = write!(stream, "{name} {peer}");
            }
        });
    }

    /// Listens on a TCP port and says what its one client says, for as long as that client is there.
    pub(crate) fn echo(&self, port: u16) {
        let listener = self.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("a free port"));
        std::thread::spawn(move || {
            let (mut reader, _) = listener.accept()?;
            let mut writer = reader.try_clone()?;
            io::copy(&mut reader, &mut writer)
        });
    }

    /// As [`Namespace::serve`], for UDP.
    pub(crate) fn serve_udp(&self, port: u16, name: &'static str) {
        let socket = self.run(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).expect("a free port"));
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
                // A client that is gone already needs no answer.
                let _ = socket.send_to(format!("{name} {}", peer.ip().to_canonical()).as_bytes(), peer);
            }
        });
    }

    /// A connection whose answers are waited for as long as [`Namespace::ask`] waits.
    pub(crate) fn connect(&self, address: &str) -> TcpStream {
        let address: SocketAddr = address.parse().expect("an address");
        let stream = self.run(|| TcpStream::connect_timeout(&address, LOST)).expect("somebody listens");
        stream.set_read_timeout(Some(LOST)).expect("it can be set");
        stream
    }

    /// What a server at `address` answers to a client in this namespace.
    pub(crate) fn ask(&self, address: &str) -> io::Result<String> {
        let address: SocketAddr = address.parse().expect("an address");
        self.run(|| {
            let mut stream = TcpStream::connect_timeout(&address, LOST)?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        })
    }

    pub(crate) fn ask_udp(&self, address: &str) -> io::Result<String> {
        let address: SocketAddr = address.parse().expect("an address");
        self.run(|| {
            let own: IpAddr =
                if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            let socket = UdpSocket::bind((own, 0))?;
            socket.set_read_timeout(Some(LOST))?;
            socket.connect(address)?;
            socket.send(b"?")?;
            let mut buffer = [0; 64];
            let len = socket.recv(&mut buffer)?;
            Ok(String::from_utf8_lossy(&buffer[..len]).into_owned())
        })
    }
}

impl std::os::fd::AsFd for Namespace {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}
