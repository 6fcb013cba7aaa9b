use proptest::prelude::*;

use super::*;

fn hello(version: Version) -> Message {
    Message {
        version,
        op: Op::Hello,
        state: State::Active,
        group: 136,
        priority: 110,
        hello: Duration::from_secs(3),
        hold: Duration::from_secs(10),
        authentication: AUTHENTICATION,
        family: Family::V4,
        address: Some(IpAddr::from([10, 6, 0, 1])),
        identifier: if version == Version::V2 { [2, 0, 0, 0, 0, 1] } else { [0; 6] },
    }
}

fn bytes(message: &Message) -> Vec<u8> {
    let (bytes, length) = message.encode();
    bytes[..length].to_vec()
}

#[test]
fn version_1_is_that_of_rfc_2281() {
    let expected = [&[0, 0, 16, 3, 10, 110, 136, 0][..], b"cisco\0\0\0", &[10, 6, 0, 1]].concat();
    assert_eq!(bytes(&hello(Version::V1)), expected);
}

#[test]
fn version_2_is_a_group_state_and_a_text() {
    let expected = [
        &[1, 40, 2, 0, 6, 4, 0, 136][..],
        &[2, 0, 0, 0, 0, 1],
        &[0, 0, 0, 110, 0, 0, 0x0b, 0xb8, 0, 0, 0x27, 0x10, 10, 6, 0, 1],
        &[0; 12],
        &[3, 8],
        b"cisco\0\0\0",
    ];
    assert_eq!(bytes(&hello(Version::V2)), expected.concat());
}

#[test]
fn a_group_of_ipv6_says_its_link_local_address() {
    let address = "fe80::5:73ff:fea0:1".parse().ok();
    let said = Message { family: Family::V6, address, group: 1, ..hello(Version::V2) };
    let expected = [
        &[1, 40, 2, 0, 6, 6, 0, 1][..],
        &[2, 0, 0, 0, 0, 1],
        &[0, 0, 0, 110, 0, 0, 0x0b, 0xb8, 0, 0, 0x27, 0x10],
        &[0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 5, 0x73, 0xff, 0xfe, 0xa0, 0, 1],
        &[3, 8],
        b"cisco\0\0\0",
    ];
    assert_eq!(bytes(&said), expected.concat());
    assert_eq!(Message::decode(&bytes(&said)), Ok(said));
    // Nobody's address.
    for nobody in ["::", "ff02::1", "::1"] {
        let address = Some(nobody.parse().expect("an address"));
        let read = Message::decode(&bytes(&Message { address, ..said })).expect("a message");
        assert_eq!(read.address, None, "{nobody}");
    }
}

#[test]
fn what_is_out_of_range_is_no_message() {
    let v1 = bytes(&hello(Version::V1));
    let v2 = bytes(&hello(Version::V2));
    let with = |bytes: &[u8], at: usize, value: u8| {
        let mut bytes = bytes.to_vec();
        bytes[at] = value;
        Message::decode(&bytes)
    };
    let table = [
        (with(&v1, 0, 7), Malformed::Truncated),
        (with(&v1, 1, 3), Malformed::Op),
        (with(&v1, 2, 3), Malformed::State),
        (with(&v1, 3, 0), Malformed::Range),
        (with(&v1, 4, 3), Malformed::Range),
        (with(&v2, 0, 9), Malformed::Version),
        (with(&v2, 1, 60), Malformed::Truncated),
        (with(&v2, 2, 3), Malformed::Version),
        (with(&v2, 3, 3), Malformed::Op),
        (with(&v2, 4, 0), Malformed::State),
        (with(&v2, 5, 5), Malformed::Family),
        (with(&v2, 6, 16), Malformed::Range),
        (with(&v2, 16, 1), Malformed::Range),
        (with(&v2, 43, 7), Malformed::Truncated),
        (Message::decode(&[]), Malformed::Truncated),
        (Message::decode(&v1[..19]), Malformed::Truncated),
    ];
    for (index, (decoded, fault)) in table.into_iter().enumerate() {
        assert_eq!(decoded, Err(fault), "{index}");
    }
}

#[test]
fn a_message_without_text_is_not_of_the_default_text() {
    let text_left_out = &bytes(&hello(Version::V2))[..V2_STATE_LEN];
    let decoded = Message::decode(text_left_out).expect("well formed");
    assert_ne!(decoded.authentication, AUTHENTICATION);
}

#[test]
fn texts_have_one_to_eight_characters() {
    assert_eq!(Authentication::new("cisco"), Some(AUTHENTICATION));
    assert_eq!(Authentication::new("12345678").map(|text| text.to_string()).as_deref(), Some("12345678"));
    for bad in ["", "123456789", "a b", "ä"] {
        assert_eq!(Authentication::new(bad), None, "{bad}");
    }
    assert_eq!(Authentication(*b"a\0\xffb\0\0\0\0").to_string(), "a??b");
}

#[test]
fn virtual_macs_are_those_of_the_versions() {
    assert_eq!(Version::V1.virtual_mac(1, Family::V4), [0, 0, 0x0c, 7, 0xac, 1]);
    assert_eq!(Version::V2.virtual_mac(4095, Family::V4), [0, 0, 0x0c, 0x9f, 0xff, 0xff]);
    assert_eq!(Version::V2.virtual_mac(4095, Family::V6), [0, 5, 0x73, 0xa0, 0x0f, 0xff]);
}

pub(in crate::hsrp) fn message() -> impl Strategy<Value = Message> {
    let op = prop_oneof![Just(Op::Hello), Just(Op::Coup), Just(Op::Resign)];
    let state = prop::sample::select(State::ALL.to_vec());
    let times = (1..=254_u64, 1..=100_u64, any::<bool>());
    let address = prop::option::of((1..=223_u8, any::<[u8; 3]>(), any::<[u16; 7]>()));
    (
        prop::sample::select(Version::ALL.to_vec()),
        op,
        state,
        any::<u16>(),
        any::<u8>(),
        times,
        any::<[u8; 8]>(),
        (any::<bool>(), address),
    )
        .prop_map(|(version, op, state, group, priority, (hello, more, odd), text, (wide, address))| {
            let wide = wide && version == Version::V2;
            // Version 1 counts seconds.
            let odd = Duration::from_millis(if odd && version == Version::V2 { 7 } else { 0 });
            Message {
                version,
                op,
                state,
                group: group % (version.group_max() + 1),
                priority,
                hello: Duration::from_secs(hello) + odd,
                hold: Duration::from_secs((hello + more).min(255)) + odd,
                authentication: Authentication(text),
                family: if wide { Family::V6 } else { Family::V4 },
                address: address.map(|(a, [b, c, d], [e, f, g, h, i, j, k])| match wide {
                    true => IpAddr::from([0xfe80, e, f, g, h, i, j, k]),
                    false => IpAddr::from([a, b, c, d]),
                }),
                identifier: if version == Version::V2 { [2, 0, 0, 0, 0, priority] } else { [0; 6] },
            }
        })
}

proptest! {
    #[test]
    fn what_is_sent_is_read_as_it_was(message in message()) {
        prop_assert_eq!(Message::decode(&bytes(&message)), Ok(message));
    }

    #[test]
    fn no_bytes_panic_and_what_is_read_is_in_range(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        if let Ok(message) = Message::decode(&bytes) {
            prop_assert!(message.hold > message.hello && message.group <= message.version.group_max());
        }
    }

    #[test]
    fn a_damaged_message_never_panics(message in message(), at in 0..52_usize, value in any::<u8>(), cut in 0..53_usize) {
        let mut bytes = bytes(&message);
        if let Some(octet) = bytes.get_mut(at) {
            *octet = value;
        }
        bytes.truncate(cut);
        // Whatever comes of it.
        let _read = Message::decode(&bytes);
    }
}
