//! Shell: the listening socket on the FT VLAN, and requests to the peer.

use std::io;
use std::net::{SocketAddr, SocketAddrV6};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::wire::{self, Ask, Reply, Request};
use crate::secure::task::{Stream, StreamError};
use crate::secure::{Keys, Purpose, SecureError};

/// TCP port on the FT VLAN.
pub const PORT: u16 = 24_906;
const SERVICE: &str = "config-sync";
/// Longest exchange, the change of the peer's configuration included.
const DEADLINE: Duration = Duration::from_secs(60);

/// The peer as the election knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Link-local, with its scope, and [`PORT`].
    pub address: SocketAddrV6,
    /// Boot nonce.
    pub nonce: u64,
}

/// What does not change while the daemon runs, and the peer.
#[derive(Debug)]
pub struct Link {
    /// FT group.
    pub group: u8,
    /// This node's boot nonce.
    pub nonce: u64,
    /// The FT port, as the kernel calls it.
    pub interface: String,
    keys: Mutex<Keys>,
    peer: Mutex<Option<Peer>>,
}

/// Why the peer did not answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// None is heard.
    #[error("no peer is heard on the FT VLAN")]
    NoPeer,
    /// It does not answer in time.
    #[error("the peer did not answer within {} s", DEADLINE.as_secs())]
    Deadline,
    /// The configuration is too large.
    #[error("the configuration is larger than {} octets", wire::LENGTH_MAX)]
    TooLarge,
    /// Its answer is not understood.
    #[error("the peer's answer is not understood: {0}")]
    Garbled(String),
    /// The keys of both nodes do not go together.
    #[error("no exchange with the peer: {0}")]
    Secure(SecureError),
    /// The connection.
    #[error("the peer cannot be reached: {0}")]
    Io(#[from] io::Error),
}

impl From<StreamError> for AskError {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Io(error) => Self::Io(error),
            StreamError::Secure(error) => Self::Secure(error),
        }
    }
}

impl Link {
    /// Without a peer yet.
    #[must_use]
    pub const fn new(group: u8, nonce: u64, interface: String, keys: Keys) -> Self {
        Self { group, nonce, interface, keys: Mutex::new(keys), peer: Mutex::new(None) }
    }

    /// The group's keys from the next exchange on.
    pub fn set_keys(&self, keys: Keys) {
        *self.keys.lock().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    fn keys(&self) -> Keys {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    const fn purpose(&self, from: u64, to: u64) -> Purpose {
        Purpose { service: SERVICE, group: self.group, from, to }
    }

    /// The election hears this peer now, or none.
    pub fn set_peer(&self, peer: Option<Peer>) {
        *self.peer.lock().unwrap_or_else(PoisonError::into_inner) = peer;
    }

    fn peer(&self) -> Option<Peer> {
        *self.peer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the peer.
    ///
    /// # Errors
    /// If it does not answer; what it refuses is an answer.
    pub async fn ask(&self, ask: Ask) -> Result<Reply, AskError> {
        let peer = self.peer().ok_or(AskError::NoPeer)?;
        let request = Request { group: self.group, from: self.nonce, to: peer.nonce, ask };
        let octets = wire::encode(&request).ok_or(AskError::TooLarge)?;
        let exchange = async {
            let socket = TcpSocket::new_v6()?;
            socket.bind_device(Some(self.interface.as_bytes()))?;
            let socket = socket.connect(SocketAddr::V6(peer.address)).await?;
            let purpose = self.purpose(self.nonce, peer.nonce);
            let mut stream = Stream::connect(socket, &self.keys(), &purpose).await?;
            stream.writer.write_all(&octets).await?;
            let body = receive(&mut stream).await?;
            wire::decode(&body).map_err(|error| AskError::Garbled(error.to_string()))
        };
        timeout(DEADLINE, exchange).await.map_err(|_| AskError::Deadline)?
    }

    /// Why a request from `address` is not answered.
    fn stranger(&self, address: SocketAddr, request: &Request) -> Option<&'static str> {
        let Some(peer) = self.peer() else { return Some("no peer is known") };
        let SocketAddr::V6(address) = address else { return Some("not by IPv6") };
        if address.ip() != peer.address.ip() || request.from != peer.nonce {
            return Some("not from the peer");
        }
        (request.group != self.group || request.to != self.nonce).then_some("not for this boot of this node")
    }
}

/// The running server; dropping it ends it.
#[derive(Debug)]
pub struct Server(JoinHandle<()>);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Answers the peer's requests by `answer`, which may block. Must be called within a tokio runtime.
///
/// # Errors
/// If the port cannot be listened on.
pub fn serve(link: Arc<Link>, answer: impl Fn(Ask) -> Reply + Clone + Send + 'static) -> io::Result<Server> {
    let socket = TcpSocket::new_v6()?;
    SockRef::from(&socket).set_only_v6(true)?;
    socket.set_reuseaddr(true)?;
    socket.bind_device(Some(link.interface.as_bytes()))?;
    socket.bind(SocketAddr::V6(SocketAddrV6::new(std::net::Ipv6Addr::UNSPECIFIED, PORT, 0, 0)))?;
    let listener = socket.listen(4)?;
    Ok(Server(tokio::spawn(accept(listener, link, answer))))
}

/// One after the other: nobody but the peer has anything to ask, and it asks one thing at a time.
async fn accept(
    listener: TcpListener,
    link: Arc<Link>,
    answer: impl Fn(Ask) -> Reply + Clone + Send + 'static,
) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                let exchange = converse(stream, address, &link, answer.clone());
                if let Ok(Err(error)) = timeout(DEADLINE, exchange).await {
                    tracing::debug!(%address, %error, "a request on the FT VLAN was not answered");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "requests of the peer cannot be taken");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn converse(
    socket: TcpStream,
    address: SocketAddr,
    link: &Link,
    answer: impl Fn(Ask) -> Reply + Send + 'static,
) -> io::Result<()> {
    let Some(peer) = link.peer().filter(|peer| *peer.address.ip() == address.ip()) else {
        return Err(io::Error::other("not from the peer"));
    };
    let purpose = link.purpose(peer.nonce, link.nonce);
    let mut stream = Stream::accept(socket, &link.keys(), &purpose).await.map_err(io::Error::other)?;
    let body = receive(&mut stream).await?;
    let refused = |error: String| Reply::Refused { error, report: None };
    let reply = match wire::decode::<Request>(&body) {
        Err(error) => refused(format!("the request is not understood: {error}")),
        Ok(request) => match link.stranger(address, &request) {
            Some(why) => refused(why.to_owned()),
            None => {
                tokio::task::spawn_blocking(move || answer(request.ask)).await.map_err(io::Error::other)?
            }
        },
    };
    let octets = wire::encode(&reply).ok_or_else(|| io::Error::other("the reply is too large"))?;
    stream.writer.write_all(&octets).await?;
    stream.writer.shutdown().await
}

/// The memory it takes is for what comes, not for what is announced.
async fn receive(stream: &mut Stream) -> io::Result<BytesMut> {
    let mut input = BytesMut::new();
    stream.reader.fill(&mut input, wire::HEAD).await?;
    let mut head = [0; wire::HEAD];
    input.copy_to_slice(&mut head);
    let length = wire::length(head).ok_or_else(|| io::Error::other("a message that is too large"))?;
    stream.reader.fill(&mut input, length).await?;
    input.truncate(length);
    Ok(input)
}
