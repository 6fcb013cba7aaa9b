//! `service rtsp` with real sockets: a control connection, and media that the server begins and the client begins, which keep going to and
//! coming from the virtual address when the active node dies.

use std::fmt::Write as _;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use csm_tests::lab::{Lab, Options};
use csm_tests::node::Fault;
use csm_tests::programs::Programs;
use csm_tests::status::Role;
use csm_tests::topology::{self, VIP, VIP6, Wiring};
use csm_tests::wait;

use crate::{finish, out};

const LIMIT: Duration = Duration::from_secs(30);
const OFTEN: Duration = Duration::from_millis(20);
const CONTROL: u16 = 554;
/// What SETUP would name: the client's ports, and the server's.
const CLIENT_PORTS: [u16; 2] = [5000, 5001];
const SERVER_PORTS: [u16; 2] = [6970, 6971];

fn reals(virtual_address: IpAddr) -> [IpAddr; 3] {
    match virtual_address {
        IpAddr::V4(_) => Wiring::Access.reals().map(IpAddr::V4),
        IpAddr::V6(_) => Wiring::Access.reals6().map(IpAddr::V6),
    }
}

fn services() -> String {
    let mut text = String::new();
    for (name, virtual_address) in [("MEDIA", IpAddr::V4(VIP)), ("MEDIA6", IpAddr::V6(VIP6))] {
        let _ = writeln!(text, " exit\n serverfarm {name}");
        for real in reals(virtual_address) {
            let _ = writeln!(text, "  real {real}\n   inservice");
        }
        let _ = writeln!(
            text,
            " vserver {name}\n  virtual {virtual_address} tcp {CONTROL} service rtsp\n  serverfarm {name}\n  replicate csrp connection\n  inservice"
        );
    }
    text
}

/// One session: its control connection, and its RTP and RTCP sockets at both ends.
struct Session {
    control: [TcpStream; 2],
    client: [UdpSocket; 2],
    server: [UdpSocket; 2],
    virtual_address: IpAddr,
}

impl Session {
    fn open(lab: &Lab, virtual_address: IpAddr) -> Result<Self> {
        let reals = reals(virtual_address);
        let bind = |address: IpAddr, ports: [u16; 2]| -> std::io::Result<[UdpSocket; 2]> {
            let [first, second] = ports.map(|port| UdpSocket::bind((address, port)));
            Ok([first?, second?])
        };
        let listeners: Vec<TcpListener> = lab
            .topology
            .servers
            .iter()
            .zip(reals)
            .map(|(server, real)| Ok(server.within(|| TcpListener::bind((real, CONTROL)))??))
            .collect::<Result<_>>()?;
        for listener in &listeners {
            listener.set_nonblocking(true)?;
        }
        let to = SocketAddr::from((virtual_address, CONTROL));
        let control = lab.topology.client.within(|| TcpStream::connect_timeout(&to, LIMIT))??;
        let (index, accepted) = wait::until("a server that accepts", LIMIT, OFTEN, || {
            for (index, listener) in listeners.iter().enumerate() {
                match listener.accept() {
                    Ok((stream, _)) => return Ok(Some((index, stream))),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(None)
        })?;
        accepted.set_nonblocking(false)?;
        let own = control.local_addr()?.ip();
        let client = lab.topology.client.within(|| bind(own, CLIENT_PORTS))??;
        let server = lab.topology.servers[index].within(|| bind(reals[index], SERVER_PORTS))??;
        for socket in client.iter().chain(&server) {
            socket.set_read_timeout(Some(OFTEN))?;
        }
        let mut made = Self { control: [control, accepted], client, server, virtual_address };
        made.ask()?;
        Ok(made)
    }

    fn client_address(&self) -> Result<IpAddr> {
        Ok(self.control[0].local_addr()?.ip())
    }

    /// A request and its answer.
    fn ask(&mut self) -> Result<()> {
        let [client, server] = &mut self.control;
        say(client, server)?;
        say(server, client)?;
        Ok(())
    }

    /// RTP (0) or RTCP (1) from the server reaches the client, from the virtual address and the server's port.
    fn server_reaches_client(&self, which: usize) -> Result<()> {
        let to = (self.client_address()?, CLIENT_PORTS[which]);
        let expected = SocketAddr::from((self.virtual_address, SERVER_PORTS[which]));
        arrives(&self.server[which], to.into(), &self.client[which], expected).context("from the server")
    }

    /// The same the other way: it reaches the server of the control connection, from the client's own address and port.
    fn client_reaches_server(&self, which: usize) -> Result<()> {
        let to = (self.virtual_address, SERVER_PORTS[which]);
        let expected = SocketAddr::from((self.client_address()?, CLIENT_PORTS[which]));
        arrives(&self.client[which], to.into(), &self.server[which], expected).context("from the client")
    }
}

fn say(from: &mut TcpStream, to: &mut TcpStream) -> Result<()> {
    to.set_read_timeout(Some(LIMIT))?;
    let mut heard = [0; 4];
    from.write_all(b"RTSP")?;
    to.read_exact(&mut heard)?;
    ensure!(heard == *b"RTSP", "{heard:?}");
    Ok(())
}

/// Sends until it has come; whatever else comes is a fault.
fn arrives(from: &UdpSocket, to: SocketAddr, at: &UdpSocket, expected: SocketAddr) -> Result<()> {
    let mut octets = [0; 16];
    let source = wait::until("a datagram", LIMIT, Duration::ZERO, || {
        from.send_to(b"media", to)?;
        match at.recv_from(&mut octets) {
            Ok((_, source)) => Ok(Some(source)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(None),
            Err(error) => Err(error.into()),
        }
    })?;
    ensure!(source == expected, "it came from {source}, not {expected}");
    Ok(())
}

#[test]
fn media_follow_their_control_connection_and_outlive_the_active_node() {
    let programs = Programs::beside_this_one().expect("csmd, csm and csm-lab");
    let options = Options { ipv6: true, services: services(), ..Options::small(programs, out("rtsp")) };
    let mut lab = Lab::build(options).expect("a lab");
    let active = lab.start(LIMIT).expect("a pair");
    let virtual_addresses = [IpAddr::V4(VIP), IpAddr::V6(VIP6)];
    let mut sessions =
        virtual_addresses.map(|address| Session::open(&lab, address).expect("a control connection"));

    // Somebody without a control connection reaches nobody: what comes first is the client's own.
    let bind = || UdpSocket::bind((topology::client(7), CLIENT_PORTS[1]));
    let stranger = lab.topology.client.within(bind).expect("netns").expect("a socket");
    stranger.send_to(b"stranger", (VIP, SERVER_PORTS[1])).expect("sent");
    // Whoever began shows with a second datagram that the answer has come.
    for _ in 0..2 {
        for session in &sessions {
            session.server_reaches_client(0).expect("RTP, which the server begins");
            session.client_reaches_server(1).expect("RTCP, which the client begins");
            session.server_reaches_client(1).expect("and its answer");
            session.client_reaches_server(0).expect("what keeps the client's own NAT open");
        }
    }
    let conns = lab.node(active).command("show module csm 5 conns").expect("connections");
    let is_proven = |line: &&str| line.contains("UDP") && line.ends_with("ESTAB");
    assert_eq!(conns.lines().filter(is_proven).count(), 8, "{conns}");

    let successor = active.peer();
    lab.node(successor).wait_for_replica(LIMIT, &[]).expect("a complete replica");
    lab.fail(active, Fault::Kill).expect("a kill");
    lab.node(successor).wait_for(Role::Active, LIMIT).expect("a takeover");
    for session in &mut sessions {
        for which in [0, 1] {
            session.server_reaches_client(which).expect("media go on");
            session.client_reaches_server(which).expect("media go on");
        }
        session.ask().expect("the control connection goes on");
    }
    finish(lab);
}
