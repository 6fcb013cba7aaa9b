//! The question that keeps a gateway under watch from farther than its link: ICMP echo (RFC 792, RFC 4443). Pure.

/// Length of a question.
pub const LEN: usize = 16;

const HEADER: usize = 8;

/// Types of the question and of its answer.
const fn types(v6: bool) -> (u8, u8) {
    if v6 { (128, 129) } else { (8, 0) }
}

/// Echo number `sequence` of `id`, as an ICMP message. The kernel fills in the checksum of ICMPv6, which covers addresses.
#[must_use]
pub fn request(v6: bool, id: u16, sequence: u16) -> [u8; LEN] {
    let mut message = [0; LEN];
    message[0] = types(v6).0;
    message[4..6].copy_from_slice(&id.to_be_bytes());
    message[6..8].copy_from_slice(&sequence.to_be_bytes());
    if !v6 {
        let checksum = super::checksum(&message, 0);
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
    }
    message
}

/// Whether what a raw socket gave is the answer to that: of IPv4 with its header, of IPv6 without.
#[must_use]
pub fn is_answer(v6: bool, packet: &[u8], id: u16, sequence: u16) -> bool {
    let header = if v6 { 0 } else { packet.first().map_or(0, |first| usize::from(first & 0x0f) * 4) };
    let Some(message) = packet.get(header..).and_then(<[u8]>::first_chunk::<HEADER>) else { return false };
    let [kind, code, _, _, id_high, id_low, high, low] = *message;
    (kind, code) == (types(v6).1, 0)
        && u16::from_be_bytes([id_high, id_low]) == id
        && u16::from_be_bytes([high, low]) == sequence
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(v6: bool, id: u16, sequence: u16) -> Vec<u8> {
        let mut message = request(v6, id, sequence).to_vec();
        message[0] = types(v6).1;
        let header = if v6 { Vec::new() } else { [&[0x45][..], &[0; 19]].concat() };
        [header, message].concat()
    }

    #[test]
    fn the_question_is_an_echo_request() {
        let read = etherparse::Icmpv4Slice::from_slice(&request(false, 7, 9)[..]).expect("ICMP").header();
        let echo = etherparse::IcmpEchoHeader { id: 7, seq: 9 };
        assert_eq!(read.icmp_type, etherparse::Icmpv4Type::EchoRequest(echo));
        assert_eq!(
            super::super::checksum(&request(false, 7, 9), 0),
            0,
            "a sum that is right comes to nothing"
        );
        assert_eq!(request(true, 7, 9)[0], 128);
    }

    #[test]
    fn only_the_answer_to_this_question_counts() {
        for v6 in [false, true] {
            assert!(is_answer(v6, &answer(v6, 7, 9), 7, 9));
            assert!(!is_answer(v6, &answer(v6, 7, 8), 7, 9), "an answer that is late by an interval");
            assert!(!is_answer(v6, &answer(v6, 6, 9), 7, 9), "another's");
            assert!(!is_answer(v6, &request(v6, 7, 9), 7, 9), "its own");
            assert!(!is_answer(v6, &answer(v6, 7, 9)[..7], 7, 9));
        }
    }

    proptest! {
        #[test]
        fn no_packet_makes_it_stumble(packet in prop::collection::vec(any::<u8>(), 0..64), v6: bool) {
            let _judged = is_answer(v6, &packet, 1, 1);
        }
    }
}
