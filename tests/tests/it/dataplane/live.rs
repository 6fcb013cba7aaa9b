//! Frames over the ports themselves: what BPF_PROG_TEST_RUN reports as a redirect leaves by the right one.

use std::ffi::CString;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

use csm_common::gate::GateState;
use csm_common::net::relay_mac;
use csm_tests::model::scene::Scene;
use csm_tests::rig::{FAR_CLIENT, PEER_MAC, REALS, Rig, Side, VIP};
use nix::poll::{PollFd, PollFlags, poll};

use crate::differential::generate::Generator;

use super::frames::{ACK, CLIENT_ISN, Frame, SERVER_ISN, SYN};

const DEADLINE: Duration = Duration::from_secs(10);

/// The far end of a port: what is written is received by the port.
pub(super) struct Wire(std::fs::File);

impl Wire {
    pub(super) fn open(interface: &str) -> io::Result<Self> {
        // The far end takes redirected frames only once its receive path polls, as GRO makes it.
        let gro = Command::new("ethtool").args(["-K", interface, "gro", "on"]).status()?;
        assert!(gro.success(), "ethtool -K {interface} gro on");
        let protocol = 0x0003u16.to_be(); // ETH_P_ALL
        // SAFETY: plain system calls on values of this function; the descriptor is owned from here on.
        let socket = unsafe {
            let socket =
                libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, i32::from(protocol));
            if socket < 0 {
                return Err(io::Error::last_os_error());
            }
            let socket = OwnedFd::from_raw_fd(socket);
            let name = CString::new(interface).expect("a name");
            let mut address: libc::sockaddr_ll = std::mem::zeroed();
            address.sll_family = u16::try_from(libc::AF_PACKET).expect("17");
            address.sll_protocol = protocol;
            address.sll_ifindex = i32::try_from(libc::if_nametoindex(name.as_ptr())).expect("an index");
            let length = libc::socklen_t::try_from(size_of_val(&address)).expect("20");
            let bound =
                libc::bind(std::os::fd::AsRawFd::as_raw_fd(&socket), (&raw const address).cast(), length);
            if bound < 0 {
                return Err(io::Error::last_os_error());
            }
            socket
        };
        Ok(Self(socket.into()))
    }

    pub(super) fn send(&mut self, frame: &Frame) {
        self.send_bytes(&frame.bytes());
    }

    pub(super) fn send_bytes(&mut self, frame: &[u8]) {
        self.0.write_all(frame).expect("send");
    }

    /// The next frame that the balancer sent here; what the wire's own end sent is heard as well and left out.
    #[track_caller]
    pub(super) fn expect(&mut self, frame: &Frame) {
        self.expect_bytes(&frame.bytes());
    }

    /// As [`Self::expect`], by its octets.
    #[track_caller]
    pub(super) fn expect_bytes(&mut self, expected: &[u8]) {
        Self::expect_either(std::slice::from_mut(self), expected);
    }

    /// As [`Self::expect_bytes`], on one of `wires`.
    #[track_caller]
    pub(super) fn expect_either(wires: &mut [Self], expected: &[u8]) {
        let deadline = Instant::now() + DEADLINE;
        let mut heard = Vec::new();
        while let Some(left) = deadline.checked_duration_since(Instant::now()) {
            let mut ready: Vec<_> =
                wires.iter().map(|wire| PollFd::new(wire.0.as_fd(), PollFlags::POLLIN)).collect();
            let timeout = u16::try_from(left.as_millis()).expect("seconds");
            if poll(&mut ready, timeout).expect("poll") == 0 {
                break;
            }
            let at = ready.iter().position(|wire| wire.any() == Some(true)).expect("one that is ready");
            let mut bytes = vec![0; 65_536];
            let length = wires[at].0.read(&mut bytes).expect("receive");
            if bytes[..length] == *expected {
                return;
            }
            heard.push(bytes[..length].to_vec());
        }
        panic!("{expected:02x?} did not come, but {heard:02x?}");
    }
}

#[test]
fn a_handshake_crosses_the_ports() {
    let rig = Rig::new().expect("the rig");
    let mut client = Wire::open("p0x").expect("the client's wire");
    let mut server = Wire::open("p1x").expect("the server's wire");
    let syn = Frame::client(SYN, CLIENT_ISN, 0);
    client.send(&syn);
    server.expect(&syn.sent_to(&REALS[0], 80));
    let syn_ack = Frame::server(SYN | ACK, SERVER_ISN, CLIENT_ISN + 1);
    server.send(&syn_ack);
    client.expect(&syn_ack.answered_as(VIP, 80, &FAR_CLIENT));

    let mut ft = Wire::open("p2x").expect("the FT wire");
    rig.gate(GateState::RelayOut, Duration::from_secs(60));
    let ack = Frame::client(ACK, CLIENT_ISN + 1, SERVER_ISN.wrapping_add(1));
    client.send(&ack);
    ft.expect(&Frame { src_mac: relay_mac(2), dst_mac: PEER_MAC, ..ack.clone() });

    rig.gate(GateState::RelayIn, Duration::from_secs(60));
    ft.send(&Frame { src_mac: relay_mac(2), dst_mac: rig.own_mac(Side::Ft), ..ack.clone() });
    server.expect(&Frame { src_mac: rig.own_mac(Side::Server), ..ack.sent_to(&REALS[0], 80) });
    assert_eq!(rig.flows(csm_common::names::FLOWS).len(), 2);
}

/// The sum of the driver's counters of what `port`'s queues received whose names end so.
pub(super) fn driver_counts(port: &str, suffix: &str) -> u64 {
    let output = Command::new("ethtool").args(["-S", port]).output().expect("ethtool");
    let text = String::from_utf8(output.stdout).expect("text");
    let lines = text.lines().filter_map(|line| line.trim().split_once(": "));
    lines
        .filter(|(name, _)| name.starts_with("rx_queue_") && name.ends_with(suffix))
        .map(|(_, value)| value.parse::<u64>().expect("a count"))
        .sum()
}

/// Frames and octets that the port's driver handed to the program, as the driver counts them.
fn received(port: &str) -> (u64, u64) {
    (driver_counts(port, "_xdp_packets"), driver_counts(port, "_xdp_bytes"))
}

#[test]
fn the_reasons_add_up_to_what_the_ports_received() {
    let rig = Rig::new().expect("the rig");
    let counted = |port: usize| {
        let counts = rig.counts(rig.ports()[port].ifindex);
        counts.iter().fold((0, 0), |(packets, bytes), count| (packets + count.packets, bytes + count.bytes))
    };
    let mut wires = ["p0x", "p1x", "p2x"].map(|port| Wire::open(port).expect("a wire"));
    let scene = Scene { ft_mac: rig.own_mac(Side::Ft), ..Scene::default() };
    let mut generator = Generator::new(7, &scene);
    let model = csm_tests::model::Model::new(scene);
    let mut sent = [(0, 0); 3];
    for _ in 0..500 {
        let (side, bytes) = generator.frame(&model);
        wires[side as usize].0.write_all(&bytes).expect("send");
        let (frames, octets) = sent[side as usize];
        sent[side as usize] = (frames + 1, octets + bytes.len() as u64);
    }
    let deadline = Instant::now() + DEADLINE;
    for (port, (frames, octets)) in sent.into_iter().enumerate() {
        while counted(port).0 < frames && Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert_eq!(counted(port), (frames, octets), "each frame has one reason, at port {port}");
        // The driver counts a frame's octets without its link header.
        assert_eq!(received(&format!("p{port}")), (frames, octets - 14 * frames), "as its driver counts");
    }
    assert!(sent[0].0 > 0 && sent[1].0 > 0, "both ports have received something");
}
