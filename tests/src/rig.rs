//! A test bench for the XDP program: the real program, loaded and attached to veth ports in a network namespace of its
//! own, run on single frames through BPF_PROG_TEST_RUN.
//!
//! The namespace belongs to the calling thread (libtest gives each test one) and goes with it. The map contents follow
//! Figure 7-1: clients on VLAN 2, servers on VLAN 3, the FT VLAN 9.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Context, Result};
use aya::maps::lpm_trie::Key;
use aya::maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray, PerCpuValues, RingBuf};
use aya::programs::TestRunOptions;
use aya::util::nr_cpus;
use csm_common::address::Address;
use csm_common::counter::{Count, NOT_COUNTED, Reason, ServiceCount, Verdict, index};
use csm_common::event::{Lost, Record};
use csm_common::flow::{FlowEntry, FlowKey};
use csm_common::gate::{Clock, Gate, GateState};
use csm_common::net::{
    ADDRESS_ALIAS, ADDRESS_VIRTUAL, AddressKey, NEXTHOP_RESOLVED, NEXTHOP_TAGGED, NextHop, PORT_CLIENT,
    PORT_FT, PORT_SERVER, PORT_TAGGED, Port, ROUTE_CONNECTED, ROUTE_VIA, Route, virtual_mac,
};
use csm_common::service::{
    Match, REAL_STICKY, REAL_USABLE, Real, Settings, StickyEntry, StickyKey, VSERVER_INSERVICE, Vserver,
    VserverKey, ring_slot,
};
use csm_common::{names, net};
use csm_user::dataplane::load::{AttachMode, Capacity, Dataplane, PortSpec, Veth};
use nix::sched::{CloneFlags, unshare};
use nix::time::{ClockId, clock_gettime};

pub use crate::rig_ports::set_mtu;
use crate::rig_ports::{facts, make_pair, make_port};

/// The group's virtual MAC.
pub const VIRTUAL_MAC: [u8; 6] = virtual_mac(1);
/// The peer's MAC on the FT VLAN.
pub const PEER_MAC: [u8; 6] = [0x02, 0, 0, 0, 9, 40];
/// The virtual server's address.
pub const VIP: Ipv4Addr = Ipv4Addr::new(192, 158, 38, 30);
/// The balancer's own address on the client VLAN, which has no alias; where two VLANs are bridged, on both.
pub const OWN: Ipv4Addr = Ipv4Addr::new(192, 158, 38, 10);
/// The servers' default gateway.
pub const ALIAS: Ipv4Addr = Ipv4Addr::new(192, 158, 39, 20);
/// The upstream router; clients elsewhere are behind it.
pub const GATEWAY: Host = Host::new(Ipv4Addr::new(192, 158, 38, 20), 2);
/// A client on the client VLAN itself.
pub const NEAR_CLIENT: Host = Host::new(Ipv4Addr::new(192, 158, 38, 50), 2);
/// A client behind the gateway: its frames carry the gateway's MAC.
pub const FAR_CLIENT: Host = Host { ip: Ipv4Addr::new(10, 1, 1, 1), ..GATEWAY };
/// A host of the client VLAN that nobody has heard of.
pub const STRANGER: Host = Host::new(Ipv4Addr::new(192, 158, 38, 99), 2);
/// Three real servers.
pub const REALS: [Host; 3] = [
    Host::new(Ipv4Addr::new(192, 158, 39, 101), 3),
    Host::new(Ipv4Addr::new(192, 158, 39, 102), 3),
    Host::new(Ipv4Addr::new(192, 158, 39, 103), 3),
];

/// Number of the TCP vserver on port 80.
pub const WEB: u32 = 0;
/// Number of the UDP vserver on port 53; its reals listen on 5353.
pub const DNS: u32 = 1;
/// Number of the TCP vserver on any port, matched second.
pub const ANY_TCP: u32 = 2;

/// Tables as small as most fixtures need: a full set takes half a second to allocate.
pub const SMALL: Capacity = Capacity {
    connections: 64,
    embryonic: 1024,
    sticky: 64,
    vservers: 16,
    reals: 16,
    ipv6: false,
    router: false,
};

const SECOND: Duration = Duration::from_secs(1);

/// A host next to the balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its address.
    pub ip: Ipv4Addr,
    /// The VLAN it is on.
    pub vlan: u16,
    /// MAC of the frames that come from it.
    pub mac: [u8; 6],
}

impl Host {
    const fn new(ip: Ipv4Addr, vlan: u16) -> Self {
        let [_, _, net, host] = ip.octets();
        Self { ip, vlan, mac: [0x02, 0xee, 0, 0, net, host] }
    }
}

/// A port of the balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// VLAN 2.
    Client,
    /// VLAN 3.
    Server,
    /// VLAN 9.
    Ft,
}

/// What the program did with a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The one reason whose counter rose, by one frame.
    pub reason: Reason,
    /// The frame as the program left it.
    pub frame: Vec<u8>,
}

/// The bench.
pub struct Rig {
    /// The loaded program.
    pub dataplane: Dataplane,
    ports: Vec<PortSpec>,
    counters: PerCpuArray<MapData, Count>,
    /// Where the frames of an interface are counted.
    slots: BTreeMap<u32, u32>,
    clocks: PerCpuArray<MapData, Clock>,
    events: RingBuf<MapData>,
}

/// Address in the byte order of the maps.
#[must_use]
pub fn be(ip: Ipv4Addr) -> u32 {
    u32::from_ne_bytes(ip.octets())
}

/// CLOCK_MONOTONIC, the dataplane's clock.
#[must_use]
pub fn now_ns() -> u64 {
    let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).expect("CLOCK_MONOTONIC"));
    u64::try_from(now.as_nanos()).expect("584 years of uptime")
}

impl Rig {
    /// Moves the calling thread to a new network namespace, loads and attaches the program there and fills the maps.
    /// The gate is open for the next hour.
    ///
    /// # Errors
    /// Without root, `ip`, or a kernel that takes the program.
    pub fn new() -> Result<Self> {
        Self::with_capacity(SMALL)
    }

    /// As [`Self::new`] with tables of that size.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_capacity(capacity: Capacity) -> Result<Self> {
        enter_namespace()?;
        let ports = [("p0", 2, PORT_CLIENT), ("p1", 3, PORT_SERVER), ("p2", 9, PORT_FT)];
        let ports = ports
            .into_iter()
            .map(|(name, vlan, role)| make_port(name, vlan, role))
            .collect::<Result<Vec<_>>>()?;
        Self::with_ports(ports, capacity)
    }

    /// As [`Self::new`], with the three VLANs on one trunk.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn on_trunk() -> Result<Self> {
        Self::on_trunk_with(SMALL)
    }

    /// As [`Self::on_trunk`] with tables of that size.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn on_trunk_with(capacity: Capacity) -> Result<Self> {
        enter_namespace()?;
        let trunk = make_port("p0", 0, 0)?;
        let ports = [(2, PORT_CLIENT), (3, PORT_SERVER), (9, PORT_FT)];
        let ports = ports.into_iter().map(|(vlan, role)| {
            let (inner, outer) = (format!("x{vlan}"), format!("v{vlan}"));
            make_pair(&inner, &outer)?;
            let veth = Veth {
                inner: facts(&inner)?.0,
                inner_name: inner,
                outer: facts(&outer)?.0,
                outer_name: outer,
            };
            Ok(PortSpec { vlan, role, tagged: true, veth: Some(veth), ..trunk.clone() })
        });
        Self::with_ports(ports.collect::<Result<Vec<_>>>()?, capacity)
    }

    /// As [`Self::new`], with VLANs 2 and 3 bridged and the node's own address [`OWN`].
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn bridged() -> Result<Self> {
        Self::bridged_with(SMALL, None)
    }

    /// As [`Self::bridged`] with tables of that size, and with the node's own address of IPv6.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn bridged_with(capacity: Capacity, own6: Option<Ipv6Addr>) -> Result<Self> {
        enter_namespace()?;
        make_pair("x2", "v2")?;
        let (inner, outer) = (facts("x2")?.0, facts("v2")?.0);
        let veth = Veth { inner, inner_name: "x2".to_owned(), outer, outer_name: "v2".to_owned() };
        let client = make_port("p0", 2, PORT_CLIENT)?;
        let server = PortSpec { mac: client.mac, ..make_port("p1", 3, PORT_SERVER)? };
        let joined =
            |port, other| PortSpec { veth: Some(veth.clone()), bridge: Some((other, OWN)), own6, ..port };
        let ports = vec![joined(client, 3), joined(server, 2), make_port("p2", 9, PORT_FT)?];
        let rig = Self::with_ports(ports, capacity)?;
        let mut addresses: HashMap<MapData, AddressKey, net::Address> = rig.map(names::ADDRESSES);
        addresses.insert(address_key(VIP, 3), net::Address { kind: ADDRESS_VIRTUAL }, 0)?;
        Ok(rig)
    }

    pub(crate) fn with_ports(ports: Vec<PortSpec>, capacity: Capacity) -> Result<Self> {
        let dataplane = Dataplane::load_with(&ports, AttachMode::Native, capacity)?;
        let counters = dataplane.map(names::COUNTERS)?;
        let clocks = dataplane.map(names::CLOCKS)?;
        let events = dataplane.map(names::EVENTS)?;
        let counted: HashMap<MapData, u32, u32> = dataplane.map(names::COUNTED)?;
        let slots = counted.iter().collect::<Result<_, _>>()?;
        let mut rig = Self { dataplane, ports, counters, slots, clocks, events };
        rig.fill()?;
        rig.gate(GateState::Open, 3600 * SECOND);
        Ok(rig)
    }

    /// Sets the gate to `state` for `life` from now.
    pub fn gate(&self, state: GateState, life: Duration) {
        let life = u64::try_from(life.as_nanos()).expect("a life of sane length");
        self.dataplane.gate().store(Gate::new(state, now_ns() + life));
    }

    pub(crate) const fn dataplane(&self) -> &Dataplane {
        &self.dataplane
    }

    /// A map by name.
    ///
    /// # Panics
    /// If there is none of that name and type.
    #[must_use]
    pub fn map<M: TryFrom<Map, Error = MapError>>(&self, name: &'static str) -> M {
        self.dataplane.map(name).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The ports, by [`Side`].
    #[must_use]
    pub fn ports(&self) -> &[PortSpec] {
        &self.ports
    }

    /// MAC of the balancer's own port on `side`.
    #[must_use]
    pub fn own_mac(&self, side: Side) -> [u8; 6] {
        self.ports[side as usize].mac
    }

    /// Runs the program on `frame` as received on `side`. Asserts that exactly one counter rose, by this one frame,
    /// and that the XDP action is the one its reason stands for. The program reads the clock anew, so that a test may count
    /// on the nanosecond.
    ///
    /// # Panics
    /// If the kernel refuses the run, or an assertion fails.
    pub fn run(&mut self, side: Side, frame: &[u8]) -> Run {
        self.fresh_clock();
        self.run_on(side, frame)
    }

    /// As [`Self::run`], by the clock as the packets before have left it.
    ///
    /// # Panics
    /// As [`Self::run`].
    pub fn run_on(&mut self, side: Side, frame: &[u8]) -> Run {
        let port = &self.ports[side as usize];
        let veth = port.veth.is_some();
        self.run_at(port.ifindex, veth, frame)
    }

    /// As [`Self::run`], on `frame` as the node's kernel sends it to a VLAN of a trunk.
    ///
    /// # Panics
    /// As [`Self::run`], and without a veth.
    pub fn run_from_kernel(&mut self, side: Side, frame: &[u8]) -> Run {
        self.fresh_clock();
        let veth = self.ports[side as usize].veth.as_ref().expect("a VLAN of a trunk");
        self.run_at(veth.inner, false, frame)
    }

    fn fresh_clock(&mut self) {
        let cpus = nr_cpus().expect("the number of CPUs");
        let unread = PerCpuValues::try_from(vec![Clock::default(); cpus]).expect("one for each CPU");
        self.clocks.set(0, unread, 0).expect("CLOCKS");
    }

    /// `veth`: what the kernel is given goes through a veth.
    pub(crate) fn run_at(&mut self, ifindex: u32, veth: bool, frame: &[u8]) -> Run {
        let before = self.counts(ifindex);
        // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let length = u32::try_from(frame.len()).expect("a frame");
        let words = [0, length, 0, ifindex, 0, 0];
        let context: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_ne_bytes()).collect();
        let mut out = vec![0; frame.len() + 64];
        let result = self
            .dataplane
            .test_run(TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut out),
                ctx_in: Some(&context),
                ..TestRunOptions::default()
            })
            .unwrap_or_else(|error| panic!("test run: {error:?}"));
        out.truncate(result.data_size_out as usize);
        let on_trunk = self.ports.iter().any(|port| port.ifindex == ifindex && port.tagged);
        let own = !on_trunk || frame[12..14] == [0x81, 0];
        let reason = the_change(&before, &self.counts(ifindex), u64::from(length));
        let action = match reason.verdict() {
            Verdict::Drop | Verdict::Hold => 1,
            // On a trunk a frame without a tag is the kernel's where it came in.
            Verdict::Pass if veth && own && reason != Reason::PassVlan => 4,
            Verdict::Pass => 2,
            Verdict::Forward => 4,
        };
        assert_eq!(result.return_value, action, "XDP action of {reason:?}");
        Run { reason, frame: out }
    }

    /// Takes all records that wait in the ring.
    pub fn events(&mut self) -> Vec<Record> {
        self.records()
    }

    /// As [`Self::events`], of one family.
    pub(crate) fn records<A: Address>(&mut self) -> Vec<Record<A>> {
        let mut records = Vec::new();
        while let Some(item) = self.events.next() {
            assert_eq!(item.len(), size_of::<Record<A>>());
            // SAFETY: the length was checked, any bit pattern is a valid record, and the read needs no alignment.
            records.push(unsafe { item.as_ptr().cast::<Record<A>>().read_unaligned() });
        }
        records
    }

    /// The kinds of all records of both families that wait in the ring.
    pub fn kinds(&mut self) -> Vec<u32> {
        let mut kinds = Vec::new();
        while let Some(item) = self.events.next() {
            let first = item.first_chunk().expect("a record begins with its kind");
            kinds.push(u32::from_ne_bytes(*first));
        }
        kinds
    }

    /// Takes all records of both families that wait in the ring, unread.
    pub fn forget_events(&mut self) {
        while self.events.next().is_some() {}
    }

    /// Records of `what` that found no room.
    #[must_use]
    pub fn lost(&self, what: Lost) -> u64 {
        let lost: PerCpuArray<MapData, u64> = self.map(names::EVENTS_LOST);
        lost.get(&(what as u32), 0).expect("EVENTS_LOST").iter().sum()
    }

    /// Sum over the CPUs of a `VSERVER_COUNTS` or `REAL_COUNTS` element.
    #[must_use]
    pub fn service_count(&self, name: &'static str, number: u32) -> ServiceCount {
        let map: PerCpuArray<MapData, ServiceCount> = self.map(name);
        map.get(&number, 0).expect(name).iter().fold(ServiceCount::default(), |sum, count| ServiceCount {
            connections: sum.connections + count.connections,
            client_packets: sum.client_packets + count.client_packets,
            server_packets: sum.server_packets + count.server_packets,
            client_bytes: sum.client_bytes + count.client_bytes,
            server_bytes: sum.server_bytes + count.server_bytes,
        })
    }

    /// Contents of `FLOWS` or `EMBRYONIC`.
    #[must_use]
    pub fn flows(&self, name: &'static str) -> Vec<(FlowKey, FlowEntry)> {
        let map: HashMap<MapData, FlowKey, FlowEntry> = self.map(name);
        map.iter().map(|item| item.expect(name)).collect()
    }

    /// Contents of `STICKY`.
    #[must_use]
    pub fn sticky(&self) -> Vec<(StickyKey, StickyEntry)> {
        let map: HashMap<MapData, StickyKey, StickyEntry> = self.map(names::STICKY);
        map.iter().map(|item| item.expect("STICKY")).collect()
    }

    /// Changes a vserver's facts.
    pub fn vserver(&self, number: u32, change: impl FnOnce(&mut Vserver)) {
        self.change(names::VSERVERS, number, change);
    }

    /// Changes a real's facts.
    pub fn real(&self, number: u32, change: impl FnOnce(&mut Real)) {
        self.change(names::REALS, number, change);
    }

    /// Changes a next hop's facts; reals come first, then gateway and near client.
    pub fn next_hop(&self, number: u32, change: impl FnOnce(&mut NextHop)) {
        self.change(names::NEXTHOPS, number, change);
    }

    /// Has frames leave both data VLANs with tags, though they come without.
    pub fn retag(&self, on: bool) {
        for vlan in [2, 3] {
            self.change(names::VLANS, vlan, |port: &mut Port| port.flags = if on { PORT_TAGGED } else { 0 });
        }
    }

    /// Changes the settings.
    pub fn settings(&self, change: impl FnOnce(&mut Settings)) {
        self.change(names::SETTINGS, 0, change);
    }

    /// Sets the predictor's ring of vserver `number`.
    pub fn ring(&self, number: u32, reals: &[u32]) {
        let mut ring: Array<MapData, u32> = self.map(names::RINGS);
        for (slot, real) in (0..).zip(reals) {
            ring.set(ring_slot(number, slot), real, 0).expect("RINGS");
        }
        let length = u32::try_from(reals.len()).expect("a ring");
        self.vserver(number, |vserver| vserver.ring_len = length);
    }

    /// Changes element `number` of the array `name`.
    pub fn change<T: aya::Pod>(&self, name: &'static str, number: u32, change: impl FnOnce(&mut T)) {
        let mut map: Array<MapData, T> = self.map(name);
        let mut value = map.get(&number, 0).expect(name);
        change(&mut value);
        map.set(number, value, 0).expect(name);
    }

    /// What came in by interface `ifindex`, for each reason.
    ///
    /// # Panics
    /// If the counters cannot be read.
    #[must_use]
    pub fn counts(&self, ifindex: u32) -> Vec<Count> {
        let slot = self.slots.get(&ifindex).copied().unwrap_or(NOT_COUNTED);
        Reason::ALL
            .iter()
            .map(|&reason| {
                let per_cpu = self.counters.get(&index(slot, reason), 0).expect("COUNTERS");
                per_cpu.iter().fold(Count::default(), |sum, count| Count {
                    packets: sum.packets + count.packets,
                    bytes: sum.bytes + count.bytes,
                })
            })
            .collect()
    }

    fn fill(&mut self) -> Result<()> {
        let ft_tag = if self.ports[Side::Ft as usize].tagged { 9 } else { 0 };
        let mut settings: Array<MapData, Settings> = self.dataplane.map(names::SETTINGS)?;
        settings.set(
            0,
            Settings { virtual_mac: VIRTUAL_MAC, peer_mac: PEER_MAC, ft_port: 2, ft_tag, adopted_ns: 0 },
            0,
        )?;
        self.fill_network()?;
        self.fill_services()
    }

    fn fill_network(&mut self) -> Result<()> {
        let mut addresses: HashMap<MapData, AddressKey, net::Address> =
            self.dataplane.map(names::ADDRESSES)?;
        addresses.insert(address_key(VIP, 2), net::Address { kind: ADDRESS_VIRTUAL }, 0)?;
        addresses.insert(address_key(ALIAS, 3), net::Address { kind: ADDRESS_ALIAS }, 0)?;
        let mut sources: Array<MapData, u32> = self.dataplane.map(names::ERROR_SOURCES)?;
        sources.set(2, be(OWN), 0)?;
        sources.set(3, be(ALIAS), 0)?;
        let mut routes: LpmTrie<MapData, u32, Route> = self.dataplane.map(names::ROUTES)?;
        let connected = |vlan| Route { kind: ROUTE_CONNECTED, vlan, nexthop: 0 };
        routes.insert(&Key::new(24, be(Ipv4Addr::new(192, 158, 38, 0))), connected(2), 0)?;
        routes.insert(&Key::new(24, be(Ipv4Addr::new(192, 158, 39, 0))), connected(3), 0)?;
        routes.insert(
            &Key::new(8, be(Ipv4Addr::new(10, 0, 0, 0))),
            Route { kind: ROUTE_VIA, vlan: 2, nexthop: 3 },
            0,
        )?;
        let tagged = if self.ports[0].tagged { NEXTHOP_TAGGED } else { 0 };
        let mut hops: Array<MapData, NextHop> = self.dataplane.map(names::NEXTHOPS)?;
        let mut neighbours: HashMap<MapData, AddressKey, u32> = self.dataplane.map(names::NEIGHBOURS)?;
        for (number, host) in (0..).zip(REALS.iter().chain([&GATEWAY, &NEAR_CLIENT])) {
            let hop = NextHop {
                dst_mac: host.mac,
                src_mac: VIRTUAL_MAC,
                port: u32::from(host.vlan == 3),
                vlan: host.vlan,
                flags: NEXTHOP_RESOLVED | tagged,
                ip_be: be(host.ip),
                mtu: 1500,
                tunnel: 0,
                group: 0,
                pad: 0,
            };
            hops.set(number, hop, 0)?;
            neighbours.insert(address_key(host.ip, host.vlan), number, 0)?;
        }
        Ok(())
    }

    fn fill_services(&mut self) -> Result<()> {
        let mut keys: HashMap<MapData, VserverKey, Match> = self.dataplane.map(names::VSERVER_KEYS)?;
        let mut vservers: Array<MapData, Vserver> = self.dataplane.map(names::VSERVERS)?;
        let mut reals: Array<MapData, Real> = self.dataplane.map(names::REALS)?;
        for (number, port, proto, farm) in [(WEB, 80u16, 6, 1), (DNS, 53, 17, 2), (ANY_TCP, 0, 6, 1)] {
            let key = VserverKey { ip_be: be(VIP), port_be: port.to_be(), proto, kind: 0 };
            keys.insert(key, Match { vserver: number, rules: 0 }, 0)?;
            let vserver = Vserver {
                flags: VSERVER_INSERVICE,
                ring_len: 0,
                idle_s: 3600,
                pending_s: 30,
                sticky_s: 0,
                sticky_mask_be: u32::MAX,
                sticky_group: 10,
                farm,
                port_be: port.to_be(),
                ..Vserver::default()
            };
            vservers.set(number, vserver, 0)?;
        }
        // Reals 0-2 keep the virtual port, reals 3-5 are the same hosts on port 5353.
        for (number, host) in (0..).zip(REALS.iter().chain(&REALS)) {
            let real = Real {
                ip_be: be(host.ip),
                port_be: if number < 3 { 0 } else { 5353u16.to_be() },
                vlan: 3,
                nexthop: number % 3,
                flags: REAL_USABLE | REAL_STICKY,
                farm: 1 + number / 3,
                max_conns: 0,
                min_conns: 0,
            };
            reals.set(number, real, 0)?;
        }
        self.ring(WEB, &[0, 1, 2]);
        self.ring(DNS, &[3, 4, 5]);
        self.ring(ANY_TCP, &[0]);
        Ok(())
    }
}

/// Key of an address on a VLAN.
#[must_use]
pub fn address_key(ip: Ipv4Addr, vlan: u16) -> AddressKey {
    AddressKey { ip_be: be(ip), vlan, pad: 0 }
}

/// The one counter that rose, and it by one frame of `bytes`.
fn the_change(before: &[Count], after: &[Count], bytes: u64) -> Reason {
    let risen: Vec<Reason> = Reason::ALL
        .iter()
        .copied()
        .filter(|&reason| before[reason as usize] != after[reason as usize])
        .collect();
    let [reason] = risen[..] else { panic!("each frame counts once, not as {risen:?}") };
    let (before, after) = (before[reason as usize], after[reason as usize]);
    assert_eq!((after.packets - before.packets, after.bytes - before.bytes), (1, bytes), "{reason:?}");
    reason
}

/// Moves the calling thread to a new network namespace.
///
/// # Errors
/// Without the right to.
pub fn enter_namespace() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("unshare the network namespace (root?)")?;
    // The ports' peers would speak of their own accord: router solicitations, multicast reports.
    let ipv6 = "/proc/sys/net/ipv6/conf/default/disable_ipv6";
    if std::fs::exists(ipv6)? {
        std::fs::write(ipv6, "1").context(ipv6)?;
    }
    Ok(())
}
