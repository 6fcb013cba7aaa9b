//! The hash of addresses that both nodes of a pair compute alike.

use crate::address::Address;

/// Mixes all bits of `value` into all bits: the finish of MurmurHash3 (fmix32, public domain).
#[inline(always)]
#[must_use]
pub const fn mix(mut value: u32) -> u32 {
    value ^= value >> 16;
    value = value.wrapping_mul(0x85eb_ca6b);
    value ^= value >> 13;
    value = value.wrapping_mul(0xc2b2_ae35);
    value ^ value >> 16
}

/// Hash of what a hashing predictor looks at; an address that does not count is all zeros. Network order, as in the maps.
#[inline(always)]
#[must_use]
pub fn addresses<A: Address>(source_be: A, destination_be: A) -> u32 {
    mix(mix(source_be.folded()) ^ destination_be.folded().rotate_left(16))
}

#[cfg(test)]
mod tests {
    use super::addresses;
    use crate::address::V6;

    #[test]
    fn neighbours_are_spread_over_all_slots() {
        let mut hits = [0_u32; 16];
        for client in 0..16_000_u32 {
            hits[(addresses((0x0a00_0000 + client).to_be(), 7) % 16) as usize] += 1;
        }
        assert!(hits.iter().all(|&hits| (850..1150).contains(&hits)), "{hits:?}");
        let mut hits = [0_u32; 16];
        for client in 0..16_000_u32 {
            let client = V6([0x2001_0db8_u32.to_be(), 0, 0, client.to_be()]);
            hits[(addresses(client, V6::default()) % 16) as usize] += 1;
        }
        assert!(hits.iter().all(|&hits| (850..1150).contains(&hits)), "{hits:?}");
    }

    #[test]
    fn it_is_the_same_wherever_it_is_computed() {
        assert_eq!(addresses(u32::from_ne_bytes([10, 0, 0, 1]), 0), super::mix(super::mix(0x0a00_0001)));
    }
}
