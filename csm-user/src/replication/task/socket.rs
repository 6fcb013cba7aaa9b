//! Sockets on the FT interface and the exchange of hellos.

use std::io;
use std::net::{SocketAddr, SocketAddrV6};
use std::time::Duration;

use bytes::BytesMut;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::{PeerAddr, Shared};
use crate::replication::wire::{DecodeError, Frame, Hello, decode, encode};
use crate::secure::task::{Stream, StreamError};
use crate::secure::{Purpose, SecureError};

const SERVICE: &str = "replication";

/// Why a stream did not come to be, or ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Close {
    /// The socket failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The peer closed it.
    #[error("closed by the peer")]
    Eof,
    /// Nothing came for too long.
    #[error("silent for {0:?}")]
    Silent(Duration),
    /// The keys of both nodes do not go together.
    #[error("{0}")]
    Secure(SecureError),
    /// A key is required by now, and the stream began without.
    #[error("it is in the clear, and a key is required now")]
    InTheClear,
    /// What came is no frame.
    #[error("bad frame: {0}")]
    Decode(#[from] DecodeError),
    /// What came is not allowed.
    #[error("protocol broken: {0}")]
    Protocol(Box<dyn std::error::Error + Send + Sync>),
    /// The hello is not the one that was to come.
    #[error("hello says {field} {got}, expected {expected}")]
    Hello {
        /// What differs.
        field: &'static str,
        /// In the hello.
        got: u64,
        /// Here.
        expected: u64,
    },
    /// No version is common to both.
    #[error("speaks versions {0:?} only")]
    Version((u16, u16)),
    /// The daemon named another peer, or none.
    #[error("the peer changed")]
    PeerChanged,
    /// This node is no longer active: the peer is to begin anew with a snapshot.
    #[error("this node became standby")]
    RoleChanged,
    /// Another stream from the peer takes its place.
    #[error("replaced by a newer stream")]
    Replaced,
    /// Replication was stopped.
    #[error("stopped")]
    Stopped,
}

impl From<StreamError> for Close {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Io(error) => Self::Io(error),
            StreamError::Secure(error) => Self::Secure(error),
        }
    }
}

/// Listens on `address`, bound to `interface`.
pub(super) fn listen(
    interface: Option<&str>,
    address: SocketAddrV6,
) -> io::Result<(TcpListener, SocketAddrV6)> {
    let socket = TcpSocket::new_v6()?;
    SockRef::from(&socket).set_only_v6(true)?;
    socket.set_reuseaddr(true)?;
    socket.bind_device(interface.map(str::as_bytes))?;
    socket.bind(SocketAddr::V6(address))?;
    let listener = socket.listen(4)?;
    let SocketAddr::V6(local) = listener.local_addr()? else {
        return Err(io::Error::other("an IPv6 socket has an IPv4 address"));
    };
    Ok((listener, local))
}

/// No delay, and an end when nothing sent is acknowledged for `timeout`.
pub(super) fn tune(stream: &TcpStream, timeout: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_user_timeout(Some(timeout))
}

/// What the peer's hello led to.
pub(super) struct Spoken {
    /// The version that both speak.
    pub(super) version: u16,
    /// What came behind the hello.
    pub(super) rest: BytesMut,
}

/// Connects to `peer` and exchanges hellos.
pub(super) async fn connect(shared: &Shared, peer: PeerAddr) -> Result<(Stream, Spoken), Close> {
    let attempt = async {
        let socket = TcpSocket::new_v6()?;
        socket.bind_device(shared.interface.as_deref().map(str::as_bytes))?;
        let socket = socket.connect(SocketAddr::V6(peer.addr)).await?;
        tune(&socket, shared.silence)?;
        let purpose = Purpose { service: SERVICE, group: shared.group, from: shared.nonce, to: peer.nonce };
        let mut stream = Stream::connect(socket, &shared.keys(), &purpose).await?;
        send_hello(shared, &mut stream, peer).await?;
        let spoken = expect_hello(shared, &mut stream, peer).await?;
        Ok((stream, spoken))
    };
    within(shared.silence, attempt).await
}

/// Exchanges hellos on a connection that came from `peer`'s address.
pub(super) async fn accept(
    shared: &Shared,
    socket: TcpStream,
    peer: PeerAddr,
) -> Result<(Stream, BytesMut), Close> {
    let attempt = async {
        tune(&socket, shared.silence)?;
        let purpose = Purpose { service: SERVICE, group: shared.group, from: peer.nonce, to: shared.nonce };
        let mut stream = Stream::accept(socket, &shared.keys(), &purpose).await?;
        let spoken = expect_hello(shared, &mut stream, peer).await?;
        send_hello(shared, &mut stream, peer).await?;
        Ok((stream, spoken.rest))
    };
    within(shared.silence, attempt).await
}

async fn within<T>(limit: Duration, attempt: impl Future<Output = Result<T, Close>>) -> Result<T, Close> {
    tokio::time::timeout(limit, attempt).await.unwrap_or(Err(Close::Silent(limit)))
}

async fn send_hello(shared: &Shared, stream: &mut Stream, peer: PeerAddr) -> io::Result<()> {
    let mut out = BytesMut::new();
    let hello = Hello { versions: shared.versions, group: shared.group, from: shared.nonce, to: peer.nonce };
    encode(&Frame::Hello(hello), &mut out);
    stream.writer.write_all(&out).await
}

/// Reads until the hello is there.
async fn expect_hello(shared: &Shared, stream: &mut Stream, peer: PeerAddr) -> Result<Spoken, Close> {
    let mut input = BytesMut::new();
    let frame = loop {
        if let Some(frame) = decode(&mut input)? {
            break frame;
        }
        if stream.reader.read_buf(&mut input).await? == 0 {
            return Err(Close::Eof);
        }
    };
    let Frame::Hello(hello) = frame else {
        return Err(Close::Protocol("the first frame is no hello".into()));
    };
    let expected =
        Hello { versions: shared.versions, group: shared.group, from: peer.nonce, to: shared.nonce };
    let version = check_hello(&hello, &expected)?;
    tracing::debug!(version, "a stream of replication speaks this version");
    Ok(Spoken { version, rest: input })
}

/// The newest version that both speak.
fn check_hello(hello: &Hello, expected: &Hello) -> Result<u16, Close> {
    let Hello { versions, group: their_group, from, to } = *hello;
    let Hello { versions: spoken, group, from: peer, to: own } = *expected;
    for (field, got, expected) in
        [("group", u64::from(their_group), u64::from(group)), ("sender", from, peer), ("receiver", to, own)]
    {
        if got != expected {
            return Err(Close::Hello { field, got, expected });
        }
    }
    let (oldest, newest) = (versions.0.max(spoken.0), versions.1.min(spoken.1));
    if oldest > newest {
        return Err(Close::Version(versions));
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use super::{Close, Hello, check_hello};
    use crate::replication::wire::VERSIONS;

    #[test]
    fn only_the_expected_hello_is_taken() {
        let expected = Hello { versions: VERSIONS, group: 1, from: 20, to: 10 };
        let good = Hello { versions: (1, VERSIONS.1), ..expected };
        assert!(matches!(check_hello(&good, &expected), Ok(version) if version == VERSIONS.1));
        for (hello, field) in [
            (Hello { group: 2, ..good }, "group"),
            (Hello { from: 21, ..good }, "sender"),
            (Hello { to: 11, ..good }, "receiver"),
        ] {
            let Err(Close::Hello { field: named, .. }) = check_hello(&hello, &expected) else {
                panic!("{field}")
            };
            assert_eq!(named, field);
        }
        for (theirs, common) in [((3, 4), 4), ((4, 5), 5), ((6, 7), 7), ((6, 8), 7)] {
            let hello = Hello { versions: theirs, ..good };
            assert_eq!(check_hello(&hello, &expected).ok(), Some(common), "{theirs:?}");
        }
        let newer = Hello { versions: (VERSIONS.1 + 1, 9), ..good };
        assert!(matches!(check_hello(&newer, &expected), Err(Close::Version((_, 9)))));
        let older = Hello { versions: (1, VERSIONS.0 - 1), ..good };
        assert!(matches!(check_hello(&older, &expected), Err(Close::Version((1, _)))));
    }
}
