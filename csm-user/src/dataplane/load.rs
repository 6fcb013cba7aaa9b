//! Loads the XDP program, attaches it to the ports and gives typed access to its maps.
//!
//! Without pins a program loaded here lives as long as the [`Dataplane`], and the death of the process takes it off every
//! port. With pins it stays there, and so do its tables: the next one takes its place on each port in one step, and its
//! tables over. What nobody renews is the gate, which shuts by itself.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use aya::maps::{Array, DevMap, HashMap, Map, MapData, MapError, ProgramArray};
use aya::programs::{ProgramError, TestRun, TestRunOptions, TestRunResult, Xdp};
use aya::{Ebpf, EbpfError, EbpfLoader};
use csm_common::address::V6;
use csm_common::counter::NOT_COUNTED;
use csm_common::net::{
    NO_VETH, PORT_CLIENT, PORT_ROUTED, PORT_SPEAKS_OWN, PORT_TAGGED, PORT_TAKES_OWN, PORT_VETH, Port,
    PortSlot, TagKey, port_slot,
};
use csm_common::{limits, names};

use super::bpf::Runner;
use super::counted;
use super::maps::{MapSource, Promises};
pub use super::port::{PortSpec, Veth};
use super::refusal::{is_the_drivers, remedy_for};
use super::routes::be;
use super::table::monotonic_ns;
use super::task::adopted::Keep;
use super::task::link::Link;
use super::task::trace::{Forms, Tracer};
use crate::host::survey::driver;
use crate::model;

pub use super::capacity::Capacity;
pub use super::task::gate::MappedGate;

/// The program and its maps as built for the BPF target.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/csm-ebpf.o"));

/// How often the program is handed to the verifier before it counts as refused.
const VERIFY_ATTEMPTS: u32 = 10;

/// How the program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AttachMode {
    /// In the driver.
    Native,
    /// In the network stack, on a copy of each frame: slow, only when the configuration asks for it.
    Generic,
}

impl fmt::Display for AttachMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Native => "native",
            Self::Generic => "generic",
        })
    }
}

/// Why the dataplane did not come up.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The kernel refused the object: too old, verifier, or privileges.
    #[error("the kernel refuses the XDP program (Linux 6.1 or newer and root are needed): {0}")]
    Object(#[source] Box<EbpfError>),
    /// The verifier refused the program.
    #[error("the kernel's verifier refuses the XDP program (Linux 6.1 or newer is needed): {0}")]
    Verifier(#[source] Box<ProgramError>),
    /// The kernel did not run the program on a test frame.
    #[error("the kernel does not run the XDP program on a test frame: {0}")]
    TestRun(#[source] Box<ProgramError>),
    /// A port would not take the program.
    #[error(
        "interface {interface} (driver {driver}) does not take the XDP program in {mode} mode: {reason}; {remedy}"
    )]
    Attach {
        /// Interface name.
        interface: String,
        /// Its driver, or `unknown`.
        driver: String,
        /// The mode asked for.
        mode: AttachMode,
        /// The kernel's words.
        #[source]
        reason: io::Error,
        /// What to do about it.
        remedy: &'static str,
    },
    /// More ports than [`limits::PORTS_MAX`].
    #[error("{0} ports, VLANs of trunks and their veths are configured, at most {max} fit", max = limits::PORTS_MAX)]
    TooManyPorts(usize),
    /// A map of the embedded object is missing or of another type.
    #[error("map {name} of the XDP program: {source}")]
    Map {
        /// Map name.
        name: &'static str,
        /// What is wrong.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The object lacks a map or the program.
    #[error("the XDP object has no {0}; build csm-user again")]
    Missing(&'static str),
    /// What outlives the controller could not be taken over or kept.
    #[error("tables that outlive csmd, in {directory}: {source}")]
    Pins {
        /// Where they are.
        directory: String,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// The gate could not be mapped into memory.
    #[error("the gate cannot be mapped into memory: {0}")]
    Gate(#[source] io::Error),
}

/// The loaded program, attached to its ports.
#[derive(Debug)]
pub struct Dataplane {
    ebpf: Ebpf,
    gate: Arc<MappedGate>,
    /// By interface index.
    modes: BTreeMap<u32, AttachMode>,
    /// The program's places on the ports.
    links: Arc<Vec<Link>>,
    /// What outlives this process.
    keep: Option<Keep>,
}

impl Dataplane {
    /// Loads the program, fills `PORTS`, `VLANS` and `TX_PORTS` (port numbers are positions in `ports`) and attaches
    /// to each port. The gate is closed.
    ///
    /// # Errors
    /// See [`LoadError`]; nothing stays attached then.
    pub fn load(ports: &[PortSpec], mode: AttachMode) -> Result<Self, LoadError> {
        Self::load_with(ports, mode, Capacity::default())
    }

    /// As [`Self::load`], with tables of the given capacity.
    ///
    /// # Errors
    /// See [`LoadError`]; nothing stays attached then.
    pub fn load_with(ports: &[PortSpec], mode: AttachMode, capacity: Capacity) -> Result<Self, LoadError> {
        Self::load_over(ports, mode, capacity, None)
    }

    /// As [`Self::load_with`], taking over what an earlier program left in the pins of `keep`, and leaving there what is
    /// loaded now. The gate is as it was found, and closed if none was.
    ///
    /// # Errors
    /// See [`LoadError`]; of what was found nothing is gone then.
    pub fn load_over(
        ports: &[PortSpec],
        mode: AttachMode,
        capacity: Capacity,
        keep: Option<Keep>,
    ) -> Result<Self, LoadError> {
        let ends = ports.len() + ports.iter().filter(|port| port.veth.is_some()).count();
        if ends > limits::PORTS_MAX as usize {
            return Err(LoadError::TooManyPorts(ends));
        }
        let sizes = capacity.sizes();
        let adopted = keep.as_ref().map(|keep| keep.adopt(OBJECT, &sizes)).transpose()?.unwrap_or_default();
        let mut loader = EbpfLoader::new();
        // The program looks into no kernel structure: parsing the kernel's types would be for nothing.
        loader.btf(None);
        for (name, entries) in &sizes {
            loader.map_max_entries(name, *entries);
        }
        for (name, path) in &adopted.paths {
            loader.map_pin_path(name, path);
        }
        let mut ebpf = loader.load(OBJECT).map_err(|error| LoadError::Object(Box::new(error)))?;
        verify(program(&mut ebpf, names::PROGRAM)?)?;
        take(&mut ebpf, names::PROGRAM_OPEN, names::FAMILY_OPEN)?;
        if capacity.ipv6 {
            take(&mut ebpf, names::PROGRAM6, names::FAMILY_V6)?;
            take(&mut ebpf, names::PROGRAM6_OPEN, names::FAMILY_V6_OPEN)?;
        }
        if capacity.router {
            take(&mut ebpf, names::PROGRAM_ROUTER, names::FAMILY_ROUTER)?;
            take(&mut ebpf, names::PROGRAM_INSIDE, names::FAMILY_INSIDE)?;
        }
        if capacity.router && capacity.ipv6 {
            take(&mut ebpf, names::PROGRAM6_ROUTER, names::FAMILY_V6_ROUTER)?;
            take(&mut ebpf, names::PROGRAM6_INSIDE, names::FAMILY_V6_INSIDE)?;
        }
        let Some(Map::Array(gate)) = ebpf.map(names::GATE) else {
            return Err(LoadError::Missing(names::GATE));
        };
        let gate = Arc::new(MappedGate::new(gate.fd()).map_err(LoadError::Gate)?);
        let mut dataplane = Self { ebpf, gate, modes: BTreeMap::new(), links: Arc::default(), keep: None };
        dataplane.fill_ports(ports)?;
        if let Some(keep) = &keep {
            keep.fill(&adopted, &dataplane.ebpf)?;
        }
        dataplane.attach(ports, mode, &keep)?;
        if let Some(keep) = &keep {
            keep.settle(&adopted, &dataplane.ebpf)?;
        }
        dataplane.keep = keep;
        Ok(dataplane)
    }

    /// Whether tables of an earlier program were taken over.
    #[must_use]
    pub fn has_adopted(&self) -> bool {
        self.keep.as_ref().is_some_and(Keep::has_adopted)
    }

    /// Whether it outlives this process.
    #[must_use]
    pub const fn is_kept(&self) -> bool {
        self.keep.is_some()
    }

    /// Lets go of the program and its tables as the death of this process would: where they were to outlive it they stay.
    pub fn abandon(mut self) {
        self.keep = None;
    }

    /// Has the program leave its ports and the tables go, also where they were to outlive this process.
    fn withdraw(&self) {
        let Some(keep) = &self.keep else { return };
        // What was promised to the peer must not be forgotten by who is started next.
        let has_promised = Promises::open(self).and_then(|promises| promises.get());
        let removed = match has_promised {
            Ok(until) if until > monotonic_ns() => keep.remove_but(names::PROMISE),
            _ => keep.remove(),
        };
        if let Err(error) = removed {
            tracing::error!(%error, "what outlives csmd could not be removed");
        }
    }

    /// The gate, for the thread that owns it.
    #[must_use]
    pub fn gate(&self) -> Arc<MappedGate> {
        Arc::clone(&self.gate)
    }

    /// The mode in force on each interface, by its index.
    #[must_use]
    pub const fn modes(&self) -> &BTreeMap<u32, AttachMode> {
        &self.modes
    }

    /// A handle of its own to map `name`, typed as asked, e.g. `map::<HashMap<MapData, FlowKey, FlowEntry>>(FLOWS)`;
    /// valid beyond the `Dataplane`.
    ///
    /// # Errors
    /// [`LoadError::Map`] if the map has another type or other sizes, [`LoadError::Missing`] if there is none.
    pub fn map<M>(&self, name: &'static str) -> Result<M, LoadError>
    where
        M: TryFrom<Map, Error = MapError>,
    {
        let map = self.ebpf.map(name).ok_or(LoadError::Missing(name))?;
        reopen(map).and_then(M::try_from).map_err(|source| map_error(name, source))
    }

    /// Instructions that the verifier walked for the loaded program `name`, if the kernel tells (5.16).
    #[must_use]
    pub fn verified_instructions(&mut self, name: &str) -> Option<u32> {
        let program: &mut Xdp = self.ebpf.program_mut(name)?.try_into().ok()?;
        program.info().ok()?.verified_instruction_count()
    }

    /// Something that gives the program frames; valid beyond the `Dataplane`.
    ///
    /// # Errors
    /// [`LoadError::Missing`] if the object has no program.
    pub fn runner(&self) -> Result<Runner, LoadError> {
        descriptor(&self.ebpf, names::PROGRAM).map(Runner::new)
    }

    /// The program's descriptor, for one that calls it: valid as long as the `Dataplane`.
    ///
    /// # Errors
    /// [`LoadError::Missing`] if the object has no program.
    pub fn program_fd(&mut self) -> Result<RawFd, LoadError> {
        let program = program(&mut self.ebpf, names::PROGRAM)?;
        Ok(program.fd().map_err(|error| LoadError::Object(Box::new(error.into())))?.as_fd().as_raw_fd())
    }

    /// Runs the program once on a frame (BPF_PROG_TEST_RUN); a redirect is reported, not made.
    ///
    /// # Errors
    /// The kernel's refusal, e.g. a frame shorter than an Ethernet header.
    pub fn test_run(&mut self, options: TestRunOptions<'_>) -> Result<TestRunResult, LoadError> {
        program(&mut self.ebpf, names::PROGRAM)?
            .test_run(options)
            .map_err(|error| LoadError::TestRun(Box::new(error)))
    }

    fn fill_ports(&mut self, ports: &[PortSpec]) -> Result<(), LoadError> {
        let mut by_index: HashMap<MapData, u32, Port> = self.map(names::PORTS)?;
        let mut slots: Array<MapData, PortSlot> = self.map(names::PORT_SLOTS)?;
        let mut by_tag: HashMap<MapData, TagKey, Port> = self.map(names::TAGGED)?;
        let mut by_vlan: Array<MapData, Port> = self.map(names::VLANS)?;
        let mut own6: Array<MapData, V6> = self.map(names::OWN6)?;
        let mut devices: DevMap<MapData> = self.map(names::TX_PORTS)?;
        let mut device = |number, ifindex| {
            devices.set(number, ifindex, None, 0).map_err(|source| map_error(names::TX_PORTS, source))
        };
        let slots_of = self.counted(ports)?;
        // The veths' numbers follow those of the ports.
        let mut free = (0..).skip(ports.len());
        let mut veths = BTreeMap::new();
        for (number, spec) in (0..).zip(ports) {
            let flags = if spec.tagged { PORT_TAGGED } else { 0 }
                | if spec.routed { PORT_ROUTED } else { 0 }
                | if spec.own_mac { PORT_TAKES_OWN | PORT_SPEAKS_OWN } else { 0 };
            let (vlan, role, mac) = (spec.vlan, spec.role, spec.mac);
            let bridge = spec.bridge.map_or(0, |(vlan, _)| vlan);
            let own_be = spec.bridge.map(|(_, own)| own).or(spec.own4).map_or(0, be);
            let counted_in = |ifindex| slots_of.get(&ifindex).copied().unwrap_or(NOT_COUNTED);
            let counted = counted_in(spec.ifindex);
            let mut port = Port { number, vlan, role, flags, mac, bridge, veth: NO_VETH, own_be, counted };
            if let Some(veth) = &spec.veth {
                // What the kernel says leaves by the client side of a bridge group, unless the program knows better.
                if bridge == 0 || role == PORT_CLIENT {
                    let behind = Port { role: PORT_VETH, counted: counted_in(veth.inner), ..port };
                    by_index
                        .insert(veth.inner, behind, 0)
                        .map_err(|source| map_error(names::PORTS, source))?;
                }
                port.veth = *veths.entry(veth.inner).or_insert_with(|| free.next().unwrap_or(NO_VETH));
                device(port.veth, veth.inner)?;
            }
            let members = spec.members.iter().map(|(ifindex, _)| *ifindex);
            for ifindex in [spec.ifindex].into_iter().chain(members) {
                let port = Port { counted: counted_in(ifindex), ..port };
                if spec.tagged {
                    let key = TagKey { ifindex, vlan, pad: 0 };
                    by_tag.insert(key, port, 0).map_err(|source| map_error(names::TAGGED, source))?;
                    continue;
                }
                by_index.insert(ifindex, port, 0).map_err(|source| map_error(names::PORTS, source))?;
                // Of two ports that share a slot the later one has it.
                slots
                    .set(port_slot(ifindex), PortSlot { ifindex, port }, 0)
                    .map_err(|source| map_error(names::PORT_SLOTS, source))?;
            }
            by_vlan.set(u32::from(vlan), port, 0).map_err(|source| map_error(names::VLANS, source))?;
            if let Some(own) = spec.own6 {
                own6.set(u32::from(vlan), V6::from(own), 0)
                    .map_err(|source| map_error(names::OWN6, source))?;
            }
            device(number, spec.ifindex)?;
        }
        Ok(())
    }

    /// Gives each interface with the program a slot for its counts; those that have one keep it.
    fn counted(&self, ports: &[PortSpec]) -> Result<BTreeMap<u32, u32>, LoadError> {
        let mut map: HashMap<MapData, u32, u32> = self.map(names::COUNTED)?;
        let failed = |source| map_error(names::COUNTED, source);
        let known = map.iter().collect::<Result<BTreeMap<_, _>, _>>().map_err(failed)?;
        let veths = ports.iter().filter_map(|port| port.veth.as_ref()).map(|veth| veth.inner);
        let members = ports.iter().flat_map(|port| port.members.iter().map(|(ifindex, _)| *ifindex));
        let all = ports.iter().map(|port| port.ifindex).chain(members).chain(veths);
        let slots = counted::assign(known, all);
        slots.iter().try_for_each(|(ifindex, slot)| map.insert(ifindex, slot, 0)).map_err(failed)?;
        Ok(slots)
    }

    /// Attaches to each port as it asks for, or to all in generic mode if `mode` says so.
    fn attach(&mut self, ports: &[PortSpec], mode: AttachMode, keep: &Option<Keep>) -> Result<(), LoadError> {
        let mut links = Vec::new();
        let mut standing = keep.as_ref().map(Keep::links).transpose()?.unwrap_or_default();
        for (ifindex, (name, wish)) in interfaces(ports) {
            let wish = if mode == AttachMode::Generic { model::XdpMode::Generic } else { wish };
            if let Some((mode, link)) = standing.remove(&ifindex) {
                if fits(wish, mode) {
                    let program = descriptor(&self.ebpf, names::PROGRAM)?;
                    link.replace(program.as_fd()).map_err(|reason| refused(name, mode, reason))?;
                    links.push(link);
                    self.modes.insert(ifindex, mode);
                    continue;
                }
                link.detach().map_err(|reason| refused(name, mode, reason))?;
                keep.iter().try_for_each(|keep| keep.remove_link(ifindex, mode))?;
            }
            let (link, attached) = match wish {
                model::XdpMode::Native => self.attach_one(ifindex, name, AttachMode::Native)?,
                model::XdpMode::Generic => self.attach_one(ifindex, name, AttachMode::Generic)?,
                model::XdpMode::Auto => match self.attach_one(ifindex, name, AttachMode::Native) {
                    Err(LoadError::Attach { reason, .. }) if is_the_drivers(&reason) => {
                        tracing::warn!(interface = name, %reason, "no native XDP: falling back to generic");
                        self.attach_one(ifindex, name, AttachMode::Generic)?
                    }
                    result => result?,
                },
            };
            if attached == AttachMode::Generic {
                tracing::warn!(interface = name, "XDP in generic mode: each frame is copied, which is slow");
            }
            if let Some(keep) = keep {
                keep.put_link(ifindex, attached, &link)?;
            }
            links.push(link);
            self.modes.insert(ifindex, attached);
        }
        // Of ports that the configuration no longer has.
        for (ifindex, (mode, _)) in standing {
            keep.iter().try_for_each(|keep| keep.remove_link(ifindex, mode))?;
        }
        self.links = Arc::new(links);
        Ok(())
    }

    fn attach_one(
        &mut self,
        ifindex: u32,
        name: &str,
        mode: AttachMode,
    ) -> Result<(Link, AttachMode), LoadError> {
        let flags = match mode {
            AttachMode::Native => XDP_FLAGS_DRV_MODE,
            AttachMode::Generic => XDP_FLAGS_SKB_MODE,
        };
        let program = descriptor(&self.ebpf, names::PROGRAM)?;
        Link::create(program.as_fd(), ifindex, flags)
            .map(|link| (link, mode))
            .map_err(|reason| refused(name, mode, reason))
    }

    /// The traced form of the program, ready to take the place of the usual one.
    ///
    /// # Errors
    /// The verifier's refusal, or of the maps; the usual form is not touched.
    pub fn tracer(&mut self) -> Result<Tracer, LoadError> {
        let missing = || LoadError::Missing(names::PROGRAM_TRACED);
        let traced = self.ebpf.program_mut(names::PROGRAM_TRACED).ok_or_else(missing)?;
        verify(traced.try_into().map_err(|_| missing())?)?;
        take(&mut self.ebpf, names::PROGRAM_TOLD, names::FAMILY_TOLD)?;
        let ipv6 = program(&mut self.ebpf, names::PROGRAM6)?.fd().is_ok();
        if ipv6 {
            take(&mut self.ebpf, names::PROGRAM6_TRACED, names::FAMILY_V6_TRACED)?;
            take(&mut self.ebpf, names::PROGRAM6_TOLD, names::FAMILY_V6_TOLD)?;
        }
        let map_failed = |error| map_error(names::TRACE, error);
        let forms = Forms {
            usual: descriptor(&self.ebpf, names::PROGRAM)?,
            traced: descriptor(&self.ebpf, names::PROGRAM_TRACED)?,
            links: Arc::clone(&self.links),
            ipv6,
        };
        Tracer::new(&mut self.ebpf, forms).map_err(map_failed)
    }
}

/// Interface `name` does not take the program.
fn refused(name: &str, mode: AttachMode, reason: io::Error) -> LoadError {
    let remedy = remedy_for(&reason);
    let (interface, driver) = (name.to_owned(), driver(name).unwrap_or_else(|| "unknown".to_owned()));
    LoadError::Attach { interface, driver, mode, reason, remedy }
}

/// Whether a program that is attached in `mode` is attached as it is wished.
const fn fits(wish: model::XdpMode, mode: AttachMode) -> bool {
    matches!(
        (wish, mode),
        (model::XdpMode::Auto, _)
            | (model::XdpMode::Native, AttachMode::Native)
            | (model::XdpMode::Generic, AttachMode::Generic)
    )
}

impl Drop for Dataplane {
    fn drop(&mut self) {
        self.withdraw();
    }
}

/// XDP_FLAGS_SKB_MODE and XDP_FLAGS_DRV_MODE of linux/if_link.h.
const XDP_FLAGS_SKB_MODE: u32 = 2;
const XDP_FLAGS_DRV_MODE: u32 = 4;

/// The interfaces that carry the program, each once, and how. A veth of csmd's own always takes it natively.
fn interfaces(ports: &[PortSpec]) -> BTreeMap<u32, (&str, model::XdpMode)> {
    let veths = ports.iter().filter_map(|port| port.veth.as_ref());
    let veths = veths.map(|veth| (veth.inner, (veth.inner_name.as_str(), model::XdpMode::Native)));
    ports.iter().map(|port| (port.ifindex, (port.name.as_str(), port.xdp))).chain(veths).collect()
}

/// The system call's error, which the library keeps at the end of its chain.
fn reason_of(error: &ProgramError) -> io::Error {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(code) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return io::Error::from_raw_os_error(code);
        }
        cause = error.source();
    }
    io::Error::other(error.to_string())
}

impl MapSource for Dataplane {
    fn descriptor(&self, name: &str) -> io::Result<OwnedFd> {
        self.ebpf.descriptor(name)
    }
}

/// Hands the program to the verifier, which gives up with EAGAIN when a signal comes for this thread meanwhile.
fn verify(program: &mut Xdp) -> Result<(), LoadError> {
    for _ in 1..VERIFY_ATTEMPTS {
        match program.load() {
            Err(error) if reason_of(&error).raw_os_error() == Some(libc::EAGAIN) => {}
            result => return result.map_err(|error| LoadError::Verifier(Box::new(error))),
        }
    }
    program.load().map_err(|error| LoadError::Verifier(Box::new(error)))
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Xdp, LoadError> {
    ebpf.program_mut(name).and_then(|program| program.try_into().ok()).ok_or(LoadError::Missing(name))
}

/// Loads the program `name` and has the first one call it by its index.
fn take(ebpf: &mut Ebpf, name: &'static str, index: u32) -> Result<(), LoadError> {
    let program = program(ebpf, name)?;
    verify(program)?;
    let fd = program.fd().and_then(|fd| Ok(fd.try_clone()?));
    let fd = fd.map_err(|error| LoadError::Object(Box::new(error.into())))?;
    let map = ebpf.map_mut(names::FAMILIES).ok_or(LoadError::Missing(names::FAMILIES))?;
    let mut families = ProgramArray::try_from(map).map_err(|source| map_error(names::FAMILIES, source))?;
    families.set(index, &fd, 0).map_err(|source| map_error(names::FAMILIES, source))
}

/// A descriptor of the loaded program `name`.
fn descriptor(ebpf: &Ebpf, name: &'static str) -> Result<OwnedFd, LoadError> {
    let fd = ebpf.program(name).and_then(|program| program.fd().ok()).ok_or(LoadError::Missing(name))?;
    fd.as_fd().try_clone_to_owned().map_err(|error| map_error(name, error))
}

/// A second descriptor of the same kernel map.
fn reopen(map: &Map) -> Result<Map, MapError> {
    let (Map::Array(data)
    | Map::PerCpuArray(data)
    | Map::HashMap(data)
    | Map::LruHashMap(data)
    | Map::LpmTrie(data)
    | Map::DevMap(data)
    | Map::RingBuf(data)) = map
    else {
        return Err(MapError::InvalidMapType { map_type: 0 });
    };
    let descriptor = data.fd().as_fd().try_clone_to_owned()?;
    Map::from_map_data(MapData::from_fd(descriptor)?)
}

fn map_error(name: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> LoadError {
    LoadError::Map { name, source: Box::new(source) }
}
