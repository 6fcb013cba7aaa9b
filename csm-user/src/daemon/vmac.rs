//! `vmac`: on which VLANs the group's frames carry the port's own MAC address instead of the virtual one.
//!
//! Each node decides for itself, by its configuration and by what it knows of its own ports: a takeover announces the
//! addresses with whatever MAC address the successor uses.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use csm_common::gate::GateState;
use csm_common::net::{PORT_CLIENT, PORT_FT, PORT_SERVER, trial_mac};
use csm_common::service::Settings;
use tokio::sync::watch;

use super::apply::announced;
use super::node::Node;
use super::saved::Saved;
use super::startup::Failure;
use crate::api::reply::ft::{MacMode, MacReply, MacTrial};
use crate::arp::findings::{self, Finding, Tried};
use crate::arp::task::trial::{TrialPort, Trials};
use crate::arp::trial::Verdict;
use crate::dataplane::load::PortSpec;
use crate::dataplane::maps::{MapSource, PortMaps};
use crate::dataplane::table::monotonic_ns;
use crate::ft::parked::{OWN_MACS_MAX, Parked};
use crate::model::{Config, Vlan, Vmac};
use crate::neigh::membership::Membership;

/// VLANs on which a choice can be made, and whether the port's own MAC address is used there.
pub(super) type OwnMacs = BTreeMap<u16, bool>;

/// What trials have found, below the state directory.
const FINDINGS: &str = "virtual-mac";

/// What is used, and what decides.
pub struct Macs {
    maps: PortMaps,
    used: Mutex<OwnMacs>,
    known: Arc<Known>,
    /// `None`: there is no peer to try it with.
    trials: Option<Trials>,
    _memberships: Vec<Membership>,
}

/// What is known beyond the end of this process: where the virtual MAC address is of no use.
#[derive(Default)]
struct Known {
    findings: Mutex<Vec<Finding>>,
    /// One at a time, and the last one writes what is known last.
    writing: Mutex<()>,
}

impl Known {
    fn findings(&self) -> MutexGuard<'_, Vec<Finding>> {
        self.findings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is the same for every packet, the peer not known yet.
pub(super) fn settings(specs: &[PortSpec], virtual_mac: [u8; 6]) -> Settings {
    let ft = (0..).zip(specs).find(|(_, port)| port.role == PORT_FT);
    Settings {
        virtual_mac,
        peer_mac: [0; 6],
        ft_port: ft.map_or(u16::MAX, |(number, _)| number),
        ft_tag: ft.filter(|(_, port)| port.tagged).map_or(0, |(_, port)| port.vlan),
        adopted_ns: 0,
    }
}

/// What is used at a start; what the csmd before found out still counts: that which has handed over, else any that has written it
/// down.
pub(super) fn at_start(
    config: &Config,
    specs: &mut [PortSpec],
    parked: Option<&Parked>,
    saved: Option<&Saved>,
) -> (OwnMacs, Vec<Finding>) {
    let (mut used, known) = (OwnMacs::new(), saved.map(written).unwrap_or_default());
    let address = tried_address(config, specs);
    for spec in specs {
        let Some(vlan) = choosable(config, spec) else { continue };
        let found = || address.is_some_and(|address| findings::is_lost(&known, &tried(spec, address)));
        let was_own = parked.map_or_else(found, |parked| parked.own_macs.contains(&spec.vlan));
        spec.own_mac = is_own(vlan.vmac, was_own);
        used.insert(spec.vlan, spec.own_mac);
        if spec.own_mac && vlan.vmac == Vmac::Auto {
            tracing::info!(
                "vlan {}: the port's own MAC address is used, as was found before this start",
                vlan.id
            );
        }
    }
    (used, known)
}

/// What was written down; nothing if that cannot be read.
fn written(saved: &Saved) -> Vec<Finding> {
    let found = saved.store.noted(FINDINGS).map(|octets| match octets {
        Some(octets) => findings::decode(&octets).ok_or("damaged, or of another version"),
        None => Ok(Vec::new()),
    });
    match found {
        Ok(Ok(known)) => return known,
        Ok(Err(error)) => tracing::warn!(error, "`{FINDINGS}` in the state directory is not taken"),
        Err(error) => tracing::warn!(%error, "`{FINDINGS}` in the state directory cannot be read"),
    }
    Vec::new()
}

/// The foreign address that this node tries; `None` without a peer to try it with.
fn tried_address(config: &Config, specs: &[PortSpec]) -> Option<[u8; 6]> {
    let ft = specs.iter().find(|spec| spec.role == PORT_FT)?;
    Some(trial_mac(config.ft.as_ref()?.group, ft.mac[5]))
}

fn tried(spec: &PortSpec, address: [u8; 6]) -> Tried {
    Tried { vlan: spec.vlan, port: spec.name.clone(), mac: spec.mac, tried: address }
}

/// The VLAN of a port on which either MAC address can be used.
fn choosable<'a>(config: &'a Config, spec: &PortSpec) -> Option<&'a Vlan> {
    let vlan = config.vlans.iter().find(|vlan| vlan.id.get() == spec.vlan)?;
    (matches!(spec.role, PORT_CLIENT | PORT_SERVER) && config.has_choice_of_mac(vlan.id)).then_some(vlan)
}

const fn is_own(vmac: Vmac, is_lost: bool) -> bool {
    match vmac {
        Vmac::Auto => is_lost,
        Vmac::On => false,
        Vmac::Off => true,
    }
}

/// Where a foreign address is tried: not where none is to be seen.
fn asking(config: &Config, used: &OwnMacs) -> BTreeSet<u16> {
    let is_asked = |vlan: &&Vlan| vlan.vmac != Vmac::Off && used.contains_key(&vlan.id.get());
    config.vlans.iter().filter(is_asked).map(|vlan| vlan.id.get()).collect()
}

/// The MAC address of the group's frames on the VLAN of `spec`, if that is not the virtual one.
pub(super) fn own_mac(used: &OwnMacs, spec: &PortSpec) -> Option<[u8; 6]> {
    used.get(&spec.vlan).is_some_and(|own| *own).then_some(spec.mac)
}

impl Macs {
    /// Begins to try on all VLANs with a choice.
    pub(super) fn start(
        config: &Config,
        specs: &[PortSpec],
        source: &impl MapSource,
        (used, known): (OwnMacs, Vec<Finding>),
    ) -> Result<Self, Failure> {
        let maps = PortMaps::open(source).map_err(Failure::step("the dataplane's maps"))?;
        let ft = config.ft.as_ref().zip(specs.iter().find(|spec| spec.role == PORT_FT));
        let (mut trials, mut memberships) = (None, Vec::new());
        if let Some((group, port)) = ft {
            let tried = || specs.iter().filter(|spec| used.contains_key(&spec.vlan));
            let step = || Failure::step::<io::Error>("the trial of the virtual MAC");
            let mac = trial_mac(group.group, port.mac[5]);
            // Trunks take all frames.
            for spec in tried().filter(|spec| !spec.tagged) {
                memberships.push(Membership::new(spec.ifindex, mac).map_err(step())?);
            }
            let ports: Vec<_> = tried()
                .map(|spec| TrialPort { vlan: spec.vlan, ifindex: spec.kernel_ifindex(), mac: spec.mac })
                .collect();
            let asking = asking(config, &used);
            trials = Some(Trials::spawn(&ports, group.group, port.mac, asking).map_err(step())?);
        }
        let known = Arc::new(Known { findings: Mutex::new(known), writing: Mutex::default() });
        Ok(Self { maps, used: Mutex::new(used), known, trials, _memberships: memberships })
    }

    /// What is used; nothing changes that while the guard lives.
    pub(super) fn used(&self) -> MutexGuard<'_, OwnMacs> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the trials find.
    pub(super) fn verdicts(&self) -> Option<watch::Receiver<BTreeMap<u16, Verdict>>> {
        self.trials.as_ref().map(Trials::verdicts)
    }

    fn verdict(&self, vlan: u16) -> Verdict {
        let known = self.verdicts().and_then(|verdicts| verdicts.borrow().get(&vlan).copied());
        known.unwrap_or_default()
    }

    /// The VLANs on which the port's own address is used, for the csmd after this one; 0: none.
    pub(super) fn parked(&self, config: &Config) -> [u16; OWN_MACS_MAX] {
        let mut vlans = [0; OWN_MACS_MAX];
        let used = self.used();
        // Where it is configured the next one knows it by itself.
        let found =
            |vlan: &&Vlan| vlan.vmac == Vmac::Auto && used.get(&vlan.id.get()).is_some_and(|own| *own);
        let own: Vec<u16> = config.vlans.iter().filter(found).map(|vlan| vlan.id.get()).collect();
        if let Some(beyond) = own.get(OWN_MACS_MAX..).filter(|beyond| !beyond.is_empty()) {
            tracing::warn!(vlans = ?beyond, "the next csmd has to find out anew that the virtual MAC address is lost there");
        }
        vlans.iter_mut().zip(own).for_each(|(slot, vlan)| *slot = vlan);
        vlans
    }
}

impl Node {
    /// Brings what is used in line with the configuration and the trials; true if addresses are to be announced anew.
    pub(super) fn choose_macs(&self) -> bool {
        let config = self.config();
        let mut used = self.macs.used();
        if let Some(trials) = &self.macs.trials {
            trials.ask(asking(&config, &used));
        }
        let mut changed = false;
        for port in &self.ports {
            let spec = &port.spec;
            let (Some(vlan), Some(&before)) = (choosable(&config, spec), used.get(&spec.vlan)) else {
                continue;
            };
            let verdict = self.macs.verdict(spec.vlan);
            // What is not known again yet stays as it was.
            let is_lost = verdict.is_lost() || (verdict == Verdict::Unknown && before);
            let own = is_own(vlan.vmac, is_lost);
            if own == before {
                continue;
            }
            tell(config.slot, vlan, own);
            // First what comes for either is taken, then it is sent with the new one.
            if let Err(error) = self.macs.maps.set_own_mac(spec.vlan, own) {
                tracing::error!(%error, vlan = spec.vlan, "the MAC address in use could not be changed");
                continue;
            }
            self.neighbours.set_source(spec.vlan, own.then_some(spec.mac));
            used.insert(spec.vlan, own);
            changed = true;
        }
        self.keep_findings(&config);
        if changed {
            let specs = self.ports.iter().map(|port| &port.spec);
            let ports = announced(&self.desired(), specs, &used);
            if let Err(error) = self.changes.announcer().set_ports(&ports) {
                tracing::error!(%error, "what is announced at a takeover could not be changed");
            }
        }
        changed && self.gate.load().state_at(monotonic_ns()) == GateState::Open
    }

    /// Writes down what the trials have come to, if that is another thing than is written, for a start without a peer. Does not
    /// wait for the disk.
    fn keep_findings(&self, config: &Config) {
        let specs: Vec<PortSpec> = self.ports.iter().map(|port| port.spec.clone()).collect();
        let (Some(saved), Some(address)) = (&self.saved, tried_address(config, &specs)) else { return };
        let verdict = |spec: &PortSpec| (tried(spec, address), self.macs.verdict(spec.vlan));
        let now = specs.iter().filter(|spec| choosable(config, spec).is_some()).map(verdict);
        let mut known = self.macs.known.findings();
        let found = findings::merge(&known, now);
        if found == *known {
            return;
        }
        *known = found;
        drop(known);
        let (store, known) = (saved.store.clone(), Arc::clone(&self.macs.known));
        drop(self.runtime.spawn_blocking(move || {
            let _one = known.writing.lock().unwrap_or_else(PoisonError::into_inner);
            let octets = findings::encode(&known.findings());
            if let Err(error) = store.note(FINDINGS, octets) {
                tracing::warn!(%error, "what was found of the virtual MAC address is not kept over a start");
            }
        }));
    }

    /// For `show module csm N ft`.
    pub(super) fn mac_replies(&self) -> Vec<MacReply> {
        let config = self.config();
        let used = self.macs.used();
        let row = |vlan: &Vlan| {
            Some(MacReply {
                vlan: vlan.id.get(),
                configured: match vlan.vmac {
                    Vmac::Auto => MacMode::Auto,
                    Vmac::On => MacMode::On,
                    Vmac::Off => MacMode::Off,
                },
                own: *used.get(&vlan.id.get())?,
                trial: match self.macs.verdict(vlan.id.get()) {
                    Verdict::Unknown => MacTrial::Unknown,
                    Verdict::Passes => MacTrial::Passes,
                    Verdict::LostOnTheWay => MacTrial::LostOnTheWay,
                    Verdict::NotDelivered => MacTrial::NotDelivered,
                },
            })
        };
        config.vlans.iter().filter_map(row).collect()
    }
}

fn tell(slot: u8, vlan: &Vlan, own: bool) {
    let id = vlan.id;
    match (own, vlan.vmac) {
        (true, Vmac::Auto) => tracing::warn!(
            "%CSM_SLB-4-REDUNDANCY_WARN: Module {slot} FT warning: frames with the virtual MAC address would be lost on vlan \
             {id}: this box uses its port's own there"
        ),
        (true, _) => tracing::info!("vlan {id}: the port's own MAC address is used from now on"),
        (false, _) => tracing::info!("vlan {id}: the virtual MAC address is used from now on"),
    }
}
