//! A port channel with a whole csmd: a host's client is on two links that are one port.
//!
//! Only on a kernel with bonding, as Debian's are: `cargo xtask test --kernels channel::`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use csm_tests::link;
use csm_tests::netns::{Netns, run};
use csm_tests::wait;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::operator::{Host, PACE, PATIENCE, SINGLE};

/// The client's two ends, and the host's.
const CABLES: [(&str, &str); 2] = [("peer1", "eth1"), ("peer3", "eth3")];
const CHANNEL: &str = "Port-channel1";

/// [`SINGLE`], with its client VLAN on both links.
fn channelled() -> String {
    let links = "interface eth1\n channel-group 1 mode on\ninterface eth3\n channel-group 1 mode on\n";
    format!("{links}{}", SINGLE.replacen("interface eth1", "interface Port-channel1", 1))
}

/// Joins the client's ends; false if this kernel cannot.
fn bonded(host: &Host) -> bool {
    let made = host.client.ip(&["link add bond0 type bond mode balance-xor miimon 100".to_owned()]);
    if made.is_err() {
        println!("this kernel has no bonding");
        return false;
    }
    link::offloads(&host.client, &["peer3".to_owned()], true).expect("offloads");
    let mut lines = vec!["addr flush dev peer1".to_owned()];
    for (end, _) in CABLES {
        lines.extend([format!("link set {end} down"), format!("link set {end} master bond0")]);
    }
    lines.extend(["link set bond0 up".to_owned(), "addr add 192.158.38.20/24 dev bond0".to_owned()]);
    host.client.ip(&lines).expect("the client's bond");
    true
}

fn shown(netns: &Netns, link: &str) -> Option<Value> {
    let mut command = netns.command("ip").expect("ip");
    let text = run(command.args(["-d", "-j", "link", "show", "dev", link])).ok()?;
    let rows: Value = serde_json::from_str(&text).expect("JSON");
    Some(rows[0].clone())
}

/// Waits until both bonds use this cable, or do not.
fn await_use(host: &Host, (client, node): (&str, &str), used: bool) {
    let is_used = |netns: &Netns, end: &str| {
        shown(netns, end).is_some_and(|link| link["linkinfo"]["info_slave_data"]["mii_status"] == "UP")
    };
    wait::until("the bonds", PATIENCE, PACE, || {
        let both = [is_used(&host.client, client), is_used(&host.node, node)];
        Ok((both == [used; 2]).then_some(()))
    })
    .expect("both ends see the cable");
}

/// A connection through the virtual server, with its other end.
struct Pair([TcpStream; 2]);

impl Pair {
    fn open(host: &Host) -> Self {
        let listener = host.server.within(|| TcpListener::bind("192.158.39.101:80"));
        let listener = listener.expect("inside").expect("port 80");
        let target: SocketAddr = "192.158.38.30:80".parse().expect("an address");
        let connect = || host.client.within(|| TcpStream::connect_timeout(&target, Duration::from_secs(1)));
        let client =
            wait::until("a connection", PATIENCE, PACE, || Ok(connect()?.ok())).expect("it is balanced");
        let port = client.local_addr().expect("an address").port();
        // Tries that came to nothing are closed again.
        let server = loop {
            let (server, peer) = listener.accept().expect("a connection");
            if peer.port() == port {
                break server;
            }
        };
        for end in [&client, &server] {
            end.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        }
        Self([client, server])
    }

    /// Each hears the other.
    fn speak(&mut self, when: &str) {
        let Self([client, server]) = self;
        let mut word = [0; 4];
        client.write_all(b"ask?").expect("sent");
        server.read_exact(&mut word).unwrap_or_else(|error| panic!("{when}: the server hears {error}"));
        server.write_all(b"told").expect("sent");
        client.read_exact(&mut word).unwrap_or_else(|error| panic!("{when}: the client hears {error}"));
    }
}

#[test]
fn connections_survive_a_cable_that_is_out_and_a_killed_csmd() {
    let host = Host::new();
    if !bonded(&host) {
        return;
    }
    // Its program stands on eth1 when that joins the channel.
    let mut killed = host.start(SINGLE, "channel");
    assert_eq!(killed.end(Signal::SIGKILL), None);
    let mut csmd = host.start(&channelled(), "channel");
    // XDP_ATTACHED_DRV of linux/if_link.h: for a port with a program of its own the kernel would do it for each copied frame only.
    assert_eq!(shown(&host.node, CHANNEL).expect("a bond")["xdp"]["mode"], 1);
    for cable in CABLES {
        await_use(&host, cable, true);
    }
    let mut pair = Pair::open(&host);
    pair.speak("at first");
    for cable in CABLES {
        host.client.ip(&[format!("link set {} down", cable.0)]).expect("ip");
        await_use(&host, cable, false);
        pair.speak("with one cable");
        host.client.ip(&[format!("link set {} up", cable.0)]).expect("ip");
        await_use(&host, cable, true);
        pair.speak("with both again");
    }
    assert_eq!(csmd.end(Signal::SIGKILL), None);
    pair.speak("without csmd");
    let mut csmd = host.start(&channelled(), "channel");
    pair.speak("with the next one");
    drop(pair);
    Pair::open(&host).speak("anew");
    // One cable leaves the channel, and is a port by itself.
    assert_eq!(csmd.end(Signal::SIGKILL), None);
    let apart = channelled().replacen("interface eth3\n channel-group 1 mode on\n", "", 1);
    let mut csmd = host.start(&apart, "channel");
    let owner = shown(&host.node, "eth3").expect("a port")["master"].clone();
    assert_eq!(owner, Value::Null, "it is nobody's");
    assert_eq!(csmd.end(Signal::SIGTERM), Some(0));
    assert_eq!(shown(&host.node, CHANNEL), None, "an orderly end leaves nothing");
    for (_, port) in CABLES {
        let link = shown(&host.node, port).expect("a port");
        assert!(link["xdp"].is_null() && link["flags"].to_string().contains("\"UP\""), "{link}");
    }
}
