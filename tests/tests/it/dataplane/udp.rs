use csm_common::counter::Reason;
use csm_common::event::EVENT_CONNECTION;
use csm_common::names;
use csm_tests::rig::{DNS, FAR_CLIENT, REALS, Rig, Side, VIP, be};

use super::frames::{CLIENT_PORT, Frame, L4, expect};

fn query(l4: L4, payload: &[u8]) -> Frame {
    Frame::from(&FAR_CLIENT, CLIENT_PORT, (VIP, 53), l4).payload(payload)
}

fn answer(l4: L4, payload: &[u8]) -> Frame {
    Frame::from(&REALS[0], 5353, (FAR_CLIENT.ip, CLIENT_PORT), l4).payload(payload)
}

#[test]
fn a_client_that_goes_on_after_the_answer_proves_a_connection() {
    let mut rig = Rig::new().expect("the rig");
    let first = query(L4::Udp, b"who?");
    let out = first.clone().sent_to(&REALS[0], 5353);
    expect(&mut rig, Side::Client, &first, Reason::ForwardedNew, &out);
    expect(&mut rig, Side::Client, &first, Reason::ForwardedFlow, &out);
    assert_eq!(rig.flows(names::FLOWS), []);
    let reply = answer(L4::Udp, b"you");
    expect(
        &mut rig,
        Side::Server,
        &reply,
        Reason::ForwardedFlow,
        &reply.clone().answered_as(VIP, 53, &FAR_CLIENT),
    );
    // One question and its answers are no connection: a source that was forged gets answers, too.
    assert_eq!((rig.flows(names::FLOWS).len(), rig.flows(names::EMBRYONIC).len()), (0, 2));
    assert_eq!(rig.events(), []);
    expect(&mut rig, Side::Client, &first, Reason::ForwardedFlow, &out);
    assert_eq!((rig.flows(names::FLOWS).len(), rig.flows(names::EMBRYONIC).len()), (2, 0));
    let events = rig.events();
    let [event] = events[..] else { panic!("one event, not {events:?}") };
    assert_eq!((event.kind, event.connection.client_be), (EVENT_CONNECTION, be(FAR_CLIENT.ip)));
    expect(
        &mut rig,
        Side::Server,
        &reply,
        Reason::ForwardedFlow,
        &reply.clone().answered_as(VIP, 53, &FAR_CLIENT),
    );
    assert_eq!(rig.service_count(names::VSERVER_COUNTS, DNS).connections, 1);
}

#[test]
fn no_checksum_stays_none() {
    let mut rig = Rig::new().expect("the rig");
    let first = query(L4::UdpWithoutChecksum, b"who?");
    expect(&mut rig, Side::Client, &first, Reason::ForwardedNew, &first.clone().sent_to(&REALS[0], 5353));
    let reply = answer(L4::UdpWithoutChecksum, b"you");
    expect(
        &mut rig,
        Side::Server,
        &reply,
        Reason::ForwardedFlow,
        &reply.clone().answered_as(VIP, 53, &FAR_CLIENT),
    );
}

#[test]
fn a_checksum_that_comes_out_as_zero_is_sent_as_ffff() {
    let mut rig = Rig::new().expect("the rig");
    // Among all values of one 16-bit word of payload one gives that checksum.
    let mut seen = 0;
    for word in 0..=u16::MAX {
        let frame = query(L4::Udp, &word.to_be_bytes());
        let out = frame.clone().sent_to(&REALS[0], 5353);
        let bytes = out.bytes();
        if bytes[40..42] == [0xff, 0xff] {
            let reason = if seen == 0 { Reason::ForwardedNew } else { Reason::ForwardedFlow };
            expect(&mut rig, Side::Client, &frame, reason, &out);
            seen += 1;
        }
    }
    assert!(seen > 0);
}
