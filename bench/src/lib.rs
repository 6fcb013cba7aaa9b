//! Inputs shared by the benches: made by formula, so that every run measures the same.

pub mod bpf;
pub mod feeder;
pub mod floor;
pub mod frame;
pub mod live;
pub mod report;
pub mod scene;

use std::net::Ipv4Addr;
use std::time::Duration;

use csm_user::model::{
    Config, ConnectionLimit, FtGroup, Interface, Name, PortMode, Protocol, RateLimits, Real, RealAdmin,
    Serverfarm, Sticky, StickyAddress, Virtual, Vlan, VlanId, VlanRole, Vserver, XdpMode,
};
use ipnet::Ipv4Net;

/// Reals in each farm of [`large_config`].
pub const REALS_PER_FARM: u32 = 4;

/// A configuration with `vservers` virtual servers, each with a farm of [`REALS_PER_FARM`] reals of its own.
///
/// Virtual servers stand in 10.0.0.0/16, reals in 10.1.0.0/16.
///
/// # Panics
/// Above 10,000 virtual servers, where the reals' network is full.
#[must_use]
pub fn large_config(vservers: u32) -> Config {
    assert!(vservers <= 10_000, "{vservers} virtual servers do not fit their networks");
    Config {
        slot: 5,
        interfaces: [2, 3, 9].map(interface).to_vec(),
        router: Vec::new(),
        routes: Vec::new(),
        vlans: vec![
            Vlan { gateways: vec![Ipv4Addr::new(10, 0, 255, 254).into()], ..vlan(2, VlanRole::Client, 0) },
            Vlan { alias: Some(net(1, 253)), ..vlan(3, VlanRole::Server, 1) },
        ],
        probes: vec![],
        statics: vec![],
        named_reals: vec![],
        access_lists: Vec::new(),
        sticky_groups: Vec::new(),
        owners: Vec::new(),
        policies: Vec::new(),
        arps: vec![],
        variables: csm_user::model::Variables::default(),
        natpools: vec![],
        serverfarms: (0..vservers).map(farm).collect(),
        vservers: (0..vservers).map(vserver).collect(),
        ft: Some(FtGroup {
            group: 1,
            vlan: vlan_id(9),
            priority: 20,
            alt_priority: None,
            preempt: true,
            sync_auto: false,
            takeover_synchronized: false,
            heartbeat: Duration::from_secs(1),
            failover: Duration::from_secs(3),
            keys: csm_user::model::FtKeys::default(),
            witness: None,
            track: csm_user::model::Tracking::default(),
        }),
    }
}

fn vlan_id(number: u16) -> VlanId {
    VlanId::new(number).expect("2 to 4094")
}

fn interface(number: u16) -> Interface {
    Interface { name: format!("eth{number}"), mode: PortMode::Access(vlan_id(number)), xdp: XdpMode::Native }
}

/// Host `host` of the last /24 in 10.`side`.0.0/16, with its network.
fn net(side: u8, host: u8) -> Ipv4Net {
    Ipv4Net::new(Ipv4Addr::new(10, side, 255, host), 16).expect("16 is a prefix length")
}

fn vlan(number: u16, role: VlanRole, side: u8) -> Vlan {
    Vlan { address: Some(net(side, 1)), alt_address: Some(net(side, 2)), ..Vlan::new(vlan_id(number), role) }
}

/// Address number `index` of 10.`side`.0.0/16, from .0.1 on.
fn address(side: u32, index: u32) -> Ipv4Addr {
    Ipv4Addr::from((10 << 24) | (side << 16) | (index + 1))
}

fn farm_name(index: u32) -> Name {
    Name::new(&format!("FARM{index}")).expect("short and printable")
}

fn farm(index: u32) -> Serverfarm {
    let real = |number| Real {
        address: address(1, index * REALS_PER_FARM + number).into(),
        port: None,
        weight: 8,
        limit: ConnectionLimit::default(),
        admin: RealAdmin::InService,
        probes: vec![],
        name: None,
        backup: None,
    };
    Serverfarm { reals: (0..REALS_PER_FARM).map(real).collect(), ..Serverfarm::new(farm_name(index)) }
}

fn vserver(index: u32) -> Vserver {
    Vserver {
        name: Name::new(&format!("VIP{index}")).expect("short and printable"),
        virtual_server: Some(Virtual::single(address(0, index).into(), Protocol::TCP, 80)),
        serverfarm: Some(farm_name(index)),
        backup: None,
        threshold: None,
        policies: Vec::new(),
        rate_limits: RateLimits::default(),
        max_conns: 0,
        owner: None,
        advertise: None,
        vlan: None,
        clients: vec![],
        unidirectional: None,
        idle: Duration::from_secs(3600),
        pending: Duration::from_secs(30),
        sticky: Some(Sticky { minutes: 30, group: 0, bits: 32, bits6: 128, address: StickyAddress::Source }),
        replicate_connection: true,
        reverse_sticky: None,
        replicate_sticky: true,
        inservice: true,
    }
}
