//! Reads what [`judge`](super::judge) judges: /proc, /sys, ethtool's and two netlink families' answers. Nothing is changed.

use std::fs;
use std::io;
use std::path::Path;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage, LinkXdp};
use rtnetlink::packet_core::{
    DecodeError, DefaultNla, Emitable as _, NLM_F_ACK, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NetlinkSerializable, Nla as _, NlasIterator, Parseable as _,
};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_GENERIC, protocols::NETLINK_ROUTE};

use super::{Facts, PortFacts};

/// The host's facts, and those of `ports`; without any, of all Ethernet interfaces.
///
/// # Errors
/// If the kernel does not list its interfaces. What else it does not tell is left out.
pub fn survey(ports: &[String]) -> io::Result<Facts> {
    let all;
    let names = if ports.is_empty() {
        all = ethernet()?;
        &all[..]
    } else {
        ports
    };
    let mut netdev = Netdev::open().ok();
    Ok(Facts {
        release: line("/proc/sys/kernel/osrelease").unwrap_or_default(),
        build: line("/proc/sys/kernel/version").unwrap_or_default(),
        missing_capabilities: missing_capabilities()?,
        realtime: realtime(),
        jit: line("/proc/sys/net/core/bpf_jit_enable").map(|value| value != "0"),
        clocksource: line("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        forwards: ["ipv4/ip_forward", "ipv6/conf/all/forwarding"]
            .iter()
            .any(|name| line(format!("/proc/sys/net/{name}")).is_some_and(|value| value != "0")),
        neighbours_max: ["ipv4", "ipv6"]
            .map(|family| line(format!("/proc/sys/net/{family}/neigh/default/gc_thresh3"))?.parse().ok()),
        available_kib: fs::read_to_string("/proc/meminfo").ok().and_then(|text| available_of(&text)),
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        ports: names.iter().map(|name| port(name, netdev.as_mut())).collect(),
    })
}

/// The first line of a file, if it can be read.
fn line(path: impl AsRef<Path>) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.lines().next()?.trim().to_owned())
}

fn available_of(meminfo: &str) -> Option<u64> {
    let value = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    value.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// ARPHRD_ETHER of linux/if_arp.h.
const ETHERNET: &str = "1";

fn ethernet() -> io::Result<Vec<String>> {
    let mut names: Vec<String> = fs::read_dir("/sys/class/net")?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| line(format!("/sys/class/net/{name}/type")).as_deref() == Some(ETHERNET))
        .collect();
    names.sort_unstable();
    Ok(names)
}

fn port(name: &str, netdev: Option<&mut Netdev>) -> PortFacts {
    let file = |what: &str| line(format!("/sys/class/net/{name}/{what}"));
    let number = |what: &str| file(what)?.parse::<u32>().ok();
    let Some(ifindex) = number("ifindex") else {
        return PortFacts { name: name.to_owned(), ..PortFacts::default() };
    };
    let up =
        |flags: &str| u32::from_str_radix(flags.trim_start_matches("0x"), 16).is_ok_and(|bits| bits & 1 != 0);
    let queues = fs::read_dir(format!("/sys/class/net/{name}/queues")).map_or(0, |entries| {
        entries
            .filter(|entry| {
                entry.as_ref().is_ok_and(|e| e.file_name().as_encoded_bytes().starts_with(b"rx-"))
            })
            .count()
    });
    PortFacts {
        name: name.to_owned(),
        present: true,
        driver: driver(name),
        up: file("flags").is_some_and(|flags| up(&flags)),
        carrier: file("carrier").as_deref() == Some("1"),
        mtu: number("mtu").unwrap_or_default(),
        rx_queues: queues,
        xdp: netdev.and_then(|netdev| netdev.xdp_features(ifindex).ok().flatten()),
        attached: attached(ifindex).unwrap_or_default(),
    }
}

/// The interface's driver, e.g. `ice`; of one without hardware the kind of its link, e.g. `veth`.
#[must_use]
pub fn driver(name: &str) -> Option<String> {
    if let Ok(target) = fs::read_link(format!("/sys/class/net/{name}/device/driver")) {
        return Some(target.file_name()?.to_str()?.to_owned());
    }
    crate::neigh::offload::driver(name).ok()
}

/// Number of the XDP program on the interface.
fn attached(ifindex: u32) -> io::Result<u32> {
    let mut message = LinkMessage::default();
    message.header.index = ifindex;
    let answers = ask(&open(NETLINK_ROUTE)?, RouteNetlinkMessage::GetLink(message))?;
    let attributes = answers.into_iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewLink(link) => Some(link.attributes),
        _ => None,
    });
    let xdp = attributes.flatten().find_map(|attribute| match attribute {
        LinkAttribute::Xdp(xdp) => Some(xdp),
        _ => None,
    });
    Ok(xdp
        .into_iter()
        .flatten()
        .find_map(|part| match part {
            LinkXdp::ProgId(number) => Some(number),
            _ => None,
        })
        .unwrap_or_default())
}

/// Capabilities (linux/capability.h) without which nothing works. Without CAP_SYS_NICE and CAP_IPC_LOCK only the timers
/// must be longer, which the configuration is checked for.
const NEEDED: [(&str, u32); 4] =
    [("CAP_NET_ADMIN", 12), ("CAP_NET_RAW", 13), ("CAP_PERFMON", 38), ("CAP_BPF", 39)];

/// Those of the needed ones that this process lacks.
///
/// # Errors
/// If the kernel does not tell.
pub fn missing_capabilities() -> io::Result<Vec<&'static str>> {
    Ok(missing_of(&fs::read_to_string("/proc/self/status")?))
}

fn missing_of(status: &str) -> Vec<&'static str> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    NEEDED.iter().filter(|(_, bit)| effective >> bit & 1 == 0).map(|(name, _)| *name).collect()
}

/// Whether a thread may have SCHED_FIFO: asked on a thread of its own that ends at once.
#[must_use]
pub fn realtime() -> bool {
    let ask = || {
        let lowest = libc::sched_param { sched_priority: 1 };
        // SAFETY: `lowest` is a valid parameter block for this thread (pid 0).
        unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const lowest) == 0 }
    };
    std::thread::spawn(ask).join().unwrap_or(false)
}

fn open(protocol: isize) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

/// One request and its answers.
fn ask<T: NetlinkSerializable + NetlinkDeserializable>(socket: &Socket, request: T) -> io::Result<Vec<T>>
where
    NetlinkPayload<T>: From<T>,
{
    let mut message = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(request));
    message.header.flags = NLM_F_REQUEST | NLM_F_ACK;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let mut answers = Vec::new();
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let message = NetlinkMessage::<T>::deserialize(rest).map_err(io::Error::other)?;
            let length = message.header.length as usize;
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            match message.payload {
                NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                NetlinkPayload::Error(error) if error.code.is_none() => return Ok(answers),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::Done(_) => return Ok(answers),
                _ => {}
            }
        }
    }
}

/// A message of generic netlink: linux/genetlink.h.
#[derive(Debug)]
struct Generic {
    family: u16,
    command: u8,
    attributes: Vec<DefaultNla>,
}

/// Octets of struct genlmsghdr.
const GENERIC_HEADER: usize = 4;

impl NetlinkSerializable for Generic {
    fn message_type(&self) -> u16 {
        self.family
    }

    fn buffer_len(&self) -> usize {
        GENERIC_HEADER + self.attributes.as_slice().buffer_len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let (header, rest) = buffer.split_at_mut(GENERIC_HEADER);
        header.copy_from_slice(&[self.command, 1, 0, 0]);
        self.attributes.as_slice().emit(rest);
    }
}

impl NetlinkDeserializable for Generic {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let command = payload.first().copied().unwrap_or_default();
        let attributes = NlasIterator::new(payload.get(GENERIC_HEADER..).unwrap_or_default())
            .map(|attribute| DefaultNla::parse(&attribute?))
            .collect::<Result<_, _>>()?;
        Ok(Self { family: header.message_type, command, attributes })
    }
}

impl From<Generic> for NetlinkPayload<Generic> {
    fn from(message: Generic) -> Self {
        Self::InnerMessage(message)
    }
}

impl Generic {
    fn attribute<const N: usize>(&self, kind: u16) -> Option<[u8; N]> {
        let attribute = self.attributes.iter().find(|attribute| attribute.kind() == kind)?;
        let mut value = vec![0; attribute.value_len()];
        attribute.emit_value(&mut value);
        value.get(..N)?.try_into().ok()
    }
}

/// GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_ID, CTRL_ATTR_FAMILY_NAME of linux/genetlink.h.
const CONTROL: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
/// NETDEV_CMD_DEV_GET, NETDEV_A_DEV_IFINDEX, NETDEV_A_DEV_XDP_FEATURES of linux/netdev.h.
const GET_DEVICE: u8 = 1;
const DEVICE_IFINDEX: u16 = 1;
const DEVICE_XDP_FEATURES: u16 = 3;

/// The family "netdev".
struct Netdev {
    socket: Socket,
    family: u16,
}

impl Netdev {
    /// Fails where the kernel has no such family: before Linux 6.3.
    fn open() -> io::Result<Self> {
        let socket = open(NETLINK_GENERIC)?;
        let name = DefaultNla::new(FAMILY_NAME, b"netdev\0".to_vec());
        let request = Generic { family: CONTROL, command: GET_FAMILY, attributes: vec![name] };
        let family = ask(&socket, request)?
            .iter()
            .find_map(|answer| answer.attribute(FAMILY_ID))
            .map(u16::from_ne_bytes)
            .ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { socket, family })
    }

    fn xdp_features(&mut self, ifindex: u32) -> io::Result<Option<u64>> {
        let device = DefaultNla::new(DEVICE_IFINDEX, ifindex.to_ne_bytes().to_vec());
        let request = Generic { family: self.family, command: GET_DEVICE, attributes: vec![device] };
        let answers = ask(&self.socket, request)?;
        Ok(answers.iter().find_map(|answer| answer.attribute(DEVICE_XDP_FEATURES)).map(u64::from_ne_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::{available_of, missing_of, survey};

    #[test]
    fn capabilities_are_read_by_their_bits() {
        assert_eq!(missing_of("Name:\tcsmd\nCapEff:\t000001ffffffffff\n"), Vec::<&str>::new());
        assert_eq!(missing_of("CapEff:\t0000008000001000\n"), ["CAP_NET_RAW", "CAP_PERFMON"]);
        assert_eq!(missing_of("").len(), 4);
    }

    #[test]
    fn memory_is_read_from_the_kernels_list() {
        assert_eq!(available_of("MemTotal:  9 kB\nMemAvailable:   20148884 kB\n"), Some(20_148_884));
        assert_eq!(available_of("MemAvailable: many\n"), None);
    }

    #[test]
    fn this_host_can_be_looked_at() {
        let facts = survey(&["lo".to_owned(), "nosuch0".to_owned()]).expect("a survey");
        assert!(facts.cpus > 0 && !facts.release.is_empty(), "{facts:?}");
        let present: Vec<_> = facts.ports.iter().map(|port| (port.name.as_str(), port.present)).collect();
        assert_eq!(present, [("lo", true), ("nosuch0", false)]);
    }
}
