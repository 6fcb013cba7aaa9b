//! What a link of the lab can be told: offloads, and ways to break it.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::netns::Netns;

/// ETHTOOL_STXCSUM, ETHTOOL_SSG, ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_SGRO of linux/ethtool.h.
const TX_CHECKSUM: u32 = 0x17;
const SCATTER_GATHER: u32 = 0x19;
const TSO: u32 = 0x1f;
const GSO: u32 = 0x24;
const GRO: u32 = 0x2c;
/// ETHTOOL_GFLAGS, ETHTOOL_SFLAGS and ETH_FLAG_TXVLAN.
const GET_FLAGS: u32 = 0x25;
const SET_FLAGS: u32 = 0x26;
const FLAG_TX_VLAN: u32 = 1 << 7;
/// SIOCETHTOOL of linux/sockios.h.
const SIOCETHTOOL: libc::c_ulong = 0x8946;

/// `struct ethtool_value` of linux/ethtool.h.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// Makes an interface hand over complete, wire-sized frames: XDP drops what checksum and segmentation offload leave
/// undone. `gro` is for ports that face a balancer: a veth without NAPI loses the frames that XDP redirects into it.
///
/// # Errors
/// When the interface is not in the namespace.
pub fn offloads(netns: &Netns, interfaces: &[String], gro: bool) -> Result<()> {
    netns
        .within(|| -> io::Result<()> {
            let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
            for interface in interfaces {
                for feature in [TX_CHECKSUM, TSO, GSO, SCATTER_GATHER] {
                    set_feature(&socket, interface, feature, false)?;
                }
                set_feature(&socket, interface, GRO, gro)?;
            }
            Ok(())
        })?
        .with_context(|| format!("offloads in {}", netns.name()))
}

fn set_feature(socket: &OwnedFd, interface: &str, command: u32, on: bool) -> io::Result<()> {
    request(socket, interface, command, u32::from(on)).map(drop)
}

/// One request; returns the value as the kernel leaves it.
fn request(socket: &OwnedFd, interface: &str, command: u32, data: u32) -> io::Result<u32> {
    let mut value = EthtoolValue { command, data };
    // SAFETY: ifreq is plain old data, for which all zeroes is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the request names an ethtool_value that outlives the call; the kernel reads it and writes nothing beyond.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if answer < 0 {
        let error = io::Error::last_os_error();
        return Err(io::Error::new(
            error.kind(),
            format!("{interface}, ethtool command {command:#x}: {error}"),
        ));
    }
    Ok(value.data)
}

/// Has an interface put the tag into what it sends, as a wire does, in place of a note beside the frame.
///
/// # Errors
/// When the interface is not in the namespace.
pub fn tags_in_frames(netns: &Netns, interface: &str) -> Result<()> {
    netns
        .within(|| -> io::Result<()> {
            let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
            let flags = request(&socket, interface, GET_FLAGS, 0)?;
            request(&socket, interface, SET_FLAGS, flags & !FLAG_TX_VLAN).map(drop)
        })?
        .with_context(|| format!("tags of {interface} in {}", netns.name()))
}

/// Which way a link is cut, seen from the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The node's frames do not reach the switch.
    FromNode,
    /// The switch's frames do not reach the node.
    ToNode,
    /// Neither.
    Both,
}

/// Cuts a link silently, without a carrier event: a classic BPF program of one instruction answers every frame on the
/// switch's port with TC_ACT_SHOT.
///
/// # Errors
/// When it is cut already.
pub fn cut(switch: &Netns, port: &str, way: Cut) -> Result<()> {
    let mut lines = vec![format!("qdisc add dev {port} clsact")];
    let hooks: &[&str] = match way {
        Cut::FromNode => &["ingress"],
        Cut::ToNode => &["egress"],
        Cut::Both => &["ingress", "egress"],
    };
    // One instruction: BPF_RET | BPF_K with the constant 2.
    lines
        .extend(hooks.iter().map(|hook| format!("filter add dev {port} {hook} bpf bytecode '1,6 0 0 2' da")));
    switch.tc(&lines)
}

/// No ARP of `host` reaches the node behind the switch's port any more, as if it had died for this node alone. For
/// [`mend`].
///
/// # Errors
/// When the link is cut already.
pub fn mute(switch: &Netns, port: &str, host: Ipv4Addr) -> Result<()> {
    // EtherType (offset 12) is ARP and its sender (offset 28) is the host: TC_ACT_SHOT.
    let host = host.to_bits();
    let program = format!("6,40 0 0 12,21 0 3 2054,32 0 0 28,21 0 1 {host},6 0 0 2,6 0 0 0");
    switch.tc(&[
        format!("qdisc add dev {port} clsact"),
        format!("filter add dev {port} egress bpf bytecode '{program}' da"),
    ])
}

/// Of TCP only SYNs leave by this interface any more: its host's handshakes are answered and not finished. For [`mend`].
///
/// # Errors
/// When the link is cut already.
pub fn withhold(netns: &Netns, port: &str) -> Result<()> {
    // EtherType (offset 12), protocol or next header, and the flags behind 14 and 20 octets, or 14 and 40: without SYN TC_ACT_SHOT.
    let program = "13,40 0 0 12,21 0 4 2048,48 0 0 23,21 0 8 6,48 0 0 47,5 0 0 4,21 0 5 34525,48 0 0 20,21 0 3 6,\
                   48 0 0 67,69 1 0 2,6 0 0 2,6 0 0 0";
    netns.tc(&[
        format!("qdisc add dev {port} clsact"),
        format!("filter add dev {port} egress bpf bytecode '{program}' da"),
    ])
}

/// No heartbeat of the node behind the switch's port gets further on a client or server VLAN; all else does. For [`mend`].
///
/// # Errors
/// When the link is cut already.
pub fn deafen(switch: &Netns, port: &str) -> Result<()> {
    let heartbeats = csm_user::ft::task::PORT;
    // EtherType (offset 12) is IPv4, the protocol (23) UDP, the port (36; no options) the heartbeats': TC_ACT_SHOT.
    let program =
        format!("8,40 0 0 12,21 0 5 2048,48 0 0 23,21 0 3 17,40 0 0 36,21 0 1 {heartbeats},6 0 0 2,6 0 0 0");
    switch.tc(&[
        format!("qdisc add dev {port} clsact"),
        format!("filter add dev {port} ingress bpf bytecode '{program}' da"),
    ])
}

/// Mends a link that [`cut`], [`mute`] or [`deafen`] has broken.
pub fn mend(switch: &Netns, port: &str) -> Result<()> {
    switch.tc(&[format!("qdisc del dev {port} clsact")])
}
