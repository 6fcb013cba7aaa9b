//! A bond as a port. The program runs on the bond's own ports, which are the interfaces that frames come in by, and sends by
//! the bond.
//!
//! Only on a kernel with bonding, as Debian's are: `cargo xtask test --kernels dataplane::bond`.

use csm_common::counter::Reason;
use csm_tests::rig::{FAR_CLIENT, REALS, Rig, VIP};
use csm_user::neigh::netlink::Netlink;

use super::frames::{ACK, CLIENT_ISN, Frame, SERVER_ISN, SYN};
use super::live::Wire;

/// A handshake whose segments come in by either port of the bond, and whose answers leave by one of them.
fn a_handshake_crosses(mode: &str) {
    let Some(rig) = Rig::on_bond(mode).expect("the rig") else {
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
    a_handshake_crosses("balance-xor");
}

#[test]
fn of_an_active_port_and_its_backup() {
    a_handshake_crosses("active-backup");
}
