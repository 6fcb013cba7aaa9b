//! Whether this host can do what csmd needs: kernel, privileges, real-time scheduling, and what each port's driver can do
//! with XDP. Pure: [`survey`] reads the facts, this judges them.
//!
//! A driver's abilities are what the kernel says of them (generic netlink family "netdev", Linux 6.3); only an older kernel
//! is answered for by a table of drivers.

mod driver;
pub mod survey;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::model::{
    Config, FAILOVER_MIN_WITHOUT_REALTIME, Family, Interface, PortMode, XdpMode, channel_name,
    channel_of_name,
};

/// What the kernel tells of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// `uname -r`, e.g. `6.12.41-amd64`.
    pub release: String,
    /// `uname -v`: says how the kernel preempts itself.
    pub build: String,
    /// Capabilities that csmd needs and the asker lacks.
    pub missing_capabilities: Vec<&'static str>,
    /// Whether a thread may have SCHED_FIFO.
    pub realtime: bool,
    /// Whether programs are compiled (net.core.bpf_jit_enable); `None`: not told.
    pub jit: Option<bool>,
    /// Where the kernel has its time from, e.g. `tsc`.
    pub clocksource: Option<String>,
    /// net.ipv4.ip_forward or net.ipv6.conf.all.forwarding.
    pub forwards: bool,
    /// Hosts of each family, as in [`Family::ALL`], that the kernel keeps the MAC addresses of (gc_thresh3); `None`: not told.
    pub neighbours_max: [Option<u64>; 2],
    /// Memory that could be had, KiB.
    pub available_kib: Option<u64>,
    /// CPUs that are on.
    pub cpus: usize,
    /// The ports that were asked for, or all Ethernet interfaces.
    pub ports: Vec<PortFacts>,
}

/// What the kernel tells of a port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortFacts {
    /// Name in Linux.
    pub name: String,
    /// There is such an interface.
    pub present: bool,
    /// Its driver, e.g. `ice`, `virtio_net`.
    pub driver: Option<String>,
    /// Administratively up.
    pub up: bool,
    /// Has carrier.
    pub carrier: bool,
    /// Octets of the largest packet.
    pub mtu: u32,
    /// Queues that receive.
    pub rx_queues: usize,
    /// `XDP_*` bits ([`XDP_BASIC`] and on); `None`: the kernel is too old to tell.
    pub xdp: Option<u64>,
    /// The XDP program that is attached, by its number; 0: none.
    pub attached: u32,
}

/// XDP_ABORTED, DROP, PASS and TX (NETDEV_XDP_ACT_BASIC of linux/netdev.h).
pub const XDP_BASIC: u64 = 1;
/// XDP_REDIRECT from the port.
pub const XDP_REDIRECT: u64 = 2;
/// Redirects to the port; some drivers only claim it while a program is attached.
pub const XDP_XMIT: u64 = 4;
/// Receives frames in several buffers.
pub const XDP_RX_SG: u64 = 32;
/// Redirects of frames in several buffers to the port.
pub const XDP_XMIT_SG: u64 = 64;

/// Largest MTU of which every frame fits into one buffer: a page of 4096 octets less the headroom that XDP leaves (256), the
/// skb_shared_info at its end (320), Ethernet and two tags (22).
pub const MTU_ONE_BUFFER: u32 = 3498;

/// What a configuration wants of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Its ports; empty: no configuration was given.
    pub ports: Vec<PortWanted>,
    /// Failover time of the FT group.
    pub failover: Option<Duration>,
    /// Hosts of each family, as in [`Family::ALL`], whose MAC addresses have to be known.
    pub hosts: [u64; 2],
}

/// What a configuration wants of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortWanted {
    /// Name in Linux.
    pub name: String,
    /// `xdp mode`.
    pub mode: XdpMode,
    /// Carries the FT VLAN.
    pub ft: bool,
}

impl Wanted {
    /// By `config`.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        // A port channel is made by csmd, and runs the program on its ports.
        let is_made = |interface: &Interface| {
            channel_of_name(&interface.name)
                .is_some_and(|channel| config.channel_ports(channel).next().is_some())
        };
        let ports = config.interfaces.iter().filter(|interface| !is_made(interface)).map(|interface| {
            let channel = match interface.mode {
                PortMode::Member(of) => config.interface_named(&channel_name(of.channel)),
                _ => None,
            };
            let carrier = channel.unwrap_or(interface);
            PortWanted {
                name: interface.name.clone(),
                mode: carrier.xdp,
                ft: config.ft.as_ref().is_some_and(|ft| carrier.carries(ft.vlan).is_some()),
            }
        });
        let reals = config.serverfarms.iter().flat_map(|farm| &farm.reals).map(|real| real.address);
        let reals = reals.filter(|address| config.vlan_of(*address).is_some());
        let gateways = config.vlans.iter().flat_map(|vlan| vlan.gateways.iter().copied());
        let known: HashSet<IpAddr> = reals.chain(gateways).collect();
        let of = |family| known.iter().filter(|address| Family::of(**address) == family).count() as u64;
        Self {
            ports: ports.collect(),
            failover: config.ft.as_ref().map(|ft| ft.failover),
            hosts: Family::ALL.map(of),
        }
    }
}

/// How bad a finding is, worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// As it should be.
    Good,
    /// Works, with a limit that is worth knowing.
    Warning,
    /// csmd will not start, or not forward.
    Fault,
}

impl fmt::Display for Grade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Good => "ok",
            Self::Warning => "warning",
            Self::Fault => "fault",
        })
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub grade: Grade,
    /// What was looked at: `kernel`, or a port's name.
    pub about: String,
    /// What was found.
    pub found: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

impl Finding {
    fn good(about: &str, found: impl Into<String>) -> Self {
        Self { grade: Grade::Good, about: about.to_owned(), found: found.into(), remedy: None }
    }

    fn new(grade: Grade, about: &str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { grade, about: about.to_owned(), found: found.into(), remedy: Some(remedy.into()) }
    }
}

/// All findings: first the host's, then each port's.
#[must_use]
pub fn judge(facts: &Facts, wanted: &Wanted) -> Vec<Finding> {
    let mut findings = vec![
        kernel(facts),
        privileges(facts),
        scheduling(facts, wanted),
        preemption(facts),
        compiler(facts),
        clock(facts),
        memory(facts),
    ];
    findings.extend(forwarding(facts));
    findings.extend(neighbours(facts, wanted));
    for port in &facts.ports {
        let wish = wanted.ports.iter().find(|wish| wish.name == port.name);
        driver::judge(port, wish, facts.cpus, &mut findings);
    }
    findings.extend(smaller_ft(facts, wanted));
    findings
}

/// Oldest kernel that the program is verified on.
const OLDEST: (u32, u32) = (6, 1);

fn kernel(facts: &Facts) -> Finding {
    let mut numbers = facts.release.split(|c: char| !c.is_ascii_digit()).map_while(|word| word.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) >= OLDEST => {
            Finding::good("kernel", format!("Linux {}", facts.release))
        }
        (Some(_), Some(_)) => Finding::new(
            Grade::Fault,
            "kernel",
            format!("Linux {}: the program is made for {}.{} and later", facts.release, OLDEST.0, OLDEST.1),
            "install a newer kernel",
        ),
        _ => Finding::new(
            Grade::Warning,
            "kernel",
            format!("version \"{}\" says nothing", facts.release),
            format!("see that it is Linux {}.{} or later", OLDEST.0, OLDEST.1),
        ),
    }
}

fn privileges(facts: &Facts) -> Finding {
    if facts.missing_capabilities.is_empty() {
        return Finding::good("privileges", "all that csmd needs");
    }
    Finding::new(
        Grade::Warning,
        "privileges",
        format!("you lack {}", facts.missing_capabilities.join(", ")),
        "run csmd as root, or give its service these capabilities",
    )
}

fn scheduling(facts: &Facts, wanted: &Wanted) -> Finding {
    if facts.realtime {
        return Finding::good("scheduling", "real-time (SCHED_FIFO) is to be had");
    }
    let floor = FAILOVER_MIN_WITHOUT_REALTIME;
    let grade = match wanted.failover {
        Some(failover) if failover < floor => Grade::Fault,
        _ => Grade::Warning,
    };
    Finding::new(
        grade,
        "scheduling",
        format!("no real-time scheduling: failover times below {} ms are refused", floor.as_millis()),
        "run csmd as root or with CAP_SYS_NICE, and leave kernel.sched_rt_runtime_us above 0",
    )
}

fn preemption(facts: &Facts) -> Finding {
    if facts.build.contains("PREEMPT") {
        return Finding::good("preemption", "the kernel preempts itself");
    }
    Finding::new(
        Grade::Warning,
        "preemption",
        "the kernel does not preempt itself: a long system call of any process delays heartbeats by up to 100 ms",
        "boot a PREEMPT_DYNAMIC kernel with preempt=full, or keep the failover time at 500 ms or above",
    )
}

fn compiler(facts: &Facts) -> Finding {
    match facts.jit {
        Some(false) => Finding::new(
            Grade::Warning,
            "compiler",
            "BPF programs are interpreted: each packet costs several times as much",
            "sysctl net.core.bpf_jit_enable=1",
        ),
        Some(true) => Finding::good("compiler", "BPF programs are compiled"),
        None => Finding::good("compiler", "not told; most kernels always compile BPF programs"),
    }
}

/// Clock sources that are read without leaving the CPU; others cost a microsecond or more.
const FAST_CLOCKS: [&str; 5] =
    ["tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page", "timebase"];

fn clock(facts: &Facts) -> Finding {
    match facts.clocksource.as_deref() {
        Some(source) if !FAST_CLOCKS.contains(&source) => Finding::new(
            Grade::Warning,
            "clock",
            format!("the kernel's clock is {source}, which is slow to read; packets read it"),
            "find out why the CPU's own counter was given up (dmesg | grep -i clocksource)",
        ),
        Some(source) => Finding::good("clock", source),
        None => Finding::good("clock", "not told"),
    }
}

/// Octets a table entry takes beside its key and value: struct htab_elem of the kernel, and its share of the buckets.
const ENTRY_OVERHEAD: u64 = 48 + 16;

/// KiB that the tables of the default number of connections take.
fn tables_kib() -> u64 {
    use csm_common::flow::{FlowEntry, FlowKey};
    use csm_common::limits::{CONNECTIONS_MAX, EMBRYONIC_MAX, STICKY_MAX};
    use csm_common::service::{StickyEntry, StickyKey};
    let flow = (size_of::<FlowKey>() + size_of::<FlowEntry>()) as u64 + ENTRY_OVERHEAD;
    let sticky = (size_of::<StickyKey>() + size_of::<StickyEntry>()) as u64 + ENTRY_OVERHEAD;
    let flows = 2 * (u64::from(CONNECTIONS_MAX) + u64::from(EMBRYONIC_MAX));
    (flows * flow + u64::from(STICKY_MAX) * sticky) / 1024
}

fn memory(facts: &Facts) -> Finding {
    let need = tables_kib();
    match facts.available_kib {
        Some(available) if available < need => Finding::new(
            Grade::Fault,
            "memory",
            format!(
                "{} MiB available; tables of the default size take {} MiB",
                available / 1024,
                need / 1024
            ),
            "start csmd with a smaller --connections, or add memory",
        ),
        Some(available) => Finding::good(
            "memory",
            format!(
                "{} MiB available; tables of the default size take {} MiB",
                available / 1024,
                need / 1024
            ),
        ),
        None => Finding::good("memory", "not told"),
    }
}

fn forwarding(facts: &Facts) -> Option<Finding> {
    facts.forwards.then(|| {
        Finding::new(
            Grade::Warning,
            "forwarding",
            "the kernel forwards packets: what is sent to this host's own MAC address goes past the balancer",
            "sysctl net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0",
        )
    })
}

/// The kernel finds the MAC addresses, and keeps no more than it was told to.
fn neighbours(facts: &Facts, wanted: &Wanted) -> Vec<Finding> {
    let of = |(max, hosts): (&Option<u64>, u64), family: &str| {
        let max = max.filter(|max| hosts >= *max)?;
        let room = (2 * hosts).next_power_of_two();
        Some(Finding::new(
            Grade::Fault,
            "neighbours",
            format!("{hosts} {family} hosts are to be known by their MAC addresses; the kernel keeps {max}"),
            format!(
                "sysctl net.{family}.neigh.default.gc_thresh3={room} net.{family}.neigh.default.gc_thresh2={room}"
            ),
        ))
    };
    let both = facts.neighbours_max.iter().zip(wanted.hosts);
    both.zip(["ipv4", "ipv6"]).filter_map(|(counts, family)| of(counts, family)).collect()
}

/// A stray that the FT VLAN is too small for is lost in a planned switchover.
fn smaller_ft(facts: &Facts, wanted: &Wanted) -> Option<Finding> {
    let mtu =
        |name: &str| facts.ports.iter().find(|port| port.name == name && port.present).map(|port| port.mtu);
    let ft = wanted.ports.iter().find(|port| port.ft)?;
    let largest = wanted.ports.iter().filter(|port| !port.ft).filter_map(|port| mtu(&port.name)).max()?;
    let own = mtu(&ft.name)?;
    (own < largest).then(|| {
        Finding::new(
            Grade::Warning,
            &ft.name,
            format!("carries the FT VLAN with an MTU of {own}, smaller than {largest} elsewhere: strays of a switchover are lost"),
            format!("ip link set {} mtu {largest}", ft.name),
        )
    })
}
