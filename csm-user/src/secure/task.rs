//! Shell: a TCP stream to the peer, sealed if the group has a key.

use std::io;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use snow::StatelessTransportState;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::{HEAD, Keys, Offer, Opening, Purpose, SecureError, answer, open, seal};

/// A stream did not come to be.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The connection.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The peer is there, and the two do not agree.
    #[error("{0}")]
    Secure(#[from] SecureError),
}

/// A stream to the peer.
#[derive(Debug)]
pub struct Stream {
    /// Its reading half.
    pub reader: Reader,
    /// Its writing half.
    pub writer: Writer,
}

impl Stream {
    /// Makes one of a connection that this node has opened. Not cancel safe.
    ///
    /// # Errors
    /// If the connection ends, or keys are missing or differ.
    pub async fn connect(mut socket: TcpStream, keys: &Keys, purpose: &Purpose) -> Result<Self, StreamError> {
        let (opening, offer) = Opening::new(keys, purpose)?;
        socket.write_all(&offer.encode()).await?;
        let seal = opening.answered(&receive(&mut socket).await?)?;
        Ok(Self::new(socket, seal))
    }

    /// Makes one of a connection that the peer has opened. Not cancel safe.
    ///
    /// # Errors
    /// If the connection ends, or keys are missing or differ; the peer is told before.
    pub async fn accept(mut socket: TcpStream, keys: &Keys, purpose: &Purpose) -> Result<Self, StreamError> {
        let (answer, seal) = answer(keys, purpose, &receive(&mut socket).await?);
        socket.write_all(&answer.encode()).await?;
        Ok(Self::new(socket, seal?))
    }

    fn new(socket: TcpStream, seal: Option<StatelessTransportState>) -> Self {
        let seal = seal.map(Arc::new);
        let (reader, writer) = socket.into_split();
        Self {
            reader: Reader { half: reader, seal: seal.clone(), number: 0, sealed: BytesMut::new() },
            writer: Writer { half: writer, seal, number: 0, sealed: BytesMut::new() },
        }
    }

    /// Whether nobody else can read or write it.
    #[must_use]
    pub const fn is_sealed(&self) -> bool {
        self.reader.seal.is_some()
    }
}

async fn receive(socket: &mut TcpStream) -> Result<Offer, StreamError> {
    let mut head = [0; HEAD];
    socket.read_exact(&mut head).await?;
    let mut rest = vec![0; Offer::rest(head)?];
    socket.read_exact(&mut rest).await?;
    Ok(Offer::decode(head, &rest)?)
}

/// What comes from the peer.
#[derive(Debug)]
pub struct Reader {
    half: OwnedReadHalf,
    seal: Option<Arc<StatelessTransportState>>,
    /// Of the next record.
    number: u64,
    sealed: BytesMut,
}

impl Reader {
    /// Appends something to `input`, and says how much; 0 at the end. Cancel safe.
    ///
    /// # Errors
    /// If the connection fails, or what came is not the peer's.
    pub async fn read_buf(&mut self, input: &mut BytesMut) -> io::Result<usize> {
        let Some(seal) = &self.seal else { return self.half.read_buf(input).await };
        let before = input.len();
        loop {
            while open(seal, self.number, &mut self.sealed, input).map_err(io::Error::other)? {
                self.number += 1;
            }
            if input.len() > before {
                return Ok(input.len() - before);
            }
            if self.half.read_buf(&mut self.sealed).await? == 0 {
                let is_cut = !self.sealed.is_empty();
                return if is_cut { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(0) };
            }
        }
    }

    /// Reads until `input` has `length` octets.
    ///
    /// # Errors
    /// As [`Reader::read_buf`], or if the stream ends before.
    pub async fn fill(&mut self, input: &mut BytesMut, length: usize) -> io::Result<()> {
        while input.len() < length {
            if self.read_buf(input).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }
}

/// What goes to the peer.
#[derive(Debug)]
pub struct Writer {
    half: OwnedWriteHalf,
    seal: Option<Arc<StatelessTransportState>>,
    /// Of the next record.
    number: u64,
    /// Taken from the output, and not written yet.
    sealed: BytesMut,
}

impl Writer {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_idle(&self, output: &BytesMut) -> bool {
        output.is_empty() && self.sealed.is_empty()
    }

    /// Writes some of `output` and takes it from there. Cancel safe.
    ///
    /// # Errors
    /// If the connection fails.
    pub async fn write_buf(&mut self, output: &mut BytesMut) -> io::Result<()> {
        let Some(key) = &self.seal else { return self.half.write_buf(output).await.map(drop) };
        if self.sealed.is_empty() && !output.is_empty() {
            let taken = seal(key, self.number, output, &mut self.sealed);
            if taken == 0 {
                return Err(io::Error::other("a record that cannot be sealed"));
            }
            output.advance(taken);
            self.number += 1;
        }
        self.half.write_buf(&mut self.sealed).await.map(drop)
    }

    /// Writes all of `output`.
    ///
    /// # Errors
    /// If the connection fails.
    pub async fn write_all(&mut self, output: &[u8]) -> io::Result<()> {
        let mut output = BytesMut::from(output);
        while !self.is_idle(&output) {
            self.write_buf(&mut output).await?;
        }
        Ok(())
    }

    /// Says that nothing follows.
    ///
    /// # Errors
    /// If the connection fails.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        self.half.shutdown().await
    }
}
