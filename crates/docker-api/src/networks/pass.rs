//! What comes in by a published port's own socket, since the kernel has no way to lead it on, is passed on from here.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Connections that one port passes on at once; further ones wait.
const CONNECTIONS: usize = 256;
/// Clients of a UDP port at once; packets of further ones are dropped.
const CLIENTS: usize = 256;
/// A client that is silent for so long starts anew. moby's.
const SILENCE: Duration = Duration::from_secs(90);
const LONGEST_PACKET: usize = 65535;

/// The container's address, which changes with the networks that it is on.
#[derive(Clone, Default)]
pub struct Target(Arc<Mutex<Option<IpAddr>>>);

impl Target {
    pub fn set(&self, target: Option<IpAddr>) {
        *self.0.lock() = target;
    }

    fn get(&self) -> Option<IpAddr> {
        *self.0.lock()
    }
}

/// # Errors
/// If the socket can't be waited for.
pub fn tcp(listener: std::net::TcpListener, target: Target, port: u16, tasks: &mut JoinSet<()>) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    tasks.spawn(pass_connections(listener, target, port));
    Ok(())
}

/// # Errors
/// If the socket can't be waited for.
pub fn udp(socket: std::net::UdpSocket, target: Target, port: u16, tasks: &mut JoinSet<()>) -> io::Result<()> {
    let socket = Arc::new(UdpSocket::from_std(socket)?);
    tasks.spawn(pass_packets(socket, target, port));
    Ok(())
}

async fn pass_connections(listener: TcpListener, target: Target, port: u16) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
        while connections.try_join_next().is_some() {}
        let mut client = match listener.accept().await {
            Ok((client, _)) => client,
            Err(error) => {
                // Out of file descriptors, most likely: others must end first.
                tracing::warn!(%error, "accepting on a published port");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(target) = target.get() else { continue };
        connections.spawn(async move {
            let passed = async {
                let mut server = TcpStream::connect((target, port)).await?;
                tokio::io::copy_bidirectional(&mut client, &mut server).await
            };
            if let Err(error) = passed.await {
                tracing::debug!(%target, port, %error, "passing a connection on");
            }
            drop(place);
        });
    }
}

type Clients = Arc<Mutex<HashMap<SocketAddr, Arc<UdpSocket>>>>;

async fn pass_packets(socket: Arc<UdpSocket>, target: Target, port: u16) {
    let clients = Clients::default();
    let mut tasks = JoinSet::new();
    let mut buffer = vec![0; LONGEST_PACKET];
    loop {
        let (len, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // A client that is gone (its ICMP error arrives here), or no memory: neither ends the service.
            Err(error) => {
                tracing::debug!(%error, "receiving on a published port");
                tokio::task::yield_now().await;
                continue;
            }
        };
        while tasks.try_join_next().is_some() {}
        let known = clients.lock().get(&client).cloned();
        let server = match known {
            Some(server) => server,
            None if clients.lock().len() == CLIENTS => continue,
            None => {
                let Some(target) = target.get() else { continue };
                let server = match dial(SocketAddr::new(target, port)).await {
                    Ok(server) => Arc::new(server),
                    Err(error) => {
                        tracing::debug!(%target, port, %error, "passing a packet on");
                        continue;
                    }
                };
                clients.lock().insert(client, server.clone());
                tasks.spawn(pass_back(socket.clone(), clients.clone(), client, server.clone()));
                server
            }
        };
        if let Err(error) = server.send(&buffer[..len]).await {
            tracing::debug!(%client, port, %error, "passing a packet on");
        }
    }
}

async fn dial(server: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    Ok(socket)
}

/// Until the server is silent for long, or can't be reached.
async fn pass_back(socket: Arc<UdpSocket>, clients: Clients, client: SocketAddr, server: Arc<UdpSocket>) {
    let mut buffer = vec![0; LONGEST_PACKET];
    while let Ok(Ok(len)) = timeout(SILENCE, server.recv(&mut buffer)).await {
        if let Err(error) = socket.send_to(&buffer[..len], client).await {
            tracing::debug!(%client, %error, "passing a packet back");
        }
    }
    clients.lock().remove(&client);
}
