//! The gate: whether this node may forward for the group, and until when, in one 64-bit word.
//!
//! State and deadline share a word so that one aligned store changes both (design: a role moves in one map write) and
//! no reader ever pairs an old state with a new deadline. The word lives in a memory-mapped array map; the real-time
//! thread writes it, the XDP program reads it for each packet.
//!
//! ```text
//! 63                                          2 1 0
//! +--------------------------------------------+---+
//! | deadline, CLOCK_MONOTONIC, ns / 4          | st|
//! +--------------------------------------------+---+
//! ```

/// What the node does with frames for the group's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum GateState {
    /// Drop what comes for the virtual MAC; answer no ARP. The state of a standby and of an all-zero map.
    Closed = 0,
    /// Successor in a planned move: forward what the predecessor relays over the FT VLAN, drop the rest.
    RelayIn = 1,
    /// Active: answer ARP, forward, and accept relayed strays.
    Open = 2,
    /// Predecessor in a planned move: forward nothing, hand strays to the peer over the FT VLAN.
    RelayOut = 3,
}

/// State and deadline as the map holds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Gate(pub u64);

impl Gate {
    /// The value of a fresh map: closed.
    pub const CLOSED: Self = Self(0);

    /// `state` until `deadline_ns` on CLOCK_MONOTONIC; the deadline loses its two lowest bits (rounded down).
    #[must_use]
    pub const fn new(state: GateState, deadline_ns: u64) -> Self {
        Self((deadline_ns & !3) | state as u64)
    }

    /// The state that is in force at `now_ns`: closed once the deadline is reached.
    #[inline(always)]
    #[must_use]
    pub const fn state_at(self, now_ns: u64) -> GateState {
        if now_ns >= self.0 & !3 {
            return GateState::Closed;
        }
        match self.0 & 3 {
            1 => GateState::RelayIn,
            2 => GateState::Open,
            3 => GateState::RelayOut,
            _ => GateState::Closed,
        }
    }

    /// Whether it says `state`, be the deadline reached or not.
    #[inline(always)]
    #[must_use]
    pub const fn says(self, state: GateState) -> bool {
        self.0 & 3 == state as u64
    }

    /// The deadline in nanoseconds of CLOCK_MONOTONIC; 0 for the all-zero map.
    #[must_use]
    pub const fn deadline_ns(self) -> u64 {
        self.0 & !3
    }
}

crate::map_type!(Gate, 8);

/// When a CPU last read the fine clock, which costs as much as all of the packet's look-ups but one.
///
/// The reading serves up to [`CLOCK_PACKETS`] packets of one tick, and only while the lease has more than [`CLOCK_SLACK_NS`] to
/// run. Two bounds follow. In time: a CPU that handles packets takes its own timer interrupt, and counts the ticks itself once
/// whoever counts them has missed five; so a reading is used for six ticks at most, which is less than the slack from 250 Hz
/// up, and no packet goes by a lease that has ended. In packets, on any kernel and also after the whole machine was stopped
/// between two of them: less than [`CLOCK_PACKETS`] a CPU go by a reading from before the stop, no more than the frames that
/// a CPU has decided on and holds back for one transmission (16, DEV_MAP_BULK_SIZE) in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Clock {
    /// Tick of the reading.
    pub jiffies: u64,
    /// The reading: CLOCK_MONOTONIC, ns.
    pub now_ns: u64,
    /// Packets that it may still serve.
    pub left: u64,
}
crate::map_type!(Clock, 24);

/// Packets that one reading of the clock serves on one CPU, the first included.
pub const CLOCK_PACKETS: u64 = 16;
/// With less than this left of the lease, ns, every packet reads the clock: six ticks of 250 Hz, and a third.
pub const CLOCK_SLACK_NS: u64 = 32_000_000;

#[cfg(test)]
mod tests {
    use super::{Gate, GateState};

    #[test]
    fn a_fresh_map_is_closed_at_any_time() {
        assert_eq!(Gate::CLOSED.state_at(0), GateState::Closed);
        assert_eq!(Gate::CLOSED.state_at(u64::MAX), GateState::Closed);
    }

    #[test]
    fn every_state_ends_at_its_deadline() {
        for state in [GateState::RelayIn, GateState::Open, GateState::RelayOut] {
            let gate = Gate::new(state, 1_000);
            assert_eq!(gate.state_at(999), state);
            assert_eq!(gate.state_at(1_000), GateState::Closed);
        }
    }

    #[test]
    fn what_it_says_outlives_its_deadline() {
        let states = [GateState::Closed, GateState::RelayIn, GateState::Open, GateState::RelayOut];
        for state in states {
            let gate = Gate::new(state, 1_000);
            assert_eq!(states.map(|other| gate.says(other)), states.map(|other| other == state));
        }
        assert!(Gate::CLOSED.says(GateState::Closed));
    }

    #[test]
    fn a_deadline_is_never_rounded_up() {
        assert_eq!(Gate::new(GateState::Open, 1_003).deadline_ns(), 1_000);
    }
}
