//! Tracking: whether this node may have the role of its FT group, by what it needs around it.
//!
//! ```text
//!  gateways  ──ARP──▶ liveness ─┐
//!  netlink   ──────── links ────┼──▶ tracker ──▶ eligible? ──▶ the election
//!                               │    (mode, hold-down)
//! ```
//!
//! The verdict is a yes or no that ranks before the priority, never a sum that is taken from it: a node with one thing
//! down does not lose to one with two things down because of some arithmetic. With `preempt` on both nodes the role
//! follows the verdict; if neither node is eligible nobody gives it up.
//!
//! Pure: [`machine`] (objects to verdict), [`liveness`] (answers of a gateway to its state), [`arp`] (question and
//! answer). Shell: [`task`].

pub mod arp;
pub mod liveness;
pub mod machine;
pub mod task;
