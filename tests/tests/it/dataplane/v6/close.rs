//! The endings of [`crate::dataplane::close`] over IPv6.

use csm_common::counter::Reason;
use csm_common::event::{EVENT_CLOSED, EVENT_V6};
use csm_common::flow::{FLAG_FIN, FLAG_FORWARD, STATE_CLOSED};
use csm_common::names;
use csm_common::service::VSERVER_DISPATCH;
use csm_tests::rig::{Rig, Side};
use csm_tests::rig6::{self, FAR6, REALS6, VIP6, WEB6};

use super::frames::{Frame6, at, expect};
use crate::dataplane::close::endings;
use crate::dataplane::frames::{ACK, CLIENT_ISN, SERVER_ISN, SYN};

/// A segment, which must go on as it should.
#[track_caller]
fn run(rig: &mut Rig, dispatch: bool, of_client: bool, mut frame: Frame6, reason: Reason) {
    if of_client {
        let out = if dispatch {
            frame.clone().routed_to(&REALS6[0])
        } else {
            frame.clone().sent_to(&REALS6[0], 80)
        };
        return expect(rig, Side::Client, &frame, reason, &out);
    }
    if dispatch {
        frame.src = at(VIP6, 80);
    }
    expect(rig, Side::Server, &frame, reason, &frame.clone().answered_as(VIP6, 80, &FAR6));
}

fn ends_well(dispatch: bool) {
    let mut rig = rig6::rig().expect("the rig");
    rig6::vserver(&rig, WEB6, |vserver| {
        vserver.ring_len = 1;
        vserver.flags |= if dispatch { VSERVER_DISPATCH } else { 0 };
    });
    for segments in endings() {
        let (client_next, server_next) = (CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1));
        for (of_client, frame, reason) in [
            (true, Frame6::client(SYN, CLIENT_ISN, 0), Reason::ForwardedNew),
            (false, Frame6::server(SYN | ACK, SERVER_ISN, client_next), Reason::ForwardedFlow),
            (true, Frame6::client(ACK, client_next, server_next), Reason::ForwardedFlow),
        ] {
            run(&mut rig, dispatch, of_client, frame, reason);
            let proven = rig6::flows(&rig, names::FLOWS6).len();
            assert_eq!(proven, if of_client && reason == Reason::ForwardedFlow { 2 } else { 0 });
        }
        let _ = rig6::events(&mut rig);
        let mut told = 0;
        for segment in &segments {
            let make = if segment.of_client { Frame6::client } else { Frame6::server };
            let frame = make(segment.flags, segment.seq(), segment.ack()).payload(segment.payload);
            run(&mut rig, dispatch, segment.of_client, frame, Reason::ForwardedFlow);
            let flows = rig6::flows(&rig, names::FLOWS6);
            assert_eq!(flows.len(), 2, "one pair: {flows:?}");
            for (_, entry) in flows {
                let fin = if entry.flags & FLAG_FORWARD == 0 { segment.fins.1 } else { segment.fins.0 };
                assert_eq!(
                    (entry.state, entry.flags & FLAG_FIN != 0),
                    (segment.state, fin),
                    "after {segment:?}"
                );
            }
            let events = rig6::events(&mut rig);
            assert!(events.iter().all(|event| event.kind == EVENT_CLOSED | EVENT_V6), "{events:?}");
            told += events.len();
            assert_eq!(
                told,
                usize::from(segment.state == STATE_CLOSED),
                "the end is told once, by the second FIN"
            );
        }
    }
}

#[test]
fn with_server_nat_a_connection_ends_in_any_order() {
    ends_well(false);
}

#[test]
fn in_dispatch_mode_a_connection_ends_in_any_order() {
    ends_well(true);
}
