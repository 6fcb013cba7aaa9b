//! Clients that have heard from their server, and whose acknowledgement has not come when the active node dies.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};
use csm_tests::figure::Forwarding;
use csm_tests::lab::{Lab, Options};
use csm_tests::link;
use csm_tests::node::Fault;
use csm_tests::programs::Programs;
use csm_tests::status::Role;
use csm_tests::topology::{REALS, REALS6, Side, VIP, VIP6};
use csm_tests::wait;

use crate::{finish, out};

const LIMIT: Duration = Duration::from_secs(30);
/// Clients of each family.
const CLIENTS: usize = 20;
/// Each address has a virtual server for any port.
const ANY: Ipv4Addr = Ipv4Addr::new(192, 158, 38, 41);
const ANY6: &str = "fd00:38::41";

/// Virtual servers for any port, and their reals, which the lab's other virtual servers have, too.
fn any_port() -> String {
    // Out of the virtual server that stands before: a farm would be that one's.
    let mut text = " exit\n".to_owned();
    let of = [
        ("ANY", ANY.to_string(), REALS.map(|real| real.to_string())),
        ("ANY6", ANY6.to_owned(), REALS6.map(|real| real.to_string())),
    ];
    for (name, _, reals) in &of {
        text += &format!(" serverfarm {name}\n");
        for real in reals {
            text += &format!("  real {real}\n   inservice\n");
        }
    }
    for (name, vip, _) in of {
        text += &format!(
            " vserver {name}\n  virtual {vip} tcp 0\n  serverfarm {name}\n  replicate csrp connection\n  inservice\n"
        );
    }
    text
}

/// A short request on a connection; how its answer begins.
fn ask(connection: &mut TcpStream) -> Result<String> {
    connection.set_read_timeout(Some(Duration::from_secs(8)))?;
    connection.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut begin = [0; 5];
    connection.read_exact(&mut begin)?;
    Ok(String::from_utf8_lossy(&begin).into_owned())
}

/// What became of so many clients of `targets`, whose handshakes were answered, and whose acknowledgements came after the takeover
/// only. With `untold` the nodes speak the version before handshakes were told of.
fn answered_after(
    test: &str,
    forwarding: Forwarding,
    targets: [IpAddr; 2],
    untold: bool,
) -> Vec<Result<String>> {
    let programs = Programs::beside_this_one().expect("csmd, csm and csm-lab");
    let mut lab = Lab::build(Options {
        forwarding,
        services: any_port(),
        ipv6: true,
        servers_own_vip: forwarding == Forwarding::Dispatch,
        ..Options::small(programs, out(test))
    })
    .expect("a lab");
    if untold {
        Side::BOTH.into_iter().for_each(|side| lab.node(side).set_fault(Some("old-wire")));
    }
    let active = lab.start(LIMIT).expect("one active, one standby");
    // Whoever has to be found by ARP or neighbour discovery is known.
    lab.topology
        .client
        .within(|| {
            for target in targets {
                let begin = TcpStream::connect_timeout(&SocketAddr::new(target, 80), LIMIT)
                    .map_err(Into::into)
                    .and_then(|mut connection| ask(&mut connection));
                assert_eq!(begin.expect("served"), "HTTP/", "{target}");
            }
        })
        .expect("in the clients' network");

    link::withhold(&lab.topology.client, "eth0").expect("only SYNs leave");
    let connect = || -> Result<Vec<TcpStream>> {
        let clients = targets.iter().flat_map(|target| [target; CLIENTS]);
        let connections = clients.map(|&target| {
            let connection = TcpStream::connect_timeout(&SocketAddr::new(target, 80), LIMIT);
            connection.with_context(|| format!("no answer from {target}"))
        });
        connections.collect()
    };
    let connections =
        lab.topology.client.within(connect).expect("in the clients' network").expect("answered");
    lab.fail(active, Fault::PowerOff).expect("dead");
    lab.node(active.peer()).wait_for(Role::Active, LIMIT).expect("a takeover");
    // The servers have said it again meanwhile, to a successor that could rebuild from it what may be rebuilt.
    wait::observe(Duration::from_millis(1500)).expect("time passes");
    link::mend(&lab.topology.client, "eth0").expect("all leaves again");
    let asked =
        connections.into_iter().map(|mut connection| std::thread::spawn(move || ask(&mut connection)));
    let asked: Vec<_> = asked.collect();
    let answers = asked.into_iter().map(|asked| asked.join().expect("no panic")).collect();
    finish(lab);
    answers
}

fn all_go_on(test: &str, forwarding: Forwarding, targets: [IpAddr; 2]) {
    let answers = answered_after(test, forwarding, targets, false);
    let good = answers.iter().filter(|answer| answer.as_ref().is_ok_and(|begin| begin == "HTTP/")).count();
    assert_eq!(good, 2 * CLIENTS, "{answers:?}");
}

#[test]
fn handshakes_of_translated_clients_go_on() {
    all_go_on("half-client-nat", Forwarding::ClientNat, [VIP.into(), VIP6.into()]);
}

#[test]
fn handshakes_of_dispatch_mode_go_on() {
    all_go_on("half-dispatch", Forwarding::Dispatch, [VIP.into(), VIP6.into()]);
}

#[test]
fn handshakes_to_any_port_go_on() {
    all_go_on("half-any", Forwarding::ServerNat, [ANY.into(), ANY6.parse().expect("an address")]);
}

/// The check notices handshakes that are lost: nobody is told of them by the version before.
#[test]
fn handshakes_that_nobody_is_told_of_are_missed() {
    let answers = answered_after("half-untold", Forwarding::ClientNat, [VIP.into(), VIP6.into()], true);
    assert!(answers.iter().all(Result::is_err), "{answers:?}");
}
