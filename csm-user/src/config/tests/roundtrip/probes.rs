//! Probes and named reals of a configuration that is made up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

use super::{name, secs};
use crate::model::{Family, NamedReal, Probe, ProbeKind, Question, Secret};

/// Names that reals of a farm may have.
const NAMED: std::ops::Range<u8> = 1..5;

/// Real `n` of the module in each family.
pub(super) fn named(family: Family, n: u8) -> NamedReal {
    match family {
        Family::V4 => {
            NamedReal { name: name('R', n.into()), address: Some(Ipv4Addr::new(10, 2, 4, n).into()) }
        }
        Family::V6 => NamedReal {
            name: name('S', n.into()),
            address: Some(Ipv6Addr::new(0xfd00, 2, 0, 0, 0, 0, 4, n.into()).into()),
        },
    }
}

/// All that are named, and one that has no address yet.
pub(super) fn named_reals() -> Vec<NamedReal> {
    let known = Family::ALL.iter().flat_map(|&family| NAMED.map(move |n| named(family, n)));
    known.chain([NamedReal { name: name('R', 9), address: None }]).collect()
}

fn address() -> impl Strategy<Value = IpAddr> {
    (1..=250_u8, any::<bool>()).prop_map(|(n, v6)| match v6 {
        false => Ipv4Addr::new(10, 3, 7, n).into(),
        true => Ipv6Addr::new(0xfd00, 3, 0, 0, 0, 0, 7, n.into()).into(),
    })
}

/// No element twice.
fn distinct<T: PartialEq>(list: Vec<T>) -> Vec<T> {
    list.into_iter().fold(Vec::new(), |mut kept, next| {
        if !kept.contains(&next) {
            kept.push(next);
        }
        kept
    })
}

/// What a probe of `kind` may ask and expect.
fn question(kind: ProbeKind) -> impl Strategy<Value = Question> {
    let statuses = vec((100..=999_u16, 0..=400_u16), 0..3);
    let headers = vec(("[A-Za-z][A-Za-z0-9_-]{0,9}", "[\"-~][!-~]{0,19}"), 0..3);
    let http = (any::<bool>(), of("/[A-Za-z0-9?&=.%_-]{1,30}"), headers);
    let dns = of(("[a-z0-9_-]{1,20}([.][A-Z0-9]{1,9}){0,3}", vec(address(), 0..3)));
    // Not a header of the same meaning beside it.
    let who = of(("[\"-9;-~][!-9;-~]{0,19}", "[!-~]{0,64}"));
    (http, statuses, dns, who).prop_map(move |((is_head, path, headers), statuses, dns, who)| {
        let mut made = Question::default();
        if kind == ProbeKind::Http {
            (made.is_head, made.path, made.headers) = (is_head, path, distinct(headers));
            made.credentials = who.map(|(user, password)| (user, Secret::new(&password)));
        }
        if kind.has_status() {
            let range = |(first, more): (u16, u16)| (first, (first + more).min(999));
            made.statuses = distinct(statuses.into_iter().map(range).collect());
        }
        if let Some((domain, addresses)) = dns.filter(|_| kind == ProbeKind::Dns) {
            (made.domain, made.addresses) = (Some(domain), distinct(addresses));
        }
        made
    })
}

pub(super) fn probe(number: usize) -> impl Strategy<Value = Probe> {
    let times = (secs(2..=65535), secs(2..=65535), secs(1..=65535), secs(1..=65535));
    let counts = (0..=65535_u16, 1..=65535_u16);
    let kind = select(ProbeKind::ALL.as_slice());
    let asked = kind.prop_flat_map(|kind| (Just(kind), question(kind)));
    (asked, times, counts, of(1..=65535_u16), of(address())).prop_map(
        move |((kind, question), (interval, failed, receive, open), (retries, recover), port, address)| {
            Probe {
                name: name('P', number),
                kind,
                interval,
                retries,
                failed,
                receive,
                open: if kind.connects() { open } else { Duration::from_secs(10) },
                recover,
                port: port.filter(|_| kind.port().is_some()),
                address,
                question,
            }
        },
    )
}
