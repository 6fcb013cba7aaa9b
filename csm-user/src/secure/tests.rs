use super::*;
use proptest::prelude::*;

const PURPOSE: Purpose = Purpose { service: "test", group: 1, from: 10, to: 20 };

fn keys(sign: Option<&str>, accept: Option<&str>) -> Keys {
    Keys::from(&FtKeys { sign: sign.map(Secret::new), accept: accept.map(Secret::new) })
}

type Seals = (Option<StatelessTransportState>, Option<StatelessTransportState>);

/// What comes of it when `from` connects to `to`.
fn meet(
    from: &Keys,
    to: &Keys,
    purposes: [&Purpose; 2],
) -> Result<Seals, (SecureError, Option<SecureError>)> {
    let (opening, offer) = Opening::new(from, purposes[0]).unwrap();
    let carried = |offer: &Offer| {
        let octets = offer.encode();
        let (head, rest) = octets.split_first_chunk().unwrap();
        assert_eq!(Offer::rest(*head).unwrap(), rest.len());
        Offer::decode(*head, rest).unwrap()
    };
    let (answer, theirs) = answer(to, purposes[1], &carried(&offer));
    match (opening.answered(&carried(&answer)), theirs) {
        (Ok(ours), Ok(theirs)) => Ok((ours, theirs)),
        (Err(error), theirs) => Err((error, theirs.err())),
        (Ok(_), Err(error)) => panic!("one side believes in a stream: {error}"),
    }
}

fn is_sealed(from: &Keys, to: &Keys) -> Option<bool> {
    let (ours, theirs) = meet(from, to, [&PURPOSE; 2]).ok()?;
    assert_eq!(ours.is_some(), theirs.is_some());
    Some(ours.is_some())
}

#[test]
fn with_a_key_a_stream_is_sealed_and_nothing_else_is_one() {
    let one = keys(Some("one"), None);
    assert_eq!(is_sealed(&keys(None, None), &keys(None, None)), Some(false));
    assert_eq!(is_sealed(&one, &one), Some(true));
    assert!(matches!(
        meet(&one, &keys(Some("two"), None), [&PURPOSE; 2]),
        Err((SecureError::Key, Some(SecureError::Key)))
    ));
    assert!(matches!(meet(&one, &keys(None, None), [&PURPOSE; 2]), Err((SecureError::Required, None))));
    assert!(matches!(
        meet(&keys(None, None), &one, [&PURPOSE; 2]),
        Err((SecureError::Unkeyed, Some(SecureError::Required)))
    ));
}

#[test]
fn keys_are_set_and_changed_without_a_stream_that_is_refused() {
    let steps = [
        (None, None),
        (None, Some("one")),
        (Some("one"), None),
        (Some("one"), Some("two")),
        (Some("two"), Some("one")),
        (Some("two"), None),
    ];
    for pair in steps.windows(2) {
        let (before, after) = (keys(pair[0].0, pair[0].1), keys(pair[1].0, pair[1].1));
        for (from, to) in [(&before, &after), (&after, &before), (&after, &after)] {
            let sealed = is_sealed(from, to);
            let both_have_keys = from.first.is_some() && to.first.is_some();
            assert_eq!(sealed, Some(both_have_keys), "{pair:?}");
        }
    }
}

#[test]
fn a_stream_is_for_one_purpose_between_two_boots() {
    let one = keys(Some("one"), None);
    for other in [
        Purpose { service: "tests", ..PURPOSE },
        Purpose { group: 2, ..PURPOSE },
        Purpose { from: 11, ..PURPOSE },
        Purpose { to: 21, ..PURPOSE },
    ] {
        assert!(
            matches!(meet(&one, &one, [&PURPOSE, &other]), Err((SecureError::Key, Some(_)))),
            "{other:?}"
        );
    }
}

#[test]
fn what_is_no_offer_is_none() {
    assert!(matches!(Offer::rest(*b"CSMn\x05"), Err(SecureError::Garbled)));
    assert!(matches!(Offer::rest(*b"CSMR\x00"), Err(SecureError::Garbled)));
    // An answer that is made up, without the key, in place of the peer's.
    let (opening, _) = Opening::new(&keys(Some("one"), None), &PURPOSE).unwrap();
    assert!(matches!(opening.answered(&Offer::Sealed([7; HANDSHAKE])), Err(SecureError::Key)));
    let (opening, _) = Opening::new(&keys(Some("one"), None), &PURPOSE).unwrap();
    assert!(matches!(opening.answered(&Offer::Clear), Err(SecureError::Garbled)));
}

#[test]
fn no_key_is_printed() {
    assert_eq!(format!("{:?}", keys(Some("hidden"), None)), "Keys { required: true, .. }");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_sealed_is_opened_whole_and_not_once_a_bit_is_turned(
        text in proptest::collection::vec(any::<u8>(), 1..40_000),
        turned in any::<prop::sample::Index>(),
        bit in 0_u8..8,
    ) {
        let one = keys(Some("one"), None);
        let (Some(ours), Some(theirs)) = meet(&one, &one, [&PURPOSE; 2]).unwrap() else {
            return Err(TestCaseError::fail("not sealed"));
        };
        let (mut sealed, mut done, mut records) = (BytesMut::new(), 0, 0);
        while done < text.len() {
            done += seal(&ours, records, &text[done..], &mut sealed);
            records += 1;
        }
        prop_assert!(!sealed.windows(16).any(|window| text.len() >= 16 && window == &text[..16]));
        let mut damaged = sealed.clone();
        let at = turned.index(damaged.len());
        damaged[at] ^= 1 << bit;

        let mut plain = BytesMut::new();
        for number in 0..records {
            prop_assert!(open(&theirs, number, &mut sealed, &mut plain).unwrap());
        }
        prop_assert_eq!((&plain[..], sealed.len()), (&text[..], 0));

        let mut plain = BytesMut::new();
        let opened = (0..records).try_for_each(|number| match open(&theirs, number, &mut damaged, &mut plain) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(()),
        });
        prop_assert!(opened.is_err());
        prop_assert!(text.starts_with(&plain));
    }
}
