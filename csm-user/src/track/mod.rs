//! Tracking: whether this node may have the role of its FT group, by what it needs around it.
//!
//! ```text
//!  gateways  ──ARP, ND, ICMP──▶ liveness ─┐
//!  VRRP      ──adverts──▶ watch ──────────┤
//!  reals     ──health──▶ how many ────────┤
//!  netlink   ──────── links ──────────────┼──▶ tracker ──▶ eligible? ──▶ the election
//!                                         │    (mode, hold-down)
//! ```
//!
//! The verdict is a yes or no that ranks before the priority, never a sum that is taken from it: a node with one thing
//! down does not lose to one with two things down because of some arithmetic. With `preempt` on both nodes the role
//! follows the verdict; if neither node is eligible nobody gives it up.
//!
//! Pure: [`machine`] (objects to verdict), [`liveness`] (answers of a gateway to its state), [`arp`], [`nd`] and [`echo`]
//! (question and answer), [`vrrp`] (who is the master of a group). Shell: [`task`].

pub mod arp;
pub mod echo;
pub mod liveness;
pub mod machine;
pub mod nd;
pub mod task;
pub mod vrrp;

/// The Internet checksum of `message` and of what else it covers, the sum of whose words is `pseudo` (RFC 1071).
fn checksum(message: &[u8], pseudo: u32) -> u16 {
    let (words, rest) = message.as_chunks::<2>();
    let last = rest.first().map_or(0, |last| u32::from(*last) << 8);
    let mut sum = words.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum::<u32>() + last + pseudo;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}
