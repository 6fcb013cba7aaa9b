//! The client: one request on one connection, with a deadline over all of it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::path;
use super::reply::{
    ChangeReply, ChangeRequest, ClearedReply, ConnFilter, ConnsReply, Done, ErrorReply, StickyFilter,
    TraceQuery, WalkReply,
};

/// Longest wait for an answer.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// Longest wait until connections are cleared: a million takes about half a minute.
const CLEAR_DEADLINE: Duration = Duration::from_secs(300);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("csmd is not running (no socket at {0})")]
    NotRunning(PathBuf),
    /// A socket is there, but its process is gone.
    #[error("csmd is not running (nobody answers at {0})")]
    Dead(PathBuf),
    /// Not permitted.
    #[error("not permitted to open {0}: only root may")]
    Denied(PathBuf),
    /// No answer in time.
    #[error("csmd did not answer within {} s", .0.as_secs())]
    Deadline(Duration),
    /// It answered that it will not or cannot.
    #[error("{}", .0.error)]
    Refused(ErrorReply),
    /// What it answered is not understood: another version, or not csmd.
    #[error("csmd's answer is not understood: {0}")]
    Garbled(String),
    /// The connection failed half way.
    #[error("csmd ended the connection: {0}")]
    Http(#[from] hyper::Error),
    /// Another system call failed.
    #[error("cannot reach csmd: {0}")]
    Io(io::Error),
}

impl ClientError {
    /// What the user can do, where that is known.
    #[must_use]
    pub fn remedy(&self) -> Option<&str> {
        match self {
            Self::NotRunning(_) | Self::Dead(_) => Some("start csmd, or name its socket with --socket"),
            Self::Refused(reply) => reply.remedy.as_deref(),
            _ => None,
        }
    }
}

/// A daemon to ask.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    deadline: Duration,
}

impl Client {
    /// The daemon that listens on `socket`; each answer must come within `deadline`.
    #[must_use]
    pub fn new(socket: &Path, deadline: Duration) -> Self {
        Self { socket: socket.to_owned(), deadline }
    }

    /// GET `path`.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.request(Method::GET, path, Bytes::new()).await
    }

    /// Connections that `filter` lets through: the page after `after`, the first one for `None`.
    pub async fn conns(&self, filter: &ConnFilter, after: Option<&str>) -> Result<ConnsReply, ClientError> {
        self.get(&format!("{}?{}", path::CONNS, query(filter, after))).await
    }

    /// `clear module csm N connections`; takes some seconds for each hundred thousand.
    pub async fn clear_conns(&self, filter: &ConnFilter) -> Result<ClearedReply, ClientError> {
        let patient = Self { deadline: CLEAR_DEADLINE, ..self.clone() };
        patient.post(&format!("{}?{}", path::CLEAR_CONNS, query(filter, None))).await
    }

    /// `clear module csm N sticky`.
    pub async fn clear_sticky(&self, filter: &StickyFilter) -> Result<ClearedReply, ClientError> {
        let StickyFilter { group, client } = filter;
        let pairs =
            [group.map(|group| format!("group={group}")), client.map(|client| format!("client={client}"))];
        let query = pairs.into_iter().flatten().collect::<Vec<_>>().join("&");
        self.post(&format!("{}?{query}", path::CLEAR_STICKY)).await
    }

    /// `clear module csm N ft active`.
    pub async fn force_standby(&self) -> Result<(), ClientError> {
        let Done {} = self.post(path::FORCE_STANDBY).await?;
        Ok(())
    }

    /// Walks of a client's packets since the last question.
    pub async fn trace(&self, query: &TraceQuery) -> Result<Vec<WalkReply>, ClientError> {
        let TraceQuery { client, vserver, wait_ms } = query;
        let vserver =
            vserver.as_deref().map_or_else(String::new, |name| format!("&vserver={}", percent_encode(name)));
        let wait = wait_ms.map_or_else(String::new, |wait_ms| format!("&wait_ms={wait_ms}"));
        self.request(Method::POST, &format!("{}?client={client}{vserver}{wait}", path::TRACE), Bytes::new())
            .await
    }

    /// POST `path`, with nothing to say.
    pub async fn post<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.request(Method::POST, path, Bytes::new()).await
    }

    /// Changes the configuration in force.
    pub async fn configure(&self, change: &ChangeRequest) -> Result<ChangeReply, ClientError> {
        self.ask(path::CONFIGURE, change).await
    }

    /// POST `path` with a body.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &(impl serde::Serialize + Sync),
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| ClientError::Garbled(error.to_string()))?;
        self.request(Method::POST, path, body.into()).await
    }

    /// POST `path` with a body of plain octets.
    pub async fn send<T: DeserializeOwned>(&self, path: &str, octets: Vec<u8>) -> Result<T, ClientError> {
        self.request(Method::POST, path, octets.into()).await
    }

    /// DELETE `path`.
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.request(Method::DELETE, path, Bytes::new()).await
    }

    /// With another deadline.
    #[must_use]
    pub fn patient(&self, deadline: Duration) -> Self {
        Self { deadline, ..self.clone() }
    }

    async fn request<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let exchange = async {
            let (status, body) = self.exchange(method, path, body).await?;
            decode(status, &body)
        };
        tokio::time::timeout(self.deadline, exchange)
            .await
            .map_err(|_| ClientError::Deadline(self.deadline))?
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.unreachable(error))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(hyper::header::HOST, "csmd")
            .header(hyper::header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| ClientError::Garbled(error.to_string()))?;
        let answer = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            // With the sender gone the connection's future ends, too.
            drop(sender);
            Ok::<_, hyper::Error>((status, body))
        };
        let (answer, ended) = tokio::join!(answer, connection);
        let answer = answer?;
        ended?;
        Ok(answer)
    }

    fn unreachable(&self, error: io::Error) -> ClientError {
        let socket = self.socket.clone();
        match error.kind() {
            io::ErrorKind::NotFound => ClientError::NotRunning(socket),
            io::ErrorKind::ConnectionRefused => ClientError::Dead(socket),
            io::ErrorKind::PermissionDenied => ClientError::Denied(socket),
            _ => ClientError::Io(error),
        }
    }
}

fn decode<T: DeserializeOwned>(status: StatusCode, body: &[u8]) -> Result<T, ClientError> {
    if status == StatusCode::OK {
        return serde_json::from_slice(body).map_err(|error| ClientError::Garbled(error.to_string()));
    }
    match serde_json::from_slice(body) {
        Ok(reply) => Err(ClientError::Refused(reply)),
        Err(_) => Err(ClientError::Garbled(format!("status {status} without a reason"))),
    }
}

fn query(filter: &ConnFilter, after: Option<&str>) -> String {
    let ConnFilter { vserver, real, port, client } = filter;
    let pairs = [
        vserver.as_deref().map(|name| format!("vserver={}", percent_encode(name))),
        real.map(|address| format!("real={address}")),
        port.map(|port| format!("port={port}")),
        client.map(|address| format!("client={address}")),
        after.map(|after| format!("after={}", percent_encode(after))),
    ];
    pairs.into_iter().flatten().collect::<Vec<_>>().join("&")
}

/// RFC 3986 section 2.1: all but unreserved characters.
fn percent_encode(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::UnixListener;

    use super::*;
    use crate::api::reply::SystemReply;
    use crate::api::testing::Dir;

    async fn ask(dir: &Dir, deadline: Duration) -> ClientError {
        let client = Client::new(&dir.socket(), deadline);
        client.get::<SystemReply>(path::SYSTEM).await.expect_err("no answer")
    }

    #[tokio::test]
    async fn a_daemon_that_does_not_answer_is_given_up() {
        let dir = Dir::new();
        let _silent = UnixListener::bind(dir.socket()).expect("a free path");
        let error = ask(&dir, Duration::from_millis(20)).await;
        assert!(matches!(error, ClientError::Deadline(_)), "{error}");
    }

    #[tokio::test]
    async fn a_socket_without_a_process_is_told_from_no_socket() {
        let dir = Dir::new();
        assert!(matches!(ask(&dir, DEADLINE).await, ClientError::NotRunning(_)));
        drop(UnixListener::bind(dir.socket()).expect("a free path"));
        assert!(matches!(ask(&dir, DEADLINE).await, ClientError::Dead(_)));
    }

    #[tokio::test]
    async fn what_is_not_csmd_is_not_understood() {
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
            "HTTP/1.1 502 Bad\r\ncontent-length: 0\r\n\r\n",
            "220 ready\r\n",
        ] {
            let dir = Dir::new();
            let listener = UnixListener::bind(dir.socket()).expect("a free path");
            let serve = async {
                let (mut stream, _) = listener.accept().await.expect("a client");
                stream.write_all(answer.as_bytes()).await.expect("it listens");
                stream
            };
            let (error, _stream) = tokio::join!(ask(&dir, DEADLINE), serve);
            assert!(matches!(error, ClientError::Garbled(_) | ClientError::Http(_)), "{answer}: {error}");
        }
    }
}
