//! The server: axum on a unix socket that only its owner may open.

use std::future::Future;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use serde::Serialize;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;

use super::backend::{Backend, Fault};
use super::path;
use super::reply::{
    CertifyRequest, ChangeRequest, ConnFilter, ConnPage, Done, ErrorReply, ReloadRequest, StickyFilter,
    TraceQuery,
};

/// Octets of the largest request: a configuration of some 20,000 reals has less than two million.
const BODY_MAX: usize = 16 << 20;
/// Octets of the largest image that is sent.
const IMAGE_MAX: usize = 256 << 20;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

/// Why the socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody answers there.
    #[error("another csmd serves {0}: stop it, or choose another socket")]
    Served(PathBuf),
    /// Something that is no socket is there.
    #[error("{0} exists and is not a socket: remove it, or choose another socket")]
    NotASocket(PathBuf),
    /// The path is longer than a unix socket's address (107 bytes) or the system call failed.
    #[error("cannot {operation} {path}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// What came of it.
        source: io::Error,
    },
}

/// A listening socket and its file.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    file: SocketFile,
}

/// Removed on drop, unless another process has put its own in its place.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if std::fs::metadata(&self.path).is_ok_and(|file| file.ino() == self.inode) {
            // Nobody is left to tell; the next start replaces the file.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Listens on `path`, mode 0600, replacing the socket that a dead process left. Its directory must exist. Must be
/// called within a tokio runtime.
///
/// The socket is made under another name, so that at no moment it can be opened by others or does not listen yet.
pub fn bind(path: &Path) -> Result<Listener, BindError> {
    match std::fs::symlink_metadata(path) {
        Ok(file) if !file.file_type().is_socket() => return Err(BindError::NotASocket(path.to_owned())),
        Ok(_) if UnixStream::connect(path).is_ok() => return Err(BindError::Served(path.to_owned())),
        Ok(_) | Err(_) => {}
    }
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(format!(".{}", std::process::id()));
    let fresh = PathBuf::from(fresh);
    let listener = listen(&fresh).and_then(|(socket, inode)| {
        std::fs::rename(&fresh, path).map_err(|source| failed("rename to", path, source))?;
        Ok(Listener { socket, file: SocketFile { path: path.to_owned(), inode } })
    });
    if listener.is_err() {
        // The error that is reported says more than this one could.
        let _ = std::fs::remove_file(&fresh);
    }
    listener
}

fn failed(operation: &'static str, path: &Path, source: io::Error) -> BindError {
    BindError::Io { operation, path: path.to_owned(), source }
}

fn listen(path: &Path) -> Result<(UnixListener, u64), BindError> {
    let attempt = || {
        // A file of that name can only be what a dead process with our number left.
        if let Err(error) = std::fs::remove_file(path)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
        socket.bind(&SockAddr::unix(path)?)?;
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o600))?;
        socket.listen(BACKLOG)?;
        Ok((UnixListener::from_std(socket.into())?, std::fs::metadata(path)?.ino()))
    };
    attempt().map_err(|source| failed("listen on", path, source))
}

/// Serves until `shutdown` resolves and the requests under way are answered.
pub async fn serve(
    listener: Listener,
    backend: Arc<dyn Backend>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let Listener { socket, file } = listener;
    let shutdown = async move {
        shutdown.await;
        // First of all: who comes during the shutdown is told that csmd is not running.
        drop(file);
    };
    axum::serve(socket, router(backend)).with_graceful_shutdown(shutdown).await
}

type Shared = State<Arc<dyn Backend>>;

fn router(backend: Arc<dyn Backend>) -> Router {
    Router::new()
        .route(path::SYSTEM, get(|State(b): Shared| reply(move || b.system())))
        .route(path::FT, get(|State(b): Shared| reply(move || b.ft())))
        .route(path::READINESS, get(|State(b): Shared| reply(move || b.readiness())))
        .route(path::EXPLAIN, get(|State(b): Shared| reply(move || b.explain())))
        .route(
            path::FORCE_STANDBY,
            post(|State(b): Shared| reply(move || b.force_standby().map(|()| Done {}))),
        )
        .route(path::VSERVERS, get(|State(b): Shared| reply(move || b.vservers())))
        .route(path::REALS, get(|State(b): Shared| reply(move || b.reals())))
        .route(path::SERVERFARMS, get(|State(b): Shared| reply(move || b.serverfarms())))
        .route(path::CONNS, get(conns))
        .route(path::TRACE, post(trace))
        .route(path::CLEAR_CONNS, post(clear_conns))
        .route(path::STICKY, get(|State(b): Shared| reply(move || b.sticky())))
        .route(path::CLEAR_STICKY, post(clear_sticky))
        .route(
            path::CLEAR_NEIGHBOURS,
            post(|State(b): Shared| reply(move || b.clear_neighbours().map(|()| Done {}))),
        )
        .route(
            path::CLEAR_COUNTERS,
            post(|State(b): Shared| reply(move || b.clear_counters().map(|()| Done {}))),
        )
        .route(path::STANDBY, get(|State(b): Shared| reply(move || b.standby())))
        .route(path::VLANS, get(|State(b): Shared| reply(move || b.vlans())))
        .route(path::NEIGHBOURS, get(|State(b): Shared| reply(move || b.neighbours())))
        .route(path::COUNTERS, get(|State(b): Shared| reply(move || b.counters())))
        .route(path::RUNNING_CONFIG, get(|State(b): Shared| reply(move || b.running_config())))
        .route(
            path::CONFIGURE,
            post(|State(b): Shared, body: Body<ChangeRequest>| asked(body, move |r| b.change_config(&r)))
                .layer(DefaultBodyLimit::max(BODY_MAX)),
        )
        .route(
            path::STARTUP_CONFIG,
            get(|State(b): Shared| reply(move || b.startup_config()))
                .post(|State(b): Shared, body: Body<ChangeRequest>| asked(body, move |r| b.set_startup(&r)))
                .layer(DefaultBodyLimit::max(BODY_MAX)),
        )
        .route(path::WRITE_MEMORY, post(|State(b): Shared| reply(move || b.write_memory())))
        .route(
            path::CERTIFY,
            post(|State(b): Shared, body: Body<CertifyRequest>| asked(body, move |r| b.certify(r))),
        )
        .route(
            path::IMAGE,
            post(|State(b): Shared, octets: Bytes| reply(move || b.set_image(&octets)))
                .delete(|State(b): Shared| reply(move || b.drop_image()))
                .layer(DefaultBodyLimit::max(IMAGE_MAX)),
        )
        .route(path::SYNC, post(|State(b): Shared| reply(move || b.sync_config())))
        .route(path::SYNC_DIFFERENCES, get(|State(b): Shared| reply(move || b.sync_differences())))
        .route(path::DIRECTORY, get(|State(b): Shared| reply(move || b.directory())))
        .route(
            path::RELOAD,
            post(|State(b): Shared, body: Body<ReloadRequest>| {
                asked(body, move |r| b.reload(r).map(|()| Done {}))
            }),
        )
        .route(
            path::RELOAD_CANCEL,
            post(|State(b): Shared| reply(move || b.cancel_reload().map(|()| Done {}))),
        )
        .route(path::CONFIRM, post(|State(b): Shared| reply(move || b.confirm_config().map(|()| Done {}))))
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            error(StatusCode::METHOD_NOT_ALLOWED, format!("{method} means nothing to {}", uri.path()), None)
        })
        .fallback(async |uri: Uri| error(StatusCode::NOT_FOUND, format!("there is no {}", uri.path()), None))
        .with_state(backend)
}

async fn conns(State(backend): Shared, page: Result<Query<ConnPage>, QueryRejection>) -> Response {
    match page {
        Ok(Query(page)) => {
            let (filter, after) = page.split();
            reply(move || backend.conns(&filter, after.as_deref())).await
        }
        Err(rejection) => error(StatusCode::BAD_REQUEST, rejection.body_text(), None),
    }
}

async fn clear_conns(State(backend): Shared, filter: Result<Query<ConnFilter>, QueryRejection>) -> Response {
    match filter {
        Ok(Query(filter)) => reply(move || backend.clear_conns(&filter)).await,
        Err(rejection) => error(StatusCode::BAD_REQUEST, rejection.body_text(), None),
    }
}

async fn clear_sticky(
    State(backend): Shared,
    filter: Result<Query<StickyFilter>, QueryRejection>,
) -> Response {
    match filter {
        Ok(Query(filter)) => reply(move || backend.clear_sticky(&filter)).await,
        Err(rejection) => error(StatusCode::BAD_REQUEST, rejection.body_text(), None),
    }
}

async fn trace(State(backend): Shared, query: Result<Query<TraceQuery>, QueryRejection>) -> Response {
    match query {
        Ok(Query(query)) => reply(move || backend.trace(&query)).await,
        Err(rejection) => error(StatusCode::BAD_REQUEST, rejection.body_text(), None),
    }
}

/// Answers a request that has a body.
async fn asked<T, U>(
    body: Result<Json<T>, JsonRejection>,
    ask: impl FnOnce(T) -> Result<U, Fault> + Send + 'static,
) -> Response
where
    T: Send + 'static,
    U: Serialize + Send + 'static,
{
    match body {
        Ok(Json(request)) => reply(move || ask(request)).await,
        Err(rejection) => error(StatusCode::BAD_REQUEST, rejection.body_text(), None),
    }
}

type Body<T> = Result<Json<T>, JsonRejection>;

async fn reply<T: Serialize + Send + 'static>(
    ask: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Response {
    match tokio::task::spawn_blocking(ask).await {
        Ok(Ok(answer)) => Json(answer).into_response(),
        Ok(Err(Fault::Refused { error: sentence, remedy })) => error(StatusCode::CONFLICT, sentence, remedy),
        Ok(Err(Fault::Rejected { errors, report })) => {
            let error = format!("the configuration has faults: {errors}");
            let body = ErrorReply { error, remedy: None, report: Some(report) };
            (StatusCode::UNPROCESSABLE_ENTITY, Json(body)).into_response()
        }
        Ok(Err(Fault::Internal(sentence))) => error(StatusCode::INTERNAL_SERVER_ERROR, sentence, None),
        Err(panic) => {
            tracing::error!(%panic, "an API request failed");
            error(StatusCode::INTERNAL_SERVER_ERROR, "csmd failed to answer, see its log".to_owned(), None)
        }
    }
}

fn error(status: StatusCode, error: String, remedy: Option<String>) -> Response {
    (status, Json(ErrorReply { error, remedy, report: None })).into_response()
}

#[cfg(test)]
mod tests;
