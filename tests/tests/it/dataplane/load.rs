//! Loading and attaching.

use aya::maps::IterableMap;
use csm_common::flow::{FlowEntry, FlowKey};
use csm_common::gate::{Gate, GateState};
use csm_common::net::PORT_CLIENT;
use csm_common::{limits, names};
use csm_tests::rig::{Rig, SMALL};
use csm_user::dataplane::load::{AttachMode, Capacity, Dataplane, LoadError, PortSpec};
use csm_user::model::XdpMode;

fn port(ifindex: u32, name: &str) -> PortSpec {
    let name = name.to_owned();
    PortSpec { ifindex, name, vlan: 2, role: PORT_CLIENT, mac: [2; 6], mtu: 1500, ..PortSpec::default() }
}

#[test]
fn the_full_tables_load() {
    let rig = Rig::with_capacity(Capacity::default()).expect("the rig");
    let flows: aya::maps::HashMap<aya::maps::MapData, FlowKey, FlowEntry> = rig.map(names::FLOWS);
    assert_eq!(flows.map().info().expect("info").max_entries(), 2 * limits::CONNECTIONS_MAX);
}

#[test]
fn the_gate_is_closed_at_first_and_keeps_what_is_stored() {
    let rig = Rig::new().expect("the rig");
    let fresh = Dataplane::load_with(&[], AttachMode::Native, SMALL).expect("a second program");
    assert_eq!(fresh.gate().load(), Gate::CLOSED);
    let gate = Gate::new(GateState::RelayIn, 1 << 40);
    fresh.gate().store(gate);
    assert_eq!(fresh.gate().load(), gate);
    assert_ne!(rig.dataplane.gate().load(), gate, "each program has a gate of its own");
}

#[test]
fn the_gate_outlives_its_dataplane() {
    let _rig = Rig::new().expect("the rig");
    let gate = Dataplane::load_with(&[], AttachMode::Native, SMALL).expect("a program").gate();
    gate.store(Gate::new(GateState::Open, 400));
    assert_eq!(gate.load().deadline_ns(), 400);
}

#[test]
fn a_port_that_does_not_take_the_program_is_named_with_the_remedy() {
    let _rig = Rig::new().expect("the rig");
    // Loopback has no native XDP.
    let error = Dataplane::load_with(&[port(1, "lo")], AttachMode::Native, SMALL).expect_err("a refusal");
    let text = error.to_string();
    for part in
        ["interface lo", "driver unknown", "native mode", "use an interface whose driver has native XDP"]
    {
        assert!(text.contains(part), "{part:?} in {text:?}");
    }
    assert!(matches!(error, LoadError::Attach { .. }));
    Dataplane::load_with(&[port(1, "lo")], AttachMode::Generic, SMALL).expect("generic mode, as asked for");
}

#[test]
fn too_many_ports_are_refused() {
    let ports: Vec<_> = (0..=limits::PORTS_MAX).map(|number| port(number, "p")).collect();
    let error = Dataplane::load_with(&ports, AttachMode::Native, SMALL).expect_err("a refusal");
    assert_eq!(
        error.to_string(),
        "1025 ports, VLANs of trunks and their veths are configured, at most 1024 fit"
    );
}

#[test]
fn a_dropped_dataplane_leaves_its_ports() {
    let mut rig = Rig::new().expect("the rig");
    let ports = rig.ports().to_vec();
    let taken = Dataplane::load_with(&ports, AttachMode::Native, SMALL).expect_err("the ports are taken");
    assert!(matches!(taken, LoadError::Attach { .. }), "{taken}");
    rig.dataplane = Dataplane::load_with(&[], AttachMode::Native, SMALL).expect("a program without ports");
    Dataplane::load_with(&ports, AttachMode::Native, SMALL).expect("the ports are free");
}

/// The loopback has no native XDP.
#[test]
fn a_port_is_attached_as_it_asks_for_and_auto_falls_back_to_generic() {
    let mut rig = Rig::new().expect("the rig");
    let veth = rig.ports()[0].clone();
    rig.dataplane = Dataplane::load_with(&[], AttachMode::Native, SMALL).expect("a program without ports");
    let lo = |xdp| PortSpec { xdp, ..port(1, "lo") };
    let load = |ports: &[PortSpec]| Dataplane::load_with(ports, AttachMode::Native, SMALL);
    let refused = load(&[lo(XdpMode::Native)]).expect_err("no native XDP");
    assert!(refused.to_string().contains("`xdp mode generic`"), "{refused}");
    for (asked, got) in [(XdpMode::Generic, AttachMode::Generic), (XdpMode::Auto, AttachMode::Generic)] {
        let dataplane = load(&[lo(asked)]).expect("generic mode");
        assert_eq!(dataplane.modes().get(&1), Some(&got), "{asked:?}");
    }
    let auto = PortSpec { xdp: XdpMode::Auto, ..veth };
    let dataplane = load(std::slice::from_ref(&auto)).expect("native mode");
    assert_eq!(dataplane.modes().get(&auto.ifindex), Some(&AttachMode::Native));
    let taken = load(&[auto]).expect_err("taken: no reason to fall back");
    assert!(matches!(taken, LoadError::Attach { mode: AttachMode::Native, .. }), "{taken}");
}
