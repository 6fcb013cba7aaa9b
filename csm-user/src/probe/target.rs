//! What is to be checked, derived from the configuration. Pure.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use super::health::RealKey;
use crate::model::{Config, Family, Name, Probe, Real, RealAdmin, Serverfarm};

/// One check of one real.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The real whose health it decides.
    pub real: RealKey,
    /// Port that is checked; `None` for icmp.
    pub port: Option<u16>,
    /// What is checked: the real, or what its probe names in its place.
    pub destination: IpAddr,
    /// How it is checked.
    pub probe: Probe,
    /// Own address on the destination's VLAN; `None`: whatever the kernel's route says.
    pub source: Option<IpAddr>,
    /// Interface of that VLAN.
    pub interface: Option<String>,
}

/// What distinguishes one target from another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TargetKey {
    /// The real.
    pub real: RealKey,
    /// The probe's name.
    pub probe: Name,
    /// The port; `None` for icmp.
    pub port: Option<u16>,
}

impl Target {
    /// Its key.
    #[must_use]
    pub fn key(&self) -> TargetKey {
        TargetKey { real: self.real.clone(), probe: self.probe.name.clone(), port: self.port }
    }
}

/// All checks of `config`: each in-service real of each farm, with each probe of the farm and of its own. A real without a port of its
/// own whose farm serves several virtual ports is checked on each of them.
#[must_use]
pub fn targets(config: &Config) -> Vec<Target> {
    let mut targets = Vec::new();
    let virtual_ports = virtual_ports(config);
    for farm in &config.serverfarms {
        for real in farm.reals.iter().filter(|real| real.admin != RealAdmin::OutOfService) {
            for probe in config.probes.iter().filter(|probe| farm.checks(real, &probe.name)) {
                let ports = ports(virtual_ports.get(&farm.name), real, probe);
                targets.extend(ports.into_iter().map(|port| target(config, farm, real, probe, port)));
            }
        }
    }
    targets
}

fn target(config: &Config, farm: &Serverfarm, real: &Real, probe: &Probe, port: Option<u16>) -> Target {
    let destination = probe.address.unwrap_or(real.address);
    let vlan = config.vlan_of(destination);
    Target {
        real: RealKey { farm: farm.name.clone(), address: real.address, port: real.port },
        port,
        destination,
        probe: probe.clone(),
        source: vlan.and_then(|vlan| vlan.own(Family::of(destination))).map(|net| net.addr()),
        interface: vlan.and_then(|vlan| config.kernel_interface(vlan.id)),
    }
}

/// The virtual ports of each farm that has any.
fn virtual_ports(config: &Config) -> HashMap<&Name, BTreeSet<Option<u16>>> {
    let mut of_farms: HashMap<_, BTreeSet<_>> = HashMap::new();
    for vserver in &config.vservers {
        let Some(port) = vserver.virtual_server.map(|to| to.port).filter(|port| *port != 0) else { continue };
        for farm in config.farm_names_of(vserver) {
            of_farms.entry(farm).or_default().insert(Some(port));
        }
    }
    of_farms
}

fn ports(of_farm: Option<&BTreeSet<Option<u16>>>, real: &Real, probe: &Probe) -> BTreeSet<Option<u16>> {
    let Some(own) = probe.kind.port() else { return BTreeSet::from([None]) };
    if let Some(port) = probe.port.or(real.port) {
        return BTreeSet::from([Some(port)]);
    }
    of_farm.cloned().unwrap_or_else(|| BTreeSet::from([Some(own)]))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;
    use crate::model::{
        ConnectionLimit, Interface, PortMode, ProbeKind, Protocol, Question, RateLimits, Virtual, Vlan,
        VlanId, VlanRole, Vserver, XdpMode,
    };

    fn name(text: &str) -> Name {
        Name::new(text).expect("a good name")
    }

    fn probe(kind: ProbeKind, port: Option<u16>) -> Probe {
        let (interval, failed) = (Duration::from_secs(120), Duration::from_secs(300));
        let (receive, open) = (Duration::from_secs(10), Duration::from_secs(10));
        Probe {
            name: name("p"),
            kind,
            interval,
            retries: 3,
            failed,
            receive,
            open,
            recover: 1,
            port,
            address: None,
            question: Question::default(),
        }
    }

    fn vserver(label: &str, port: u16) -> Vserver {
        Vserver {
            policies: Vec::new(),
            name: name(label),
            virtual_server: Some(Virtual::single(
                Ipv4Addr::new(192, 158, 38, 30).into(),
                Protocol::TCP,
                port,
            )),
            serverfarm: Some(name("web")),
            backup: None,
            threshold: None,
            rate_limits: RateLimits::default(),
            max_conns: 0,
            owner: None,
            advertise: None,
            vlan: None,
            clients: vec![],
            unidirectional: None,
            idle: Duration::from_secs(3600),
            pending: Duration::from_secs(30),
            sticky: None,
            reverse_sticky: None,
            replicate_connection: false,
            replicate_sticky: false,
            inservice: true,
        }
    }

    fn config(probe: Probe, real_port: Option<u16>, virtual_ports: &[u16]) -> Config {
        let vlan = VlanId::new(3).expect("in range");
        let real = |last: u8, admin| Real {
            address: Ipv4Addr::new(192, 158, 39, last).into(),
            port: real_port,
            weight: 8,
            limit: ConnectionLimit::default(),
            admin,
            probes: Vec::new(),
            name: None,
            backup: None,
        };
        Config {
            slot: 5,
            interfaces: vec![Interface {
                name: "eth2".to_owned(),
                mode: PortMode::Access(vlan),
                xdp: XdpMode::Native,
            }],
            router: Vec::new(),
            routes: Vec::new(),
            vlans: vec![Vlan {
                address: Some("192.158.39.10/24".parse().expect("a network")),
                ..Vlan::new(vlan, VlanRole::Server)
            }],
            natpools: vec![],
            statics: vec![],
            named_reals: vec![],
            arps: vec![],
            variables: crate::model::Variables::default(),
            access_lists: vec![],
            sticky_groups: vec![],
            owners: vec![],
            policies: vec![],
            serverfarms: vec![Serverfarm {
                probes: vec![probe.name.clone()],
                reals: vec![real(101, RealAdmin::InService), real(102, RealAdmin::OutOfService)],
                ..Serverfarm::new(name("web"))
            }],
            probes: vec![probe],
            vservers: virtual_ports.iter().map(|&port| vserver(&format!("v{port}"), port)).collect(),
            ft: None,
        }
    }

    fn ports_of(config: &Config) -> Vec<Option<u16>> {
        targets(config).into_iter().map(|target| target.port).collect()
    }

    #[test]
    fn the_port_comes_from_probe_then_real_then_virtual_server_then_type() {
        let tcp = |port| probe(ProbeKind::Tcp, port);
        assert_eq!(ports_of(&config(tcp(Some(8080)), Some(81), &[82])), [Some(8080)]);
        assert_eq!(ports_of(&config(tcp(None), Some(81), &[82])), [Some(81)]);
        assert_eq!(ports_of(&config(tcp(None), None, &[443, 80, 0])), [Some(80), Some(443)]);
        assert_eq!(ports_of(&config(tcp(None), None, &[])), [Some(80)]);
        assert_eq!(ports_of(&config(probe(ProbeKind::Smtp, None), None, &[])), [Some(25)]);
        assert_eq!(ports_of(&config(probe(ProbeKind::Icmp, Some(8080)), Some(81), &[82])), [None]);
    }

    #[test]
    fn a_real_is_checked_from_the_nodes_own_address_on_its_vlan() {
        let all = targets(&config(probe(ProbeKind::Tcp, None), None, &[80]));
        assert_eq!(all.len(), 1, "a real out of service is not checked");
        assert_eq!(all[0].source, Some(Ipv4Addr::new(192, 158, 39, 10).into()));
        assert_eq!(all[0].interface.as_deref(), Some("eth2"));
    }
    #[test]
    fn a_real_is_checked_with_its_own_probes_too_and_where_they_say() {
        let mut of_real = probe(ProbeKind::Tcp, Some(443));
        of_real.name = name("q");
        of_real.address = Some(Ipv4Addr::new(192, 158, 39, 200).into());
        let mut config = config(probe(ProbeKind::Icmp, None), None, &[80]);
        config.probes.push(of_real);
        let first = config.serverfarms[0].reals[0].clone();
        let third = Real { address: Ipv4Addr::new(192, 158, 39, 103).into(), ..first };
        config.serverfarms[0].reals.push(third);
        config.serverfarms[0].reals[0].probes.push(name("q"));
        let found: Vec<_> = targets(&config)
            .into_iter()
            .map(|target| (target.real.address.to_string(), target.destination.to_string(), target.port))
            .collect();
        let of = |real: &str, destination: &str, port| (real.to_owned(), destination.to_owned(), port);
        assert_eq!(
            found,
            [
                of("192.158.39.101", "192.158.39.101", None),
                of("192.158.39.101", "192.158.39.200", Some(443)),
                of("192.158.39.103", "192.158.39.103", None)
            ]
        );
    }
}
