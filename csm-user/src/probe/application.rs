//! What applications are asked, and what their answers mean. Pure; the sockets are in [`super::task`].

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question as Asked, RCODE, TYPE};

use super::health::{FailReason, Verdict};
use crate::model::{ProbeKind, Question, Secret};

/// Octets of a greeting that are read: a reply line of FTP and SMTP has 512 at most (RFC 5321, section 4.5.3.1.5).
pub const GREETING_MAX: usize = 512;

/// Verdict on a server of `kind` whose first octets are `octets`; `None`: more have to come.
#[must_use]
pub fn greeting(kind: ProbeKind, question: &Question, octets: &[u8]) -> Option<Verdict> {
    if !kind.has_status() {
        // What a telnet server negotiates is its own business.
        return (!octets.is_empty()).then_some(Verdict::Pass);
    }
    if !octets.contains(&b'\n') {
        return (octets.len() >= GREETING_MAX).then_some(Verdict::Fail(FailReason::Garbled));
    }
    let status = octets.get(..3).and_then(|digits| str::from_utf8(digits).ok()?.parse().ok());
    // `220-`: more lines follow, with the same number.
    let is_reply = matches!(octets.get(3), Some(b' ' | b'-' | b'\r' | b'\n'));
    Some(
        status
            .filter(|_| is_reply)
            .map_or(Verdict::Fail(FailReason::Garbled), |status| verdict_on_status(kind, question, status)),
    )
}

/// Verdict on a server of `kind` that says `status`.
#[must_use]
pub fn verdict_on_status(kind: ProbeKind, question: &Question, status: u16) -> Verdict {
    match question.expects(kind, status) {
        true => Verdict::Pass,
        false => Verdict::Fail(FailReason::Status(status)),
    }
}

/// What says that `user` asks (RFC 7617, section 2).
#[must_use]
pub fn basic(user: &str, password: &Secret) -> String {
    let plain = zeroize::Zeroizing::new(format!("{user}:{}", password.text()));
    format!("Basic {}", STANDARD.encode(plain.as_bytes()))
}

/// The DNS query of `question` with identifier `id`: for an address of `domain`, or for the root's name servers. `None` if the
/// domain is none, which the configuration does not take.
#[must_use]
pub fn query(question: &Question, id: u16) -> Option<Vec<u8>> {
    let (domain, kind) = match &question.domain {
        Some(domain) => (domain.as_str(), if wants_v6(question) { TYPE::AAAA } else { TYPE::A }),
        None => ("", TYPE::NS),
    };
    let mut packet = Packet::new_query(id);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let asked = Asked::new(Name::new(domain).ok()?, QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false);
    packet.questions.push(asked);
    packet.build_bytes_vec().ok()
}

/// IPv6 addresses are asked for where only such are expected.
fn wants_v6(question: &Question) -> bool {
    !question.addresses.is_empty() && question.addresses.iter().all(IpAddr::is_ipv6)
}

/// Verdict on what came back to query `id`; `None`: it is no answer to that.
#[must_use]
pub fn answer(question: &Question, id: u16, octets: &[u8]) -> Option<Verdict> {
    // An answer that is not understood has its identifier and says that it is one.
    let [high, low, flags, ..] = *octets else { return None };
    if u16::from_be_bytes([high, low]) != id || flags & 0x80 == 0 {
        return None;
    }
    let Ok(packet) = Packet::parse(octets) else { return Some(Verdict::Fail(FailReason::Garbled)) };
    if question.domain.is_none() {
        return Some(Verdict::Pass);
    }
    if packet.rcode() != RCODE::NoError {
        return Some(Verdict::Fail(FailReason::NoSuchName));
    }
    let addresses: Vec<IpAddr> = packet.answers.iter().filter_map(|record| address(&record.rdata)).collect();
    let is_good = match question.addresses.as_slice() {
        [] => !addresses.is_empty(),
        expected => addresses.iter().any(|address| expected.contains(address)),
    };
    Some(if is_good { Verdict::Pass } else { Verdict::Fail(FailReason::OtherAddress) })
}

fn address(data: &RData<'_>) -> Option<IpAddr> {
    match data {
        RData::A(record) => Some(IpAddr::V4(record.address.into())),
        RData::AAAA(record) => Some(IpAddr::V6(record.address.into())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_is_said_as_the_standard_has_it() {
        // The example of RFC 7617, section 2.
        let said = basic("Aladdin", &Secret::new("open sesame"));
        assert_eq!(said, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    }

    fn greeted(kind: ProbeKind, octets: &str) -> Option<Verdict> {
        greeting(kind, &Question::default(), octets.as_bytes())
    }

    #[test]
    fn a_greeting_is_judged_by_its_number_once_its_line_is_whole() {
        assert_eq!(greeted(ProbeKind::Ftp, "220 welc"), None);
        assert_eq!(greeted(ProbeKind::Ftp, "220 welcome\r\n"), Some(Verdict::Pass));
        assert_eq!(greeted(ProbeKind::Smtp, "220-mail\r\n220 more"), Some(Verdict::Pass));
        assert_eq!(greeted(ProbeKind::Smtp, "421 full\r\n"), Some(Verdict::Fail(FailReason::Status(421))));
        for garbled in ["SSH-2.0-x\r\n", "2200 x\n", "22\n", &"x".repeat(GREETING_MAX)] {
            assert_eq!(
                greeted(ProbeKind::Ftp, garbled),
                Some(Verdict::Fail(FailReason::Garbled)),
                "{garbled}"
            );
        }
        assert_eq!(greeted(ProbeKind::Telnet, ""), None);
        assert_eq!(greeting(ProbeKind::Telnet, &Question::default(), &[255, 253, 1]), Some(Verdict::Pass));
    }

    #[test]
    fn a_status_is_good_where_it_is_expected() {
        let question = Question { statuses: vec![(200, 299), (404, 404)], ..Question::default() };
        let of = |status| verdict_on_status(ProbeKind::Http, &question, status);
        assert_eq!((of(200), of(299), of(404)), (Verdict::Pass, Verdict::Pass, Verdict::Pass));
        assert_eq!(of(500), Verdict::Fail(FailReason::Status(500)));
        let any = |kind, status| verdict_on_status(kind, &Question::default(), status);
        assert_eq!(any(ProbeKind::Http, 500), Verdict::Pass);
        assert_eq!(any(ProbeKind::Smtp, 554), Verdict::Fail(FailReason::Status(554)));
    }

    /// The query, answered.
    fn answered(question: &Question, change: impl Fn(&mut Vec<u8>)) -> Option<Verdict> {
        let mut octets = query(question, 7).expect("a domain");
        octets[2] |= 0x80;
        change(&mut octets);
        answer(question, 7, &octets)
    }

    /// One answer, whose name points to the question's.
    fn record(octets: &mut Vec<u8>, kind: u8, address: &[u8]) {
        octets[7] += 1;
        octets.extend([0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 60, 0]);
        octets.extend(u8::try_from(address.len()).map(|length| vec![length]).expect("short"));
        octets.extend(address);
    }

    #[test]
    fn a_name_server_is_well_that_answers_with_an_address_that_is_expected() {
        let mut question = Question { domain: Some("www.example.com".to_owned()), ..Question::default() };
        let ours = |octets: &mut Vec<u8>| record(octets, 1, &[192, 158, 39, 1]);
        assert_eq!(answered(&question, ours), Some(Verdict::Pass));
        assert_eq!(answered(&question, |_| {}), Some(Verdict::Fail(FailReason::OtherAddress)));
        question.addresses = vec!["192.158.39.2".parse().expect("an address")];
        assert_eq!(answered(&question, ours), Some(Verdict::Fail(FailReason::OtherAddress)));
        let both = |octets: &mut Vec<u8>| {
            ours(octets);
            record(octets, 1, &[192, 158, 39, 2]);
        };
        assert_eq!(answered(&question, both), Some(Verdict::Pass));
        assert_eq!(answered(&question, |octets| octets[3] |= 3), Some(Verdict::Fail(FailReason::NoSuchName)));
        assert_eq!(
            answered(&question, |octets| octets.truncate(20)),
            Some(Verdict::Fail(FailReason::Garbled))
        );
        // Neither another query's answer nor a query is one.
        assert_eq!(answered(&question, |octets| octets[1] ^= 1), None);
        assert_eq!(answered(&question, |octets| octets[2] &= 0x7f), None);
        assert_eq!(answer(&question, 7, &[0, 7]), None);
        question.addresses = vec!["fd00::9".parse().expect("an address")];
        let v6 = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
        assert_eq!(answered(&question, |octets| record(octets, 28, &v6)), Some(Verdict::Pass));
        assert!(query(&question, 7).expect("a query").ends_with(&[0, 28, 0, 1]));
    }

    #[test]
    fn without_a_name_any_answer_says_that_the_server_lives() {
        assert_eq!(answered(&Question::default(), |octets| octets[3] |= 5), Some(Verdict::Pass));
    }
}
