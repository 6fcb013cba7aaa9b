//! The shell of checks that speak with an application: a connection or a datagram, the question, the answer.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::{Method, Request, header};
use hyper_util::rt::TokioIo;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::{Instant, timeout};

use crate::model::{ProbeKind, Question};
use crate::probe::application::{self, GREETING_MAX};
use crate::probe::health::{FailReason, Verdict, timed_out};
use crate::probe::target::Target;
use crate::probe::tcp;

/// Largest answer of a name server that is read: what a query without EDNS gets.
const ANSWER_MAX: usize = 512;

/// What `attempt` comes to, or the verdict on a server with which it came to nothing within `allowed`.
pub(super) async fn within<T>(
    allowed: Duration,
    reason: FailReason,
    attempt: impl Future<Output = io::Result<T>>,
) -> Result<T, Verdict> {
    let started = Instant::now();
    match timeout(allowed, attempt).await {
        Ok(ended) => ended.map_err(|error| tcp::verdict(&error)),
        Err(_) => Err(timed_out(reason, started.elapsed(), allowed)),
    }
}

/// A connection to the target, which ends with a reset.
pub(super) async fn connect(target: &Target) -> io::Result<TcpStream> {
    let socket = match target.destination {
        IpAddr::V4(_) => TcpSocket::new_v4()?,
        IpAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if let Some(interface) = &target.interface {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    if let Some(source) = target.source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let stream = socket.connect(destination(target)?).await?;
    stream.set_zero_linger()?;
    Ok(stream)
}

fn destination(target: &Target) -> io::Result<SocketAddr> {
    let port = target.port.ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
    Ok(SocketAddr::new(target.destination, port))
}

/// What the application says on `stream`.
pub(super) async fn spoken(target: &Target, stream: TcpStream) -> io::Result<Verdict> {
    match target.probe.kind {
        ProbeKind::Http => request(target, stream).await,
        kind => greeted(kind, &target.probe.question, stream).await,
    }
}

async fn greeted(kind: ProbeKind, question: &Question, mut stream: TcpStream) -> io::Result<Verdict> {
    let mut octets = Vec::with_capacity(GREETING_MAX);
    loop {
        if let Some(verdict) = application::greeting(kind, question, &octets) {
            return Ok(verdict);
        }
        let mut piece = [0; GREETING_MAX];
        match stream.read(&mut piece).await? {
            0 => return Ok(Verdict::Fail(FailReason::Closed)),
            count => octets.extend(&piece[..count]),
        }
    }
}

async fn request(target: &Target, stream: TcpStream) -> io::Result<Verdict> {
    let Question { is_head, path, headers, credentials, .. } = &target.probe.question;
    let mut request = Request::builder()
        .method(if *is_head { Method::HEAD } else { Method::GET })
        .uri(path.as_deref().unwrap_or("/"))
        .header(header::CONNECTION, "close");
    if !headers.iter().any(|(field, _)| field.eq_ignore_ascii_case("host")) {
        request = request.header(header::HOST, destination(target)?.to_string());
    }
    if let Some((user, password)) = credentials {
        let said = application::basic(user, password).parse::<header::HeaderValue>();
        let mut said = said.map_err(io::Error::other)?;
        // Nor does it stand in a log.
        said.set_sensitive(true);
        request = request.header(header::AUTHORIZATION, said);
    }
    for (field, value) in headers {
        request = request.header(field, value);
    }
    let request = request.body(Empty::<&[u8]>::new()).map_err(io::Error::other)?;
    let (mut sender, connection) = match http1::handshake(TokioIo::new(stream)).await {
        Ok(made) => made,
        Err(error) => return failed(&error),
    };
    let answer = sender.send_request(request);
    tokio::pin!(answer);
    // Both in one task: nothing of a check stays behind when its time is over.
    let answered = tokio::select! {
        biased;
        answered = &mut answer => answered,
        // The answer may have come with the end.
        _ended = connection => answer.await,
    };
    match answered {
        Ok(answer) => {
            let status = answer.status().as_u16();
            Ok(application::verdict_on_status(ProbeKind::Http, &target.probe.question, status))
        }
        Err(error) => failed(&error),
    }
}

/// What an exchange that failed says of the server.
fn failed(error: &hyper::Error) -> io::Result<Verdict> {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
    match cause.and_then(io::Error::raw_os_error) {
        Some(errno) => Err(io::Error::from_raw_os_error(errno)),
        None if error.is_incomplete_message() || error.is_canceled() || error.is_closed() => {
            Ok(Verdict::Fail(FailReason::Closed))
        }
        None => Ok(Verdict::Fail(FailReason::Garbled)),
    }
}

/// A datagram socket that hears of errors about the target.
fn datagrams(target: &Target) -> io::Result<UdpSocket> {
    let domain = if target.destination.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    if let Some(interface) = &target.interface {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    if let Some(source) = target.source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match target.destination {
        IpAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?,
        IpAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?,
    }
    socket.connect(&destination(target)?.into())?;
    UdpSocket::from_std(socket.into())
}

/// An empty datagram: the server fails if its port or its host is said not to be there. Silence is no answer of most services to
/// nothing, and passes.
pub(super) async fn datagram(target: &Target) -> Verdict {
    let ended = async {
        let socket = datagrams(target)?;
        socket.send(&[]).await?;
        match timeout(target.probe.receive, socket.recv(&mut [0; 1])).await {
            Ok(answered) => answered.map(drop),
            // Late or not: an error that waits unread is there by now.
            Err(_) => socket.take_error()?.map_or(Ok(()), Err),
        }
    };
    ended.await.map_or_else(|error| tcp::verdict(&error), |()| Verdict::Pass)
}

/// A query to a name server; `id` is its identifier.
pub(super) async fn lookup(target: &Target, id: u16) -> io::Result<Verdict> {
    let question = &target.probe.question;
    let query = application::query(question, id).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))?;
    let socket = datagrams(target)?;
    socket.send(&query).await?;
    loop {
        let mut octets = [0; ANSWER_MAX];
        let count = socket.recv(&mut octets).await?;
        if let Some(verdict) = application::answer(question, id, &octets[..count]) {
            return Ok(verdict);
        }
    }
}

#[cfg(test)]
mod tests;
