use std::net::Ipv4Addr;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use super::super::check;
use super::*;
use crate::model::{Name, Probe};
use crate::probe::health::RealKey;

fn target(kind: ProbeKind, port: u16, question: Question) -> Target {
    let address = IpAddr::from(Ipv4Addr::LOCALHOST);
    let name = |text: &str| Name::new(text).expect("a good name");
    let (long, short) = (Duration::from_secs(20), Duration::from_millis(300));
    let probe = Probe {
        name: name("p"),
        kind,
        interval: long,
        retries: 1,
        failed: long,
        // Silence is what a datagram's check waits for; all others end by an answer.
        receive: if kind == ProbeKind::Udp { short } else { long },
        open: long,
        recover: 1,
        port: None,
        address: None,
        question,
    };
    Target {
        real: RealKey { farm: name("web"), address, port: None },
        port: Some(port),
        destination: address,
        probe,
        source: Some(address),
        interface: Some("lo".to_owned()),
    }
}

/// Verdict on a server that says `answer` to one connection, at once or after it was asked, and closes it; and what it was
/// asked.
async fn served(kind: ProbeKind, question: Question, answer: &'static str) -> (Verdict, String) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let server = async {
        let (mut stream, _) = listener.accept().await.expect("a check");
        let mut asked = Vec::new();
        while kind == ProbeKind::Http && !asked.ends_with(b"\r\n\r\n") {
            let mut octet = [0];
            stream.read_exact(&mut octet).await.expect("a request");
            asked.extend(octet);
        }
        stream.write_all(answer.as_bytes()).await.expect("it listens");
        stream.shutdown().await.expect("it listens");
        // Until the check has read it: an early end would be a reset.
        let _reset_or_end = stream.read(&mut [0]).await;
        String::from_utf8(asked).expect("text")
    };
    let target = target(kind, port, question);
    tokio::join!(check(&target, 1), server)
}

#[tokio::test]
async fn an_http_server_is_asked_as_configured_and_judged_by_its_status() {
    let question = Question {
        is_head: true,
        path: Some("/health?deep=1".to_owned()),
        headers: vec![("Host".to_owned(), "www.example.com".to_owned())],
        statuses: vec![(200, 204)],
        ..Question::default()
    };
    let (verdict, asked) = served(ProbeKind::Http, question.clone(), "HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(verdict, Verdict::Pass);
    assert!(asked.starts_with("HEAD /health?deep=1 HTTP/1.1\r\n"), "{asked}");
    assert!(asked.to_ascii_lowercase().contains("\r\nhost: www.example.com\r\n"), "{asked}");
    let (verdict, _) =
        served(ProbeKind::Http, question, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(verdict, Verdict::Fail(FailReason::Status(503)));
    let (verdict, asked) = served(ProbeKind::Http, Question::default(), "HTTP/1.0 500 Oh\r\n\r\n").await;
    assert_eq!(verdict, Verdict::Pass, "any answer");
    assert!(asked.starts_with("GET / HTTP/1.1\r\n") && asked.contains("127.0.0.1:"), "{asked}");
    let (verdict, _) = served(ProbeKind::Http, Question::default(), "").await;
    assert_eq!(verdict, Verdict::Fail(FailReason::Closed));
    let (verdict, _) = served(ProbeKind::Http, Question::default(), "SSH-2.0-it\r\n\r\n").await;
    assert_eq!(verdict, Verdict::Fail(FailReason::Garbled));
}

#[tokio::test]
async fn a_greeting_is_waited_for() {
    let greeted = |kind, answer| async move { served(kind, Question::default(), answer).await.0 };
    assert_eq!(greeted(ProbeKind::Ftp, "220 ready\r\n").await, Verdict::Pass);
    assert_eq!(greeted(ProbeKind::Smtp, "421 full\r\n").await, Verdict::Fail(FailReason::Status(421)));
    assert_eq!(greeted(ProbeKind::Telnet, "login: ").await, Verdict::Pass);
    assert_eq!(greeted(ProbeKind::Telnet, "").await, Verdict::Fail(FailReason::Closed));
}

#[tokio::test]
async fn a_datagram_fails_only_where_nobody_is() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let port = socket.local_addr().expect("bound").port();
    let silent = target(ProbeKind::Udp, port, Question::default());
    assert_eq!(check(&silent, 1).await, Verdict::Pass);
    drop(socket);
    assert_eq!(check(&silent, 2).await, Verdict::Fail(FailReason::Refused));
    let nobody = target(ProbeKind::Dns, port, Question::default());
    assert_eq!(check(&nobody, 3).await, Verdict::Fail(FailReason::Refused));
}

#[tokio::test]
async fn a_name_server_is_asked_until_its_own_answer_comes() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let port = socket.local_addr().expect("bound").port();
    let question = Question { domain: Some("www.example.com".to_owned()), ..Question::default() };
    let server = async {
        let mut octets = [0; 512];
        let (count, from) = socket.recv_from(&mut octets).await.expect("a query");
        let mut answer = octets[..count].to_vec();
        // Another query's answer says nothing about this one.
        answer[2] |= 0x80;
        answer[0] ^= 0xff;
        socket.send_to(&answer, from).await.expect("sent");
        answer[0] ^= 0xff;
        answer[3] |= 3;
        socket.send_to(&answer, from).await.expect("sent");
    };
    let target = target(ProbeKind::Dns, port, question);
    let (verdict, ()) = tokio::join!(check(&target, 0x1234), server);
    assert_eq!(verdict, Verdict::Fail(FailReason::NoSuchName));
}
