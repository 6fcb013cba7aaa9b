//! `show module csm N conns [detail]`.

use std::fmt::{self, Write};

use super::{endpoint, figure, protocol, rule, yes_no};
use crate::api::reply::{ConnReply, ConnState};

/// Writes the listing's head.
pub fn heading(out: &mut impl Write) -> fmt::Result {
    writeln!(out, "    prot vlan source                destination           state")?;
    rule(out, 70)
}

/// Writes a part of the listing: two lines for each connection, before and after translation.
pub fn write(out: &mut impl Write, connections: &[ConnReply], detail: bool) -> fmt::Result {
    for conn in connections {
        let ConnReply { client, destination, real, client_vlan, server_vlan, .. } = conn;
        let (prot, state, source) = (protocol(conn.protocol), state(conn.state), endpoint(*client));
        let (virtual_server, real, seen) = (endpoint(*destination), endpoint(*real), endpoint(conn.source));
        writeln!(out, "In  {prot:<4} {client_vlan:<4} {source:<21} {virtual_server:<21} {state}")?;
        writeln!(out, "Out {prot:<4} {server_vlan:<4} {seen:<21} {real:<21} {state}")?;
        if detail {
            let vserver = conn.vserver.as_deref().unwrap_or("<server initiated>");
            let (ftp, csrp) = (yes_no(conn.ftp), truth(conn.replicated));
            writeln!(out, "    vs = {vserver}, ftp = {ftp}, csrp = {csrp}")?;
            writeln!(out, "    idle = {}, learned from peer = {}", figure(conn.idle_s), truth(conn.replica))?;
        }
    }
    Ok(())
}

pub(super) const fn state(state: ConnState) -> &'static str {
    match state {
        ConnState::SynClient => "SYN_CLIENT",
        ConnState::SynBoth => "SYN_BOTH",
        ConnState::Estab => "ESTAB",
        ConnState::Closing => "CLOSING",
        ConnState::Zombie => "ZOMBIE",
    }
}

const fn truth(value: bool) -> &'static str {
    if value { "True" } else { "False" }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use expect_test::{Expect, expect};

    use super::*;
    use crate::api::reply::{Endpoint, Protocol};

    fn check(detail: bool, expected: &Expect) {
        let at = |address: [u8; 4], port| Endpoint { address: Ipv4Addr::from(address).into(), port };
        let web = ConnReply {
            protocol: Protocol::Tcp,
            client: at([100, 100, 100, 102], 51_754),
            destination: at([192, 158, 38, 30], 80),
            real: at([192, 158, 39, 101], 80),
            source: at([100, 100, 100, 102], 51_754),
            client_vlan: 2,
            server_vlan: 3,
            state: ConnState::Estab,
            vserver: Some("WEB_VIP".to_owned()),
            ftp: true,
            replicated: true,
            replica: false,
            idle_s: Some(4),
        };
        let own = ConnReply {
            protocol: Protocol::Udp,
            client: at([192, 158, 39, 101], 123),
            destination: at([100, 100, 100, 1], 123),
            real: at([100, 100, 100, 1], 123),
            source: at([192, 158, 39, 101], 123),
            client_vlan: 3,
            server_vlan: 2,
            state: ConnState::SynClient,
            vserver: None,
            ftp: false,
            replicated: false,
            idle_s: None,
            ..web.clone()
        };
        let mut text = String::new();
        heading(&mut text).expect("a string takes everything");
        write(&mut text, &[web, own], detail).expect("a string takes everything");
        expected.assert_eq(&text);
    }

    #[test]
    fn listing() {
        check(
            false,
            &expect![[r#"
                prot vlan source                destination           state
            ----------------------------------------------------------------------
            In  TCP  2    100.100.100.102:51754 192.158.38.30:80      ESTAB
            Out TCP  3    100.100.100.102:51754 192.158.39.101:80     ESTAB
            In  UDP  3    192.158.39.101:123    100.100.100.1:123     SYN_CLIENT
            Out UDP  2    192.158.39.101:123    100.100.100.1:123     SYN_CLIENT
        "#]],
        );
    }

    #[test]
    fn detail() {
        check(
            true,
            &expect![[r#"
                    prot vlan source                destination           state
                ----------------------------------------------------------------------
                In  TCP  2    100.100.100.102:51754 192.158.38.30:80      ESTAB
                Out TCP  3    100.100.100.102:51754 192.158.39.101:80     ESTAB
                    vs = WEB_VIP, ftp = Yes, csrp = True
                    idle = 4, learned from peer = False
                In  UDP  3    192.158.39.101:123    100.100.100.1:123     SYN_CLIENT
                Out UDP  2    192.158.39.101:123    100.100.100.1:123     SYN_CLIENT
                    vs = <server initiated>, ftp = No, csrp = False
                    idle = -, learned from peer = False
            "#]],
        );
    }
}
