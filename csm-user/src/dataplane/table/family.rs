//! The two families of addresses, as their tables have them. Pure.

use csm_common::address::V6;
use csm_common::names;

use crate::dataplane::family::Wire;
use crate::dataplane::ring::{Change, Delta};

/// A family that has tables of its own.
pub trait TableFamily: Wire + Send + Sync {
    /// Name of the map of proven connections.
    const FLOWS: &'static str;
    /// Of half-open ones.
    const EMBRYONIC: &'static str;
    /// Of sticky entries.
    const STICKY: &'static str;

    /// A change of this family's tables, to be told.
    fn delta(change: Change<Self>) -> Delta;
}

impl TableFamily for u32 {
    const FLOWS: &'static str = names::FLOWS;
    const EMBRYONIC: &'static str = names::EMBRYONIC;
    const STICKY: &'static str = names::STICKY;

    fn delta(change: Change) -> Delta {
        Delta::V4(change)
    }
}

impl TableFamily for V6 {
    const FLOWS: &'static str = names::FLOWS6;
    const EMBRYONIC: &'static str = names::EMBRYONIC6;
    const STICKY: &'static str = names::STICKY6;

    fn delta(change: Change<Self>) -> Delta {
        Delta::V6(change)
    }
}
