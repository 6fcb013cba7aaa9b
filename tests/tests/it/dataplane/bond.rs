//! A bond as a port. The program runs on the bond's own ports, which are the interfaces that frames come in by, and sends by
//! the bond.
//!
//! Only on a kernel with bonding, as Debian's are: `cargo xtask test --kernels dataplane::bond`.

use std::collections::BTreeSet;
use std::io;
use std::process::Command;
use std::time::Duration;

use csm_common::counter::Reason;
use csm_tests::rig::{FAR_CLIENT, REALS, Rig, VIP, enter_namespace};
use csm_tests::rig_bond::CHANNEL;
use csm_tests::rig_ports::make_pair;
use csm_tests::wait;
use csm_user::model::ChannelMode;
use csm_user::neigh::bond::Bonds;
use csm_user::neigh::netlink::{Link, Netlink};

use super::frames::{ACK, CLIENT_ISN, Frame, SERVER_ISN, SYN};
use super::live::Wire;

/// A handshake whose segments come in by either port of the bond, and whose answers leave by one of them.
fn a_handshake_crosses(rig: Option<Rig>) {
    let Some(rig) = rig else {
        println!("this kernel has no bonding");
        return;
    };
    let bond = rig.ports()[0].clone();
    let mut netlink = Netlink::open().expect("netlink");
    let found: Vec<_> = netlink.bonded(bond.ifindex).expect("the bond's ports");
    let found: Vec<_> = found.into_iter().map(|link| (link.ifindex, link.name)).collect();
    assert_eq!(found, bond.members);
    assert!(netlink.bonded(rig.ports()[1].ifindex).expect("none").is_empty());
    let mut wires = ["b0x", "b1x"].map(|port| Wire::open(port).expect("the client's wire"));
    let mut server = Wire::open("p1x").expect("the server's wire");
    let syn = Frame::client(SYN, CLIENT_ISN, 0);
    wires[0].send(&syn);
    server.expect(&syn.sent_to(&REALS[0], 80));
    let syn_ack = Frame::server(SYN | ACK, SERVER_ISN, CLIENT_ISN + 1);
    server.send(&syn_ack);
    Wire::expect_either(&mut wires, &syn_ack.answered_as(VIP, 80, &FAR_CLIENT).bytes());
    let ack = Frame::client(ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1));
    // An active-backup bond does not take what comes by its other port, and the program sees it all the same.
    wires[1].send(&ack);
    server.expect(&ack.sent_to(&REALS[0], 80));
    for ((ifindex, name), reason) in bond.members.iter().zip([Reason::ForwardedNew, Reason::ForwardedFlow]) {
        assert_eq!(rig.counts(*ifindex)[reason as usize].packets, 1, "counted at {name}");
    }
}

#[test]
fn of_two_ports_that_share_the_load() {
    a_handshake_crosses(Rig::on_bond("balance-xor").expect("the rig"));
}

#[test]
fn of_an_active_port_and_its_backup() {
    a_handshake_crosses(Rig::on_bond("active-backup").expect("the rig"));
}

#[test]
fn that_csmd_makes_of_a_port_channel() {
    a_handshake_crosses(Rig::on_channel().expect("the rig"));
}

/// How many ports of the channel have agreed with the far end, and with whom, as the kernel says.
fn agreed() -> (u64, String) {
    let output = Command::new("ip").args(["-d", "-j", "link", "show", CHANNEL]).output().expect("ip");
    let links: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let told = &links[0]["linkinfo"]["info_data"]["ad_info"];
    let partner = told["partner_mac"].as_str().unwrap_or_default();
    (told["num_ports"].as_u64().unwrap_or(0), partner.to_owned())
}

#[track_caller]
fn expect_agreed(ports: u64, partner: &str) {
    let limit = Duration::from_secs(60);
    let wanted = (ports, partner.to_owned());
    let found = wait::until("LACP to agree", limit, Duration::from_millis(50), || {
        Ok((agreed() == wanted).then_some(()))
    });
    found.unwrap_or_else(|error| panic!("{error}: {:?}", agreed()));
}

/// The program lets LACP's own frames through to the kernel, which agrees anew with its partner, another end of the kernel's
/// LACP, after a link was gone.
fn a_partner_is_agreed_with(mode: ChannelMode) {
    let Some(rig) = Rig::on_agreed_channel(mode).expect("the rig") else {
        println!("this kernel has no bonding");
        return;
    };
    let partner = link("far").expect("the far end").mac.map(|octet| format!("{octet:02x}")).join(":");
    expect_agreed(2, &partner);
    for (set, ports) in [("down", 1), ("up", 2)] {
        let done = Command::new("ip").args(["link", "set", "b1x", set]).status().expect("ip");
        assert!(done.success());
        expect_agreed(ports, &partner);
    }
    a_handshake_crosses(Some(rig));
}

#[test]
fn that_begins_lacp_with_its_partner() {
    a_partner_is_agreed_with(ChannelMode::Active);
}

#[test]
fn that_waits_for_its_partners_lacp() {
    a_partner_is_agreed_with(ChannelMode::Passive);
}

/// Its ports, by name.
fn ports(bond: u32) -> Vec<String> {
    let found = Netlink::open().and_then(|mut netlink| netlink.bonded(bond)).expect("its ports");
    found.into_iter().map(|link| link.name).collect()
}

fn link(name: &str) -> Option<Link> {
    Netlink::open().and_then(|mut netlink| netlink.link(name)).expect("netlink")
}

#[test]
fn a_port_channel_outlives_its_csmd_and_is_taken_over_changed_and_removed() {
    const NAME: &str = "Port-channel7";
    enter_namespace().expect("a namespace");
    for port in ["b0", "b1"] {
        make_pair(port, &format!("{port}x")).expect("a port");
    }
    let wanted = BTreeSet::from([NAME.to_owned()]);
    let mut killed = Bonds::new().expect("netlink");
    let first = match killed.ensure(NAME, ChannelMode::On, &["b0", "b1"]) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            println!("this kernel has no bonding");
            return;
        }
        made => made.expect("a bond"),
    };
    assert_eq!(ports(first.ifindex), ["b0", "b1"]);
    std::mem::forget(killed);
    // Killed earlier still, before the bond had its alias.
    let made = Command::new("ip").args(["link", "add", "csm-new-channel", "type", "bond"]).status();
    assert!(made.expect("ip").success());

    // The next one takes it over, with the ports that are wanted now; one that does not get so far leaves it.
    let mut failed = Bonds::new().expect("netlink");
    let found = failed.ensure(NAME, ChannelMode::On, &["b0", "b1"]).expect("as it was");
    assert_eq!(found, first);
    drop(failed);
    let mut next = Bonds::new().expect("netlink");
    next.sweep(&wanted).expect("what was not finished goes");
    assert_eq!(link("csm-new-channel"), None);
    let found = next.ensure(NAME, ChannelMode::On, &["b1"]).expect("one port less");
    assert_eq!((found.ifindex, ports(found.ifindex)), (first.ifindex, vec!["b1".to_owned()]));
    // Another way of agreeing is another bond.
    for mode in [ChannelMode::Active, ChannelMode::Passive] {
        let before = link(NAME).expect("the bond").ifindex;
        let other = next.ensure(NAME, mode, &["b0", "b1"]).expect("LACP");
        assert_ne!(other.ifindex, before, "{mode:?}");
        assert_eq!(
            next.ensure(NAME, mode, &["b0", "b1"]).expect("the same").ifindex,
            other.ifindex,
            "{mode:?}"
        );
    }

    // What somebody else made is his.
    let made = Command::new("ip").args(["link", "add", "Port-channel8", "type", "bond"]).status();
    assert!(made.expect("ip").success());
    let refused = next.ensure("Port-channel8", ChannelMode::On, &["b0"]).expect_err("not csmd's");
    assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
    next.sweep(&BTreeSet::new()).expect("what is not configured goes");
    assert_eq!(link(NAME), None);
    assert!(link("Port-channel8").is_some());
    next.ensure(NAME, ChannelMode::On, &["b0"]).expect("a bond");
    drop(next);
    assert_eq!(link(NAME), None, "with its csmd");
}
