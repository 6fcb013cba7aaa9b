//! Route health injection (`advertise`): routes for virtual servers' networks, for the routing daemons of this host to tell the
//! world of while this node forwards.
//!
//! They lead to an interface that goes with this process, so the kernel takes them back also when it is killed, and stand in a
//! table that the kernel itself never looks into. A restart in place hands the interface on.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use csm_common::gate::GateState;
use ipnet::IpNet;

use super::node::Node;
use super::policies;
use super::route::UNKNOWN_MAX;
use crate::dataplane::table::monotonic_ns;
use crate::ft::State;
use crate::model::{Config, Told, Vserver};
use crate::neigh::routes::{Routes, TABLE};
use crate::neigh::tun::Tun;

/// The interface.
const INTERFACE: &str = "csm-rhi";
/// How often it is looked whether something has changed.
const PERIOD: Duration = Duration::from_millis(100);

/// Networks that have their route, as the kernel said last.
#[derive(Debug, Default)]
pub(super) struct Advertised(Mutex<BTreeSet<IpNet>>);

impl Advertised {
    /// Whether `network` has its route.
    pub(super) fn contains(&self, network: &IpNet) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(network)
    }

    fn set(&self, networks: BTreeSet<IpNet>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = networks;
    }
}

/// What the thread leaves when it ends.
type Device = Option<Tun>;

/// The running thread; dropping it takes all routes back.
pub(super) struct Advertiser {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<Device>>,
    /// Handed on: its routes stay as they are until this is dropped.
    left: Device,
}

impl Advertiser {
    /// Starts it.
    ///
    /// # Errors
    /// If the thread cannot be had.
    pub(super) fn start(node: &Arc<Node>) -> io::Result<Self> {
        let (stop, stopped) = bounded(0);
        // Also where nothing is wanted: else the routes of the program before would stand as long as this one runs.
        let device = Tun::inherited(INTERFACE).unwrap_or_else(|error| {
            tracing::warn!(%error, "the advertised routes of the program before are taken back, and come again");
            None
        });
        let keeper = Keeper { node: Arc::clone(node), device, routes: None, knows: !node.resumed };
        let thread =
            std::thread::Builder::new().name("csm-advertise".into()).spawn(move || keeper.run(&stopped))?;
        Ok(Self { stop: Some(stop), thread: Some(thread), left: None })
    }

    /// The program that takes this one's place keeps the routes. From here on they are as they are.
    pub(super) fn hand_on(&mut self) {
        let device = self.end();
        if let Some(Err(error)) = device.as_ref().map(Tun::hand_on) {
            tracing::warn!(%error, "the advertised routes go with this program, and come again with the next");
        }
        self.left = device;
    }

    fn end(&mut self) -> Device {
        drop(self.stop.take());
        self.thread.take()?.join().unwrap_or_else(|_| {
            tracing::error!("the thread of advertised routes panicked");
            None
        })
    }
}

impl Drop for Advertiser {
    fn drop(&mut self) {
        let Some(device) = self.end().or_else(|| self.left.take()) else { return };
        // They would go with the device; but of IPv4 routes that do, the kernel tells nobody.
        if let Err(error) = withdraw(&device) {
            tracing::warn!(%error, "the advertised routes go with their interface");
        }
    }
}

fn withdraw(device: &Tun) -> io::Result<()> {
    let mut routes = Routes::open()?;
    routes.list(device.ifindex)?.into_iter().try_for_each(|network| routes.remove(device.ifindex, network))
}

struct Keeper {
    node: Arc<Node>,
    device: Device,
    routes: Option<Routes>,
    /// Whether this node forwards was known once.
    knows: bool,
}

impl Keeper {
    fn run(mut self, stopped: &Receiver<()>) -> Device {
        let (mut before, mut read) = (None, Instant::now());
        let mut told = None;
        loop {
            let config = self.node.config();
            let now = self.wanted(&config);
            if config.is_look_due(before.as_ref(), &now, read.elapsed()) {
                read = Instant::now();
                let outcome = self.reconcile(&now).map_err(|error| error.to_string()).err();
                before = outcome.is_none().then_some(now);
                if outcome != told {
                    if let Some(error) = &outcome {
                        tracing::error!(
                            error,
                            "the routes of advertised virtual servers cannot be kept: is there /dev/net/tun?"
                        );
                    }
                    told = outcome;
                }
            }
            match stopped.recv_timeout(PERIOD) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return self.device,
            }
        }
    }

    /// By what this node's gate, its plan and its probes say now.
    fn wanted(&mut self, config: &Config) -> Told {
        let forwards = self.forwards();
        config.advertised(forwards, |vserver| self.serves(config, vserver))
    }

    /// Whether this node forwards; `None`: a restart in place has just begun, and neither its gate nor its election says that yet.
    fn forwards(&mut self) -> Option<bool> {
        let is_open = self.node.gate.load().state_at(monotonic_ns()) == GateState::Open;
        if !self.knows {
            let state = self.node.ft.as_ref().map(|ft| ft.status().state);
            // Of an active one whose gate is not open the gate is about to be.
            let is_said = state.is_some_and(|state| !matches!(state, State::Init | State::Active));
            self.knows = is_open || is_said || !self.is_new();
        }
        self.knows.then_some(is_open)
    }

    /// Whether a virtual server is operational; `None`: a restart in place has just begun, and probes have no verdict yet.
    fn serves(&self, config: &Config, vserver: &Vserver) -> Option<bool> {
        if !vserver.is_operational() {
            return Some(false);
        }
        let is_served = config.faces(vserver).any(|face| policies::is_served(&self.node, config, &face));
        let is_tested = || config.faces(vserver).any(|face| policies::is_tested(&self.node, config, &face));
        if !is_served && self.is_new() && is_tested() { None } else { Some(is_served) }
    }

    /// So soon after a restart in place, what is not known is as it was.
    fn is_new(&self) -> bool {
        self.node.resumed && self.node.started.elapsed() < UNKNOWN_MAX
    }

    fn reconcile(&mut self, told: &Told) -> io::Result<()> {
        if self.device.is_none() && told.wanted.is_empty() {
            return Ok(());
        }
        let device = match &mut self.device {
            Some(device) => device,
            none => none.insert(Tun::open(INTERFACE)?),
        };
        let routes = match &mut self.routes {
            Some(routes) => routes,
            none => none.insert(Routes::open()?),
        };
        let standing = routes.list(device.ifindex)?;
        for network in told.surplus(&standing) {
            routes.remove(device.ifindex, *network)?;
            tracing::info!(%network, table = TABLE, "no longer advertised");
        }
        for network in told.missing(&standing) {
            routes.add(device.ifindex, *network)?;
            tracing::info!(%network, table = TABLE, "advertised");
        }
        self.node.advertised.set(routes.list(device.ifindex)?);
        Ok(())
    }
}
