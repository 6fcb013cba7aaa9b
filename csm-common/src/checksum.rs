//! Internet checksum arithmetic (RFC 1071) and incremental update (RFC 1624, equation 3).
//!
//! A delta is the one's-complement sum of `!old + new` over the 16-bit words that change; adding it to the complement
//! of a checksum gives the complement of the new one. It is computed once per connection.

/// Folds a 32-bit partial sum to 16 bits.
#[inline(always)]
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "both carries are in: the sum fits 16 bits")]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// Partial sum for replacing the 32-bit field `old_be` with `new_be` (both as on the wire).
#[inline(always)]
#[must_use]
pub const fn replace32(old_be: u32, new_be: u32) -> u32 {
    let (old, new) = (!old_be, new_be);
    (old & 0xffff) + (old >> 16) + (new & 0xffff) + (new >> 16)
}

/// Partial sum for replacing the 16-bit field `old_be` with `new_be` (both as on the wire).
#[inline(always)]
#[must_use]
pub const fn replace16(old_be: u16, new_be: u16) -> u32 {
    (!old_be) as u32 + new_be as u32
}

/// The checksum after a change whose folded delta is `delta`.
#[inline(always)]
#[must_use]
pub const fn apply(checksum_be: u16, delta: u16) -> u16 {
    !fold((!checksum_be) as u32 + delta as u32)
}

/// As [`apply`], for UDP over IPv4: 0 means "no checksum" and stays, a computed 0 is sent as FFFF (RFC 768).
#[inline(always)]
#[must_use]
pub const fn apply_udp(checksum_be: u16, delta: u16) -> u16 {
    if checksum_be == 0 {
        return 0;
    }
    match apply(checksum_be, delta) {
        0 => 0xffff,
        sum => sum,
    }
}

#[cfg(test)]
mod tests {
    use super::{apply, apply_udp, fold, replace16, replace32};
    use proptest::prelude::*;

    fn full(words: &[u16]) -> u16 {
        !fold(words.iter().map(|&word| u32::from(word)).sum())
    }

    proptest! {
        #[test]
        #[expect(clippy::cast_possible_truncation, reason = "splits a word into its halves")]
        fn an_incremental_update_equals_a_full_sum(mut words in prop::collection::vec(any::<u16>(), 4..20), new: u32, port: u16) {
            // At least one word that is not zero, as every real packet has: the all-zero sum has two forms.
            words.push(0x0800);
            let before = full(&words);
            let old = u32::from(words[0]) | u32::from(words[1]) << 16;
            let delta = fold(replace32(old, new) + replace16(words[2], port));
            words[0] = new as u16;
            words[1] = (new >> 16) as u16;
            words[2] = port;
            prop_assert_eq!(apply(before, delta), full(&words));
        }

        #[test]
        fn a_udp_checksum_is_never_turned_into_none(sum in 1u16.., delta: u16) {
            prop_assert_ne!(apply_udp(sum, delta), 0);
            prop_assert_eq!(apply_udp(0, delta), 0);
        }
    }
}
