//! The rig of the tests with many connections in its tables, and the frames that belong to them.

use std::net::{Ipv4Addr, Ipv6Addr};

use aya::maps::{HashMap, MapData};
use csm_common::address::{Address as _, V6};
use csm_common::flow::{Connection, FlowEntry, FlowKey, Local, STATE_ESTABLISHED};
use csm_common::names;
use csm_tests::rig::{FAR_CLIENT, REALS, Rig, Side, VIP, VIRTUAL_MAC, WEB, be, now_ns};
use csm_tests::rig6::{self, FAR6, FIRST6, REALS6, VIP6, WEB6};
use csm_user::dataplane::load::Capacity;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::feeder::{Feed, Order, is_v6};
use crate::frame::{Flag, Segment};

/// Address of flow 0's client; the others' follow.
pub const FIRST_CLIENT: Ipv4Addr = Ipv4Addr::new(10, 32, 0, 0);
/// The same in IPv6, whose last four octets count.
pub const FIRST_CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa, 1, 0, 0, 0xa20, 0);
/// All clients' port.
pub const CLIENT_PORT: u16 = 40_000;

/// Octets of a frame before the source address, and before the destination address; of IPv6 before their last four octets.
const ADDRESSES_AT: [(usize, usize); 2] = [(26, 30), (34, 50)];

/// Keeps the calling thread on one CPU, since a feeder counts its flows for each, and before others that want it.
///
/// # Panics
/// If there is no such CPU.
pub fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu).expect("a CPU's number");
    sched_setaffinity(Pid::from_raw(0), &set).expect("a CPU that this thread may run on");
    // SAFETY: there is no address in it. Without the right to it the figures are only less sure.
    let _priority = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) };
}

/// A rig with tables of the full size and one real, and with `flows` proven connections to it.
///
/// # Panics
/// Without root, or if the tables do not take them.
#[must_use]
pub fn with_flows(flows: u32) -> Rig {
    let rig = Rig::with_capacity(Capacity { vservers: 16, reals: 16, ..Capacity::default() })
        .expect("root, and a kernel that takes the program");
    rig.ring(WEB, &[0]);
    let mut table: HashMap<MapData, FlowKey, FlowEntry> = rig.map(names::FLOWS);
    let local = Local { to_server: 0, to_client: 3, now_ns: now_ns(), flags: 0, mark: 0 };
    for flow in 0..flows {
        let connection = connection(flow);
        table.insert(connection.forward_key(), connection.forward_entry(&local), 0).expect("room");
        table.insert(connection.return_key(), connection.return_entry(&local), 0).expect("room");
    }
    rig
}

/// As [`with_flows`], of IPv6.
///
/// # Panics
/// As [`with_flows`].
#[must_use]
pub fn with_flows6(flows: u32) -> Rig {
    let capacity = Capacity { vservers: 16, reals: 16, ipv6: true, ..Capacity::default() };
    let rig = Rig::with_capacity(capacity).expect("root, and a kernel that takes the program");
    rig6::fill(&rig).expect("the maps");
    rig6::vserver(&rig, WEB6, |vserver| vserver.ring_len = 1);
    let mut table: HashMap<MapData, FlowKey<V6>, FlowEntry<V6>> = rig.map(names::FLOWS6);
    let local = Local { to_server: FIRST6, to_client: FIRST6 + 3, now_ns: now_ns(), flags: 0, mark: 0 };
    for flow in 0..flows {
        let connection = connection6(flow);
        table.insert(connection.forward_key(), connection.forward_entry(&local), 0).expect("room");
        table.insert(connection.return_key(), connection.return_entry(&local), 0).expect("room");
    }
    rig
}

fn connection6(flow: u32) -> Connection<V6> {
    let client_be = V6::from(FIRST_CLIENT6).plus(flow);
    let Connection { client_port_be, virtual_port_be, real_port_be, source_port_be, .. } = connection(0);
    Connection {
        client_be,
        virtual_be: VIP6.into(),
        real_be: REALS6[0].ip.into(),
        source_be: client_be,
        client_port_be,
        virtual_port_be,
        real_port_be,
        source_port_be,
        client_vlan: 2,
        server_vlan: 3,
        proto: 6,
        state: STATE_ESTABLISHED,
        via: 0,
        vserver: WEB6,
        real: FIRST6,
        generation: 1,
    }
}

/// Flow number `flow`.
#[must_use]
pub fn connection(flow: u32) -> Connection {
    let client_be = (u32::from(FIRST_CLIENT) + flow).to_be();
    Connection {
        client_be,
        virtual_be: be(VIP),
        real_be: be(REALS[0].ip),
        source_be: client_be,
        client_port_be: CLIENT_PORT.to_be(),
        virtual_port_be: 80_u16.to_be(),
        real_port_be: 80_u16.to_be(),
        source_port_be: CLIENT_PORT.to_be(),
        client_vlan: 2,
        server_vlan: 3,
        proto: 6,
        state: STATE_ESTABLISHED,
        via: 0,
        vserver: WEB,
        real: 0,
        generation: 1,
    }
}

/// A client's segment of flow 0.
#[must_use]
pub fn client(flag: Flag, sequence: u32, acknowledged: u32) -> Segment {
    Segment {
        src_mac: FAR_CLIENT.mac,
        dst_mac: VIRTUAL_MAC,
        src: (FIRST_CLIENT.into(), CLIENT_PORT),
        dst: (VIP.into(), 80),
        flag,
        sequence,
        acknowledged,
    }
}

/// The server's segment of flow 0.
#[must_use]
pub fn server(flag: Flag, sequence: u32, acknowledged: u32) -> Segment {
    Segment {
        src_mac: REALS[0].mac,
        src: (REALS[0].ip.into(), 80),
        dst: (FIRST_CLIENT.into(), CLIENT_PORT),
        ..client(flag, sequence, acknowledged)
    }
}

/// `segment` of IPv6, as it comes in on `side`.
#[must_use]
pub fn of_ipv6(side: Side, segment: Segment) -> Segment {
    let (client, dst) = ((FIRST_CLIENT6.into(), CLIENT_PORT), (VIP6.into(), 80));
    match side {
        Side::Client => Segment { src_mac: FAR6.mac, src: client, dst, ..segment },
        _ => Segment { src_mac: REALS6[0].mac, src: (REALS6[0].ip.into(), 80), dst: client, ..segment },
    }
}

/// Feeds `segment`, which comes in on `side`, for `flows` flows.
#[must_use]
pub fn feed(side: Side, segment: &Segment, flows: u32, order: Order) -> Feed {
    let frame = segment.frame();
    let (src_at, dst_at) = ADDRESSES_AT[usize::from(is_v6(&frame))];
    let client_at = if side == Side::Client { src_at } else { dst_at };
    Feed { frame, client_at, flows, order }
}
