use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::timeout;

use super::*;
use crate::api::client::{Client, ClientError};
use crate::api::reply::{ConnsReply, RealReply, SystemReply};
use crate::api::testing::{Dir, Served};

/// Longest wait for anything; reached only by a failure.
const DEADLINE: Duration = Duration::from_secs(20);

fn client(served: &Served) -> Client {
    Client::new(&served.dir.socket(), DEADLINE)
}

fn refusal(error: ClientError) -> ErrorReply {
    match error {
        ClientError::Refused(reply) => reply,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn answers_come_as_they_were_given() {
    let served = Served::start();
    let reals: Vec<RealReply> = client(&served).get(path::REALS).await.expect("an answer");
    assert_eq!(reals, served.backend.reals().expect("an answer"));
    let filter = ConnFilter {
        // What a query string could mistake for its own.
        vserver: Some("A&B=C%D+E#F?".to_owned()),
        real: Some([10, 0, 0, 2].into()),
        port: Some(8080),
        client: Some([10, 0, 0, 1].into()),
    };
    let first: ConnsReply = client(&served).conns(&filter, None).await.expect("an answer");
    assert_eq!(first, served.backend.conns(&filter, None).expect("an answer"));
    let second = client(&served).conns(&filter, first.next.as_deref()).await.expect("an answer");
    assert_eq!((first.connections, None), (second.connections, second.next));
    assert_eq!(client(&served).clear_conns(&filter).await.expect("an answer").cleared, 8080);
}

#[tokio::test]
async fn a_refusal_carries_its_remedy() {
    let served = Served::start();
    let error = client(&served).force_standby().await.expect_err("no peer");
    assert_eq!(error.remedy(), Some("start the other node"));
    assert_eq!(refusal(error).error, "no peer is heard");
    assert!(!served.backend.forced.load(Ordering::Relaxed));

    served.backend.peer.store(true, Ordering::Relaxed);
    client(&served).force_standby().await.expect("a peer");
    assert!(served.backend.forced.load(Ordering::Relaxed));
}

#[tokio::test]
async fn a_fault_or_a_panic_of_the_daemon_is_an_answer_too() {
    let served = Served::start();
    let fault = client(&served).get::<Vec<u8>>(path::VSERVERS).await.expect_err("a fault");
    assert_eq!(refusal(fault).error, "map VSERVER_COUNTS cannot be read");
    let panic = client(&served).get::<Vec<u8>>(path::SERVERFARMS).await.expect_err("a panic");
    assert_eq!(refusal(panic).error, "csmd failed to answer, see its log");
    client(&served).get::<SystemReply>(path::SYSTEM).await.expect("it goes on");
}

#[tokio::test]
async fn wrong_paths_methods_and_queries_are_named() {
    let served = Served::start();
    let error =
        async |path: &str| refusal(client(&served).get::<SystemReply>(path).await.expect_err("wrong")).error;
    assert_eq!(error("/v1/nonsense").await, "there is no /v1/nonsense");
    assert_eq!(error(path::FORCE_STANDBY).await, "GET means nothing to /v1/ft/force-standby");
    let bad_client = error("/v1/conns?client=ten").await;
    assert!(bad_client.contains("client"), "{bad_client}");
    let unknown = error("/v1/conns?clients=10.0.0.1").await;
    assert!(unknown.contains("clients"), "{unknown}");
}

#[tokio::test]
async fn only_the_owner_may_open_the_socket() {
    let served = Served::start();
    let mode = std::fs::metadata(served.dir.socket()).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_socket_that_a_dead_process_left_is_replaced_and_a_live_one_is_not() {
    let dir = Dir::new();
    drop(std::os::unix::net::UnixListener::bind(dir.socket()).expect("a free path"));
    assert!(dir.socket().exists(), "closing a socket leaves its file");
    let listener = bind(&dir.socket()).expect("nobody answers there");
    assert!(matches!(bind(&dir.socket()), Err(BindError::Served(_))));
    drop(listener);
    assert!(!dir.socket().exists());
}

#[tokio::test]
async fn what_is_no_socket_is_left_alone() {
    let dir = Dir::new();
    std::fs::write(dir.socket(), "precious").expect("written");
    assert!(matches!(bind(&dir.socket()), Err(BindError::NotASocket(_))));
    assert_eq!(std::fs::read_to_string(dir.socket()).expect("read"), "precious");
    let nowhere = dir.0.join("missing/csmd.sock");
    assert!(matches!(bind(&nowhere), Err(BindError::Io { .. })));
    let left: Vec<_> = std::fs::read_dir(&dir.0).expect("a directory").collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[tokio::test]
async fn a_shutdown_ends_the_server_and_removes_its_socket() {
    let Served { stop, task, dir, .. } = Served::start();
    // An idle connection must not hold it up.
    let idle = tokio::net::UnixStream::connect(dir.socket()).await.expect("it listens");
    stop.send(()).expect("it runs");
    timeout(DEADLINE, task).await.expect("it ends").expect("no panic").expect("no error");
    drop(idle);
    assert!(!dir.socket().exists());
    let error =
        Client::new(&dir.socket(), DEADLINE).get::<SystemReply>(path::SYSTEM).await.expect_err("gone");
    let socket = dir.socket();
    assert_eq!(error.to_string(), format!("csmd is not running (no socket at {})", socket.display()));
}

#[tokio::test]
async fn a_successors_socket_survives_the_end_of_its_predecessor() {
    let dir = Dir::new();
    let old = bind(&dir.socket()).expect("a free path");
    std::fs::remove_file(dir.socket()).expect("it is there");
    let new = bind(&dir.socket()).expect("a free path");
    drop(old);
    assert!(dir.socket().exists());
    drop(new);
}
