//! Two CPUs on the same connections of IPv6 at once: as of IPv4.

use csm_common::address::V6;
use csm_common::event::Record;
use csm_common::flow::{FlowEntry, FlowKey};
use csm_tests::rig::{Rig, Side};
use csm_tests::rig6::{self, FAR6, FIRST6, REALS6, VIP6, WEB6};

use super::frames::Frame6;
use crate::dataplane::race::{Family, Segment, fins_cross, flags_stay, opens, places, resets, shares};

impl Family for V6 {
    const WEB: u32 = WEB6;
    const FIRST_REAL: u32 = FIRST6;
    const EVERYBODYS: u32 = 1;
    const IPV6: bool = true;

    fn fill(rig: &Rig, reals: u32) {
        rig6::fill(rig).expect("the maps");
        rig6::vserver(rig, WEB6, |vserver| vserver.ring_len = reals);
    }

    fn set_flags(rig: &Rig, flags: u32) {
        rig6::vserver(rig, WEB6, |vserver| vserver.flags |= flags);
    }

    fn set_max_conns(rig: &Rig, most: u32) {
        rig6::vserver(rig, WEB6, |vserver| vserver.max_conns = most);
    }

    fn set_owner(rig: &Rig, owner: (u32, u32)) {
        rig6::vserver(rig, WEB6, |vserver| (vserver.owner, vserver.owner_max_conns) = owner);
    }

    fn frames(segment: Segment, flow: u16, real: usize) -> (Vec<u8>, Vec<u8>) {
        let (real, port) = (&REALS6[real], 1024 + flow);
        let (frame, out) = if segment.side == Side::Client {
            let frame = Frame6::from(&FAR6, port, (VIP6, 80), segment.l4()).payload(segment.payload);
            (frame.clone(), frame.sent_to(real, 80))
        } else {
            let frame = Frame6::from(real, 80, (FAR6.ip, port), segment.l4()).payload(segment.payload);
            (frame.clone(), frame.answered_as(VIP6, 80, &FAR6))
        };
        (frame.bytes(), out.bytes())
    }

    fn flows(rig: &Rig, name: &'static str) -> Vec<(FlowKey<Self>, FlowEntry<Self>)> {
        rig6::flows(rig, name)
    }

    fn events(rig: &mut Rig) -> Vec<Record<Self>> {
        rig6::events(rig)
    }
}

#[test]
fn a_connection_is_opened_and_proven_once() {
    opens::<V6>();
}

#[test]
fn fins_and_resets_that_cross_on_two_cpus_close() {
    fins_cross::<V6>();
    resets::<V6>();
}

#[test]
fn a_fin_is_not_lost_beside_what_else_is_noted() {
    flags_stay::<V6>();
}

#[test]
fn a_connection_takes_one_place_and_gives_it_back_once() {
    places::one_for_each::<V6>();
}

#[test]
fn a_virtual_server_is_filled_exactly() {
    places::no_more_than::<V6>(700);
    places::no_more_of_an_owner_than::<V6>(700);
}

#[test]
fn no_more_are_proven_than_there_is_room_for() {
    shares::are_kept::<V6>();
}
