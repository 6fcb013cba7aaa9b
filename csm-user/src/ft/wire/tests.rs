use super::*;
use proptest::prelude::*;

fn message() -> impl Strategy<Value = Message> {
    let facts = (0..4_usize, 1..=254_u8, 0..6_usize, 1..=254_u8, any::<[bool; 8]>(), any::<[u8; 6]>());
    let words = (1..=u64::MAX, 1..=u64::MAX, any::<[u64; 5]>(), any::<u32>());
    let timers = (1_000..1_000_000_u64, 1_000..1_000_000_u64, 1..1_000_000_u64);
    let hold = (0..=8_000_u64, any::<u64>());
    (facts, words, timers, hold).prop_map(|(facts, words, (heartbeat, lease, more), (hold, held))| Message {
        hold: Duration::from_millis(hold),
        held,
        witness: facts.4[7],
        heard: held.rotate_left(7),
        claimed: held.rotate_left(9),
        kind: Kind::ALL[facts.0],
        group: facts.1,
        state: State::ALL[facts.2],
        priority: facts.3,
        forwardable: facts.4[0],
        eligible: facts.4[1],
        preempt: facts.4[2],
        complete: facts.4[3],
        hears_you: facts.4[4],
        offer: facts.4[5],
        keeper: facts.4[6],
        mac: facts.5,
        node: words.0,
        nonce: words.1,
        peer_nonce: words.2[0],
        sequence: words.2[1],
        term: words.2[2],
        config_checksum: words.2[3],
        software_checksum: words.2[4],
        lag_ms: words.3,
        heartbeat: Duration::from_micros(heartbeat),
        lease: Duration::from_micros(lease),
        failover: Duration::from_micros(heartbeat.max(lease) + more),
    })
}

fn reseal(bytes: &mut [u8; LENGTH]) {
    let sum = checksum(bytes);
    bytes[CHECKSUM].copy_from_slice(&sum.to_be_bytes());
}

proptest! {
    #[test]
    fn decode_undoes_encode(message in message()) {
        prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
        for speaks in [NEWEST, NEWEST + 1, 255] {
            let bytes = message.encode_as(NEWEST, speaks);
            prop_assert_eq!(Message::decode(&bytes), Ok(message));
            prop_assert_eq!(newest(&bytes), speaks);
        }
        prop_assert_eq!(newest(&message.encode()), OLDEST);
    }

    #[test]
    fn any_bytes_are_refused_or_mean_themselves(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Message::decode(&bytes).is_err());
    }

    #[test]
    fn what_a_sealed_message_of_any_content_decodes_to_encodes_to_it(
        message in message(), changes in prop::collection::vec((0..LENGTH, any::<u8>()), 0..4),
    ) {
        let mut bytes = message.encode();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        reseal(&mut bytes);
        if let Ok(decoded) = Message::decode(&bytes) {
            // What is passed over is not said again.
            bytes[RESERVED.end - 1] &= u8::from(bytes[VERSION] == OLDEST);
            reseal(&mut bytes);
            prop_assert_eq!(decoded.encode_as(bytes[VERSION], newest(&bytes)), bytes);
        }
    }

    #[test]
    fn a_flipped_bit_is_found(message in message(), bit in 0..LENGTH * 8) {
        let mut bytes = message.encode();
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(Message::decode(&bytes).is_err());
    }
}

#[test]
fn each_fault_has_its_error_and_its_counter() {
    let good = sample().encode();
    let cases: [(usize, u8, DecodeError); 14] = [
        (0, b'X', DecodeError::Magic),
        (4, 0, DecodeError::Version),
        // It would speak nothing newer than 0.
        (4, NEWEST, DecodeError::Version),
        (4, NEWEST + 1, DecodeError::Version),
        (7, 1, DecodeError::Length),
        (5, 9, DecodeError::Kind),
        (13, 6, DecodeError::State),
        (134, 1, DecodeError::Reserved),
        (135, 1, DecodeError::Reserved),
        (135, 255, DecodeError::Reserved),
        (12, 0, DecodeError::Range),
        (14, 255, DecodeError::Range),
        (72, 255, DecodeError::Timers),
        (107, 1, DecodeError::Timers),
    ];
    let mut counts = DecodeCounts::default();
    for (at, byte, error) in cases {
        let mut bytes = good;
        bytes[at] = byte;
        reseal(&mut bytes);
        assert_eq!(Message::decode(&bytes), Err(error), "byte {at} = {byte}");
        counts.record(error);
    }
    for blank in [16..24, 24..32] {
        let mut bytes = good;
        bytes[blank].fill(0);
        reseal(&mut bytes);
        assert_eq!(Message::decode(&bytes), Err(DecodeError::Identity));
        counts.record(DecodeError::Identity);
    }
    let mut damaged = good;
    damaged[60] ^= 4;
    assert_eq!(Message::decode(&damaged), Err(DecodeError::Checksum));
    counts.record(DecodeError::Checksum);
    assert_eq!(Message::decode(&good[..LENGTH - 1]), Err(DecodeError::Length));
    let expected = DecodeCounts {
        length: 1,
        magic: 1,
        version: 3,
        checksum: 1,
        kind: 1,
        state: 1,
        reserved: 3,
        range: 2,
        identity: 2,
        timers: 2,
    };
    assert_eq!(counts, expected);
    assert_eq!(counts.total(), 17);
}

#[test]
fn the_layout_is_the_documented_one() {
    let bytes = sample().encode();
    assert_eq!(bytes[0..8], [b'C', b'S', b'M', b'f', 1, 3, 0, 136]);
    assert_eq!(bytes[12..16], [7, 2, 20, 1 | 4 | 16]);
    assert_eq!(bytes[16..24], 0x0102_0304_0506_0708_u64.to_be_bytes());
    assert_eq!(bytes[56..64], 50_000_u64.to_be_bytes());
    assert_eq!(bytes[96..106], [0, 0, 0, 9, 2, 0, 0, 0, 0, 1]);
    assert_eq!(bytes[106..110], 8_000_u32.to_be_bytes());
    assert_eq!(bytes[110..118], 77_u64.to_be_bytes());
    assert_eq!(bytes[118..], [0; 18]);
}

fn sample() -> Message {
    Message {
        kind: Kind::Elect,
        group: 7,
        state: State::Candidate,
        priority: 20,
        forwardable: true,
        eligible: false,
        preempt: true,
        complete: false,
        hears_you: true,
        offer: false,
        keeper: false,
        node: 0x0102_0304_0506_0708,
        nonce: 5,
        peer_nonce: 6,
        sequence: 7,
        term: 8,
        heartbeat: Duration::from_millis(50),
        failover: Duration::from_millis(150),
        lease: Duration::from_micros(123_333),
        config_checksum: 1,
        software_checksum: 2,
        lag_ms: 9,
        mac: [2, 0, 0, 0, 0, 1],
        hold: Duration::from_secs(8),
        held: 77,
        witness: false,
        heard: 0,
        claimed: 0,
    }
}
