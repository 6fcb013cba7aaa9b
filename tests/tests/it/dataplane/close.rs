//! Connections that end in other orders than one side after the other: FINs that cross, and one side that goes on for a
//! while after the other's FIN (RFC 9293, section 3.6), in each mode.

use std::net::{Ipv4Addr, SocketAddrV4};

use aya::maps::{Array, MapData};
use csm_common::counter::Reason;
use csm_common::event::EVENT_CLOSED;
use csm_common::flow::{FLAG_FIN, FLAG_FORWARD, STATE_CLOSED, STATE_CLOSING, STATE_ESTABLISHED};
use csm_common::names;
use csm_common::service::{Pool, VSERVER_DISPATCH, VSERVER_INSERVICE};
use csm_tests::rig::{FAR_CLIENT, REALS, Rig, Run, Side, VIP, WEB, be};

use super::frames::{ACK, CLIENT_ISN, CLIENT_PORT, FIN, Frame, PSH, SERVER_ISN, SYN};

/// A segment of a connection, and what stands of it behind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    /// Of the client, else of the server.
    pub(super) of_client: bool,
    pub(super) flags: u8,
    /// Octets and FINs that its sender has sent before, after the SYN.
    pub(super) sent: u32,
    /// Those that it acknowledges.
    pub(super) got: u32,
    pub(super) payload: &'static [u8],
    /// State of both entries after it.
    pub(super) state: u8,
    /// FIN seen in the client's and in the server's direction.
    pub(super) fins: (bool, bool),
}

impl Segment {
    pub(super) const fn seq(&self) -> u32 {
        let isn = if self.of_client { CLIENT_ISN } else { SERVER_ISN };
        isn.wrapping_add(1 + self.sent)
    }

    pub(super) const fn ack(&self) -> u32 {
        let isn = if self.of_client { SERVER_ISN } else { CLIENT_ISN };
        isn.wrapping_add(1 + self.got)
    }

    /// The same with the roles exchanged.
    const fn turned(self) -> Self {
        Self { of_client: !self.of_client, fins: (self.fins.1, self.fins.0), ..self }
    }
}

const fn client(flags: u8, numbers: (u32, u32), payload: &'static [u8]) -> Segment {
    let (sent, got) = numbers;
    Segment {
        of_client: true,
        flags: flags | ACK,
        sent,
        got,
        payload,
        state: STATE_ESTABLISHED,
        fins: (false, false),
    }
}

const fn server(flags: u8, numbers: (u32, u32), payload: &'static [u8]) -> Segment {
    Segment { of_client: false, ..client(flags, numbers, payload) }
}

const fn then(state: u8, fins: (bool, bool), segment: Segment) -> Segment {
    Segment { state, fins, ..segment }
}

const HALF: (bool, bool) = (true, false);
const BOTH: (bool, bool) = (true, true);

/// Both sides send FIN before either has the other's; one is lost on its way and comes again, and acknowledgements end it.
const CROSSED: &[Segment] = &[
    client(PSH, (0, 0), b"bye"),
    then(STATE_CLOSING, HALF, client(FIN, (3, 0), b"")),
    then(STATE_CLOSED, BOTH, server(FIN, (0, 0), b"")),
    then(STATE_CLOSED, BOTH, server(0, (1, 4), b"")),
    then(STATE_CLOSED, BOTH, client(FIN, (3, 1), b"")),
    then(STATE_CLOSED, BOTH, client(0, (4, 1), b"")),
];

/// One side has said all, the other goes on: data, acknowledgements, a window of silence, its own FIN with the last octets.
const HALF_CLOSED: &[Segment] = &[
    then(STATE_CLOSING, HALF, client(FIN | PSH, (0, 0), b"all that I have")),
    then(STATE_CLOSING, HALF, server(0, (0, 16), b"")),
    then(STATE_CLOSING, HALF, server(PSH, (0, 16), &[7; 1400])),
    then(STATE_CLOSING, HALF, client(0, (16, 1400), b"")),
    then(STATE_CLOSING, HALF, server(PSH, (1400, 16), &[8; 1400])),
    then(STATE_CLOSING, HALF, client(FIN | PSH, (0, 1400), b"all that I have")),
    then(STATE_CLOSING, HALF, client(0, (16, 2800), b"")),
    then(STATE_CLOSED, BOTH, server(FIN | PSH, (2800, 16), b"and that is all")),
    then(STATE_CLOSED, BOTH, client(0, (16, 2816), b"")),
];

/// Each way to end, begun by either side.
pub(super) fn endings() -> [Vec<Segment>; 4] {
    let turned = |segments: &[Segment]| segments.iter().map(|segment| segment.turned()).collect();
    [CROSSED.to_vec(), turned(CROSSED), HALF_CLOSED.to_vec(), turned(HALF_CLOSED)]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    ServerNat,
    Dispatch,
    ClientNat,
}

const POOLED: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 158, 39, 50), 33_280);

impl Mode {
    fn rig(self) -> Rig {
        let rig = Rig::new().expect("the rig");
        rig.ring(WEB, &[0]);
        match self {
            Self::ServerNat => {}
            Self::Dispatch => {
                rig.vserver(WEB, |vserver| vserver.flags = VSERVER_INSERVICE | VSERVER_DISPATCH);
            }
            Self::ClientNat => {
                // One port: each connection has it as its source.
                let mut pools: Array<MapData, Pool> = rig.map(names::POOLS);
                let (first_be, port_first) = (be(*POOLED.ip()), POOLED.port());
                pools.set(1, Pool { first_be, addresses: 1, port_first, ports: 1 }, 0).expect("POOLS");
                rig.vserver(WEB, |vserver| vserver.pool = 1);
            }
        }
        rig
    }

    /// The segment as it comes, and as it leaves.
    fn frames(self, of_client: bool, flags: u8, numbers: (u32, u32), payload: &[u8]) -> [Frame; 2] {
        let (seq, ack) = numbers;
        if of_client {
            let frame = Frame::client(flags, seq, ack).payload(payload);
            let out = match self {
                Self::ServerNat => frame.clone().sent_to(&REALS[0], 80),
                Self::Dispatch => frame.clone().routed_to(&REALS[0]),
                Self::ClientNat => Frame { src: POOLED, ..frame.clone() }.sent_to(&REALS[0], 80),
            };
            return [frame, out];
        }
        let mut frame = Frame::server(flags, seq, ack).payload(payload);
        match self {
            Self::ServerNat => {}
            Self::Dispatch => frame.src.set_ip(VIP),
            Self::ClientNat => frame.dst = POOLED,
        }
        let mut out = frame.clone().answered_as(VIP, 80, &FAR_CLIENT);
        out.dst = SocketAddrV4::new(FAR_CLIENT.ip, CLIENT_PORT);
        [frame, out]
    }

    #[track_caller]
    fn run(self, rig: &mut Rig, of_client: bool, flags: u8, numbers: (u32, u32), payload: &[u8]) -> Reason {
        let [frame, out] = self.frames(of_client, flags, numbers, payload);
        let run = rig.run(if of_client { Side::Client } else { Side::Server }, &frame.bytes());
        let reason = run.reason;
        assert_eq!(run, Run { reason, frame: out.bytes() }, "{self:?}: {frame:?}");
        reason
    }
}

/// States and FINs of client's and server's direction.
fn ends(rig: &Rig) -> [(u8, bool); 2] {
    let flows = rig.flows(names::FLOWS);
    assert_eq!(flows.len(), 2, "one pair: {flows:?}");
    [FLAG_FORWARD, 0].map(|forward| {
        let entry = flows.iter().find(|(_, entry)| entry.flags & FLAG_FORWARD == forward);
        let (_, entry) = entry.expect("both directions");
        (entry.state, entry.flags & FLAG_FIN != 0)
    })
}

fn ends_well(mode: Mode) {
    let mut rig = mode.rig();
    // Each of them on the ports of the one before, which its end has made free.
    for segments in endings() {
        let (client_next, server_next) = (CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1));
        let opened = mode.run(&mut rig, true, SYN, (CLIENT_ISN, 0), b"");
        assert_eq!((opened, rig.flows(names::FLOWS).len()), (Reason::ForwardedNew, 0), "{mode:?}");
        mode.run(&mut rig, false, SYN | ACK, (SERVER_ISN, client_next), b"");
        mode.run(&mut rig, true, ACK, (client_next, server_next), b"");
        let _ = rig.events();
        let mut told = 0;
        for (at, segment) in segments.iter().enumerate() {
            let Segment { of_client, flags, payload, state, fins, .. } = *segment;
            let reason = mode.run(&mut rig, of_client, flags, (segment.seq(), segment.ack()), payload);
            assert_eq!(reason, Reason::ForwardedFlow, "{mode:?}, segment {at}: {segment:?}");
            assert_eq!(
                ends(&rig),
                [(state, fins.0), (state, fins.1)],
                "{mode:?}, after segment {at}: {segment:?}"
            );
            let events = rig.events();
            assert!(events.iter().all(|event| event.kind == EVENT_CLOSED), "{events:?}");
            told += events.len();
            assert_eq!(
                told,
                usize::from(state == STATE_CLOSED),
                "{mode:?}: the end is told once, by the second FIN"
            );
        }
    }
}

#[test]
fn with_server_nat_a_connection_ends_in_any_order() {
    ends_well(Mode::ServerNat);
}

#[test]
fn in_dispatch_mode_a_connection_ends_in_any_order() {
    ends_well(Mode::Dispatch);
}

#[test]
fn with_client_nat_a_connection_ends_in_any_order() {
    ends_well(Mode::ClientNat);
}
