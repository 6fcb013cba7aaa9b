use super::*;
use crate::model::{
    Interface, NatClient, PortMode, Protocol, RealAdmin, Sticky, StickyAddress, Virtual, Vlan, VlanRole,
    XdpMode,
};
use csm_common::service::{
    VSERVER_HANDSHAKES, VSERVER_INSERVICE, VSERVER_REPLICATE, VSERVER_REPLICATE_STICKY, of_weighted_slot,
};
use std::time::Duration;

mod media;

pub(in crate::dataplane) fn vlan(number: u16) -> VlanId {
    VlanId::new(number).unwrap()
}

pub(in crate::dataplane) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn real(last: u8, weight: u8) -> model::Real {
    model::Real {
        address: [192, 158, 39, last].into(),
        port: None,
        weight,
        limit: model::ConnectionLimit::default(),
        admin: RealAdmin::InService,
        probes: Vec::new(),
        name: None,
        backup: None,
    }
}

/// Figure 7-1 with a farm of three reals.
pub(in crate::dataplane) fn figure_7_1() -> Config {
    let net = |text: &str| text.parse::<ipnet::Ipv4Net>().unwrap();
    let side = |number, role, address: &str, gateways: &[&str], alias: Option<&str>| Vlan {
        address: Some(net(address)),
        gateways: gateways.iter().map(|gateway| gateway.parse().unwrap()).collect(),
        alias: alias.map(net),
        ..Vlan::new(vlan(number), role)
    };
    Config {
        slot: 5,
        interfaces: vec![
            Interface { name: "eth1".into(), mode: PortMode::Access(vlan(2)), xdp: XdpMode::Native },
            Interface { name: "eth2".into(), mode: PortMode::Access(vlan(3)), xdp: XdpMode::Native },
        ],
        router: Vec::new(),
        routes: Vec::new(),
        vlans: vec![
            side(2, VlanRole::Client, "192.158.38.10/24", &["192.158.38.20"], None),
            side(3, VlanRole::Server, "192.158.39.10/24", &[], Some("192.158.39.20/24")),
        ],
        probes: vec![],
        natpools: vec![],
        statics: vec![],
        named_reals: vec![],
        arps: vec![],
        variables: model::Variables::default(),
        serverfarms: vec![Serverfarm {
            reals: vec![real(101, 8), real(102, 8), real(103, 16)],
            ..Serverfarm::new(name("WEB"))
        }],
        access_lists: vec![],
        sticky_groups: vec![],
        owners: vec![],
        policies: vec![],
        vservers: vec![model::Vserver {
            policies: vec![],
            name: name("VIP1"),
            virtual_server: Some(Virtual::single([192, 158, 38, 30].into(), Protocol::TCP, 80)),
            serverfarm: Some(name("WEB")),
            backup: None,
            threshold: None,
            rate_limits: model::RateLimits::default(),
            max_conns: 0,
            owner: None,
            advertise: None,
            vlan: None,
            clients: vec![],
            unidirectional: None,
            idle: Duration::from_secs(3600),
            pending: Duration::from_secs(30),
            sticky: Some(Sticky {
                minutes: 30,
                group: 10,
                bits: 32,
                bits6: 128,
                address: StickyAddress::Source,
            }),
            replicate_connection: true,
            reverse_sticky: None,
            replicate_sticky: true,
            inservice: true,
        }],
        ft: None,
    }
}

pub(in crate::dataplane) fn hops(config: &Config) -> HashMap<Host, u32> {
    let mut keys: Vec<Host> = needed_hops(config).into_iter().collect();
    keys.sort_by_key(|key| (key.vlan, key.address));
    keys.into_iter().zip(1..).collect()
}

fn planned(config: &Config, health: &HealthView, numbers: &mut Assignments) -> Desired {
    plan(config, health, &hops(config), numbers).unwrap()
}

/// The reals of a ring's slots.
fn ring<A: Wire>(contents: &Contents<A>, vserver: u32) -> Vec<u32> {
    contents.rings[&vserver].iter().map(|slot| of_weighted_slot(*slot).0).collect()
}

#[test]
fn a_slot_has_one_form_whatever_the_predictor() {
    use crate::model::Predictor;
    let hash = Predictor::Hash { bits: 32, bits6: 128, source: true, destination: false };
    for predictor in [Predictor::RoundRobin, Predictor::LeastConns { slowstart_s: 0 }, hash] {
        let mut config = figure_7_1();
        config.serverfarms[0].predictor = predictor;
        let desired = planned(&config, &HealthView::default(), &mut Assignments::default());
        let slots: BTreeSet<_> =
            desired.contents.rings[&0].iter().map(|slot| of_weighted_slot(*slot)).collect();
        assert_eq!(slots, BTreeSet::from([(0, 8), (1, 8), (2, 16)]), "{predictor:?}");
    }
}

#[test]
fn figure_7_1_becomes_maps() {
    let desired = planned(&figure_7_1(), &HealthView::default(), &mut Assignments::default());
    let contents = &desired.contents;
    assert_eq!(ring(contents, 0), [2, 0, 1, 2], "weights 8, 8, 16");
    let vserver = contents.vservers[&0];
    assert_eq!(vserver.flags, VSERVER_INSERVICE | VSERVER_REPLICATE | VSERVER_REPLICATE_STICKY);
    assert_eq!((vserver.ring_len, vserver.sticky_s, vserver.sticky_group), (4, 1800, 10));
    assert_eq!(contents.vserver_keys.len(), 1);
    assert!(contents.reals.values().all(|real| real.flags == REAL_USABLE | REAL_STICKY && real.vlan == 3));
    let announced: Vec<String> =
        desired.announced().iter().map(|(vlan, address)| format!("{vlan} {address}")).collect();
    assert_eq!(announced, ["3 192.158.39.20", "2 192.158.38.30"]);
    assert_eq!(contents.routes[&Family::V4.all()].kind, ROUTE_VIA);
    assert_eq!(contents.routes.len(), 3);
    assert!(desired.unreachable.is_empty());
}

#[test]
fn a_failed_real_leaves_the_ring_and_takes_no_sticky_client() {
    let config = figure_7_1();
    let failed = RealKey { farm: name("WEB"), address: [192, 158, 39, 103].into(), port: None };
    let silent = HashSet::from([Host::on(IpAddr::from([192, 158, 39, 103]), 3)]);
    for health in [
        HealthView { unhealthy: BTreeSet::from([failed]), ..HealthView::default() },
        HealthView { silent, ..HealthView::default() },
    ] {
        let desired = planned(&config, &health, &mut Assignments::default());
        assert_eq!(ring(&desired.contents, 0), [0, 1]);
        assert_eq!(desired.contents.reals[&2].flags, 0);
    }
}

#[test]
fn a_real_of_weight_0_keeps_its_sticky_clients_and_one_out_of_service_runs_empty() {
    let mut config = figure_7_1();
    config.serverfarms[0].reals[0].admin = RealAdmin::OutOfService;
    config.serverfarms[0].reals[1].weight = 0;
    let desired = planned(&config, &HealthView::default(), &mut Assignments::default());
    assert_eq!(ring(&desired.contents, 0), [2]);
    assert_eq!(desired.contents.reals[&0].flags, 0);
    assert_eq!(desired.contents.reals[&1].flags, REAL_STICKY);
}

#[test]
fn a_vserver_without_a_farm_is_neither_served_nor_answered_for() {
    let mut config = figure_7_1();
    config.vservers[0].serverfarm = None;
    let desired = planned(&config, &HealthView::default(), &mut Assignments::default());
    assert_eq!(desired.contents.vservers[&0].flags & VSERVER_INSERVICE, 0);
    assert_eq!(desired.contents.vservers[&0].ring_len, 0);
    assert_eq!(desired.announced().len(), 1, "only the alias");
    config.variables.reply_out_of_service = true;
    let answering = planned(&config, &HealthView::default(), &mut Assignments::default());
    assert_eq!(answering.announced().len(), 2, "and its address, where that is asked for");
    assert_eq!(answering.contents.vservers, desired.contents.vservers);
    assert!(!desired.contents.vserver_keys.is_empty(), "so that its packets get a reason");
}

#[test]
fn an_address_that_is_forwarded_to_is_its_hosts_own() {
    let mut config = figure_7_1();
    let server = IpAddr::from([192, 158, 39, 102]);
    config.vservers[0].virtual_server = Some(Virtual::single(server, Protocol::TCP, 80));
    let announced = |config: &Config| {
        let desired = planned(config, &HealthView::default(), &mut Assignments::default());
        desired.announced().into_iter().any(|(_, address)| address == server)
    };
    assert!(announced(&config), "balanced: the group's");
    config.serverfarms[0].predictor = Predictor::Forward;
    assert!(!announced(&config), "two hosts would answer for it");
}

#[test]
fn a_real_that_no_route_reaches_is_named_and_not_used() {
    let mut config = figure_7_1();
    config.vlans[0].gateways.clear();
    let astray = IpAddr::from([10, 0, 0, 1]);
    config.serverfarms[0].reals[0].address = astray;
    let desired = planned(&config, &HealthView::default(), &mut Assignments::default());
    assert_eq!(desired.unreachable, BTreeSet::from([astray]));
    assert!(!ring(&desired.contents, 0).contains(&0));
}

#[test]
fn a_kept_real_keeps_its_number_when_another_goes() {
    let mut numbers = Assignments::default();
    let mut config = figure_7_1();
    let before = planned(&config, &HealthView::default(), &mut numbers);
    config.serverfarms[0].reals.remove(0);
    config.serverfarms[0].reals.push(real(104, 8));
    let after = planned(&config, &HealthView::default(), &mut numbers);
    assert_eq!(before.reals[&2], after.reals[&2]);
    assert!(!after.reals.contains_key(&0), "retired, and not reused by the new one");
    assert_eq!(after.reals[&3].key.address, IpAddr::from([192, 158, 39, 104]));
    numbers.walk_begins(1);
    assert_eq!(numbers.walk_ended(1, &BTreeSet::new(), &BTreeSet::from([0])), Released::default());
    numbers.walk_begins(2);
    assert_eq!(numbers.walk_ended(2, &BTreeSet::new(), &BTreeSet::new()).reals, [0]);
}

#[test]
fn a_private_sticky_group_is_numbered_by_its_vserver() {
    let mut config = figure_7_1();
    config.vservers[0].sticky.as_mut().unwrap().group = 0;
    let desired = planned(&config, &HealthView::default(), &mut Assignments::default());
    assert_eq!(desired.contents.vservers[&0].sticky_group, PRIVATE_STICKY);
}

/// Where the real 192.158.39.`last` leads back to from `port`: name of the virtual server and virtual port.
fn origin(desired: &Desired, last: u8, port: u16) -> Option<(String, u16)> {
    let ip_be = wire::<u32>([192, 158, 39, last].into());
    let origin =
        desired.contents.origins.get(&VserverKey { ip_be, port_be: port.to_be(), proto: 6, kind: 0 })?;
    assert_eq!(desired.contents.reals[&origin.real].ip_be, ip_be);
    Some((desired.vservers[&origin.vserver].name.to_string(), u16::from_be(origin.port_be)))
}

#[test]
fn a_reals_port_leads_back_to_the_one_virtual_server_it_serves() {
    let mut config = figure_7_1();
    config.serverfarms[0].reals[1].port = Some(8080);
    let desired = planned(&config, &HealthView::default(), &mut Assignments::default());
    assert_eq!(origin(&desired, 101, 80), Some(("VIP1".into(), 80)));
    assert_eq!(origin(&desired, 102, 8080), Some(("VIP1".into(), 80)));
    assert_eq!(desired.contents.origins.len(), 3);

    // A second one beside it takes 8080 at all reals, 102's included.
    let mut second = config.vservers[0].clone();
    second.name = name("VIP2");
    second.virtual_server.as_mut().unwrap().port = 8080;
    config.vservers.push(second);
    let desired = planned(&config, &HealthView::default(), &mut Assignments::default());
    assert_eq!(origin(&desired, 101, 80), Some(("VIP1".into(), 80)));
    assert_eq!(origin(&desired, 101, 8080), Some(("VIP2".into(), 8080)));
    assert_eq!(origin(&desired, 102, 8080), None, "it may be either's");

    config.vservers[1].inservice = false;
    let desired = planned(&config, &HealthView::default(), &mut Assignments::default());
    assert_eq!(origin(&desired, 102, 8080), Some(("VIP1".into(), 80)));

    // One for any port may have sent to any port of a real without a port of its own.
    config.vservers[1].inservice = true;
    config.vservers[1].virtual_server.as_mut().unwrap().port = 0;
    let desired = planned(&config, &HealthView::default(), &mut Assignments::default());
    assert_eq!(desired.contents.origins.len(), 0);
    config.vservers[0].virtual_server.as_mut().unwrap().protocol = Protocol::UDP;
    config.vservers.truncate(1);
    let desired = planned(&config, &HealthView::default(), &mut Assignments::default());
    assert_eq!(desired.contents.origins.len(), 0, "datagrams tell nothing of a connection");
}

/// Whether the peer is told of handshakes under way, by virtual server.
fn told(config: &Config) -> Vec<bool> {
    let desired = planned(config, &HealthView::default(), &mut Assignments::default());
    desired.contents.vservers.values().map(|vserver| vserver.flags & VSERVER_HANDSHAKES != 0).collect()
}

#[test]
fn the_peer_is_told_of_handshakes_that_no_servers_packet_leads_back_to() {
    let figure = figure_7_1();
    assert_eq!(told(&figure), [false]);
    let changed = |change: &dyn Fn(&mut Config)| {
        let mut config = figure.clone();
        change(&mut config);
        told(&config)
    };
    let of = |change: fn(&mut model::Vserver)| changed(&|config| change(&mut config.vservers[0]));
    let to = |change: fn(&mut Virtual)| {
        changed(&|config| change(config.vservers[0].virtual_server.as_mut().unwrap()))
    };
    let farm = |change: fn(&mut Serverfarm)| changed(&|config| change(&mut config.serverfarms[0]));
    assert_eq!(farm(|farm| farm.nat_client = Some(NatClient::Static)), [true]);
    assert_eq!(farm(|farm| farm.nat_server = false), [true]);
    assert_eq!(farm(|farm| farm.predictor = Predictor::Forward), [false]);
    assert_eq!(of(|vserver| vserver.unidirectional = Some(true)), [true], "its servers are not heard");
    assert_eq!(to(|to| to.port = 0), [true]);
    assert_eq!(to(|to| (to.port, to.protocol) = (0, Protocol::Any)), [true]);
    assert_eq!(to(|to| to.service = model::Service::Ftp), [true], "data connections");
    assert_eq!(to(|to| to.protocol = Protocol::UDP), [false]);
    // Of a single real in dispatch mode it is known whose the virtual address is, if it is heard.
    let alone = |config: &mut Config| {
        config.serverfarms[0].nat_server = false;
        config.serverfarms[0].reals.truncate(1);
        config.vservers[0].unidirectional = Some(false);
    };
    assert_eq!(changed(&alone), [false]);
    let hidden = |config: &mut Config| {
        alone(config);
        config.vservers[0].unidirectional = None;
    };
    assert_eq!(changed(&hidden), [true]);
    // Nobody is told of what is not replicated.
    let unreplicated = |config: &mut Config| {
        hidden(config);
        config.vservers[0].replicate_connection = false;
    };
    assert_eq!(changed(&unreplicated), [false]);
    // One real's port serves two: either may be meant.
    let shared = |config: &mut Config| {
        config.serverfarms[0].reals[1].port = Some(8080);
        let mut second = config.vservers[0].clone();
        second.name = name("VIP2");
        second.virtual_server.as_mut().unwrap().port = 8080;
        config.vservers.push(second);
    };
    assert_eq!(changed(&shared), [true, true]);
}

#[test]
fn a_farm_keeps_its_number_and_its_reals_bear_it() {
    let mut numbers = Assignments::default();
    let mut config = figure_7_1();
    let before = planned(&config, &HealthView::default(), &mut numbers).contents;
    assert!(before.reals.values().all(|real| real.farm == before.vservers[&0].farm));
    let other = Serverfarm { name: name("SSL"), ..config.serverfarms[0].clone() };
    config.serverfarms.insert(0, other);
    let after = planned(&config, &HealthView::default(), &mut numbers).contents;
    assert_eq!(after.vservers, before.vservers);
    assert!((3..6).all(|number| after.reals[&number].farm != before.vservers[&0].farm));
}

/// [`figure_7_1`] with the same in IPv6 beside it.
pub(in crate::dataplane) fn dual_stack() -> Config {
    let mut config = figure_7_1();
    let [client, server] = &mut config.vlans[..] else { panic!("two VLANs") };
    client.address6 = Some("fd00:38::10/64".parse().unwrap());
    client.gateways.push("fe80::20".parse().unwrap());
    server.address6 = Some("fd00:39::10/64".parse().unwrap());
    server.alias6 = Some("fd00:39::20/64".parse().unwrap());
    let real = |last: u8| model::Real { address: format!("fd00:39::{last}").parse().unwrap(), ..real(1, 8) };
    config
        .serverfarms
        .push(Serverfarm { reals: vec![real(101), real(102)], ..Serverfarm::new(name("WEB6")) });
    let vserver = model::Vserver {
        name: name("VIP6"),
        virtual_server: Some(Virtual::single("fd00:38::30".parse().unwrap(), Protocol::TCP, 80)),
        serverfarm: Some(name("WEB6")),
        backup: None,
        threshold: None,
        rate_limits: model::RateLimits::default(),
        max_conns: 0,
        owner: None,
        advertise: None,
        sticky: Some(Sticky { minutes: 30, group: 11, bits: 32, bits6: 64, address: StickyAddress::Source }),
        ..config.vservers[0].clone()
    };
    config.vservers.push(vserver);
    config
}

#[test]
fn each_family_has_its_maps_and_numbers_are_one_space() {
    let config = dual_stack();
    let desired = planned(&config, &HealthView::default(), &mut Assignments::default());
    let four = planned(&figure_7_1(), &HealthView::default(), &mut Assignments::default()).contents;
    let hops = hops(&config);
    let contents = &desired.contents6;
    // Next hops apart, which are numbered anew, IPv4 is as it would be alone.
    assert_eq!((&desired.contents.rings, &desired.contents.vservers), (&four.rings, &four.vservers));
    assert!(contents.vservers.keys().eq(&[1]) && contents.reals.keys().eq(&[3, 4]));
    assert_eq!(ring(contents, 1), [3, 4]);
    let key = VserverKey {
        ip_be: wire::<V6>("fd00:38::30".parse().unwrap()),
        port_be: 80_u16.to_be(),
        proto: 6,
        kind: 0,
    };
    assert_eq!(contents.vserver_keys[&key].vserver, 1);
    let vserver = contents.vservers[&1];
    assert_eq!(vserver.sticky_mask_be, wire("ffff:ffff:ffff:ffff::".parse().unwrap()));
    let real = contents.reals[&3];
    let host = Host::on("fd00:39::101".parse::<IpAddr>().unwrap(), 3);
    assert_eq!((real.ip_be.ip(), real.vlan, real.nexthop), (host.address, 3, hops[&host]));
    let default = contents.routes[&Family::V6.all()];
    let gateway = Host::on("fe80::20".parse::<IpAddr>().unwrap(), 2);
    assert_eq!((default.kind, default.vlan, default.nexthop), (ROUTE_VIA, 2, hops[&gateway]));
    assert_eq!((contents.routes.len(), desired.contents.routes.len()), (3, 3));
    let announced: Vec<_> =
        desired.announced().iter().map(|(vlan, address)| format!("{vlan} {address}")).collect();
    assert_eq!(announced, ["3 192.158.39.20", "3 fd00:39::20", "2 192.158.38.30", "2 fd00:38::30"]);
    assert_eq!(contents.origins.len(), 2, "lost connections can be made again");
    assert!(desired.in_rotation(3) && desired.nexthop(3) == Some(hops[&host]));
}

#[test]
fn limits_and_rates_stand_in_the_elements_and_a_backup_farm_has_one_of_its_own() {
    use csm_common::service::{VSERVER_BACKUP, VSERVER_BACKUP_STICKY, VSERVER_COUNTED};
    let mut numbers = Assignments::default();
    let mut config = figure_7_1();
    config.serverfarms[0].reals[1].limit = model::ConnectionLimit { max: Some(100), min: Some(90) };
    config.serverfarms.push(Serverfarm { reals: vec![real(104, 8)], ..Serverfarm::new(name("SORRY")) });
    let rate = model::RateLimit { per_second: 100, burst: 7 };
    config.vservers[0].rate_limits = model::RateLimits {
        connections: Some(rate),
        client: Some(model::ClientRateLimit { rate, bits: 24, bits6: 128 }),
    };
    config.vservers[0].backup = Some(model::Backup { farm: name("SORRY"), sticky: true });
    let desired = planned(&config, &HealthView::default(), &mut numbers);
    let contents = &desired.contents;
    assert_eq!(ring(contents, 0), [2, 0, 1, 2, 0, 1, 2], "the ring, and behind it each real once");
    let vserver = contents.vservers[&0];
    assert_eq!((vserver.ring_len, vserver.spare_len), (4, 3));
    let flags = VSERVER_COUNTED | VSERVER_BACKUP | VSERVER_BACKUP_STICKY;
    assert_eq!(vserver.flags & flags, flags);
    assert_eq!((vserver.rate.interval_ns, vserver.rate.burst), (10_000_000, 7));
    assert_eq!(vserver.client_rate, vserver.rate);
    assert_eq!(vserver.client_rate_mask_be.to_ne_bytes(), [255, 255, 255, 0]);
    let limits = |real: u32| (contents.reals[&real].max_conns, contents.reals[&real].min_conns);
    assert_eq!([0, 1].map(limits), [(0, 0), (100, 90)]);
    let backup = contents.vservers[&vserver.backup];
    assert!(vserver.backup != 0 && !desired.vservers.contains_key(&vserver.backup), "nobody's connections");
    assert_eq!(ring(contents, vserver.backup), [3]);
    assert_eq!((backup.flags & VSERVER_COUNTED, backup.farm), (VSERVER_COUNTED, vserver.backup_farm));
    // The same number in the next plan, and none any more once it is gone.
    let again = planned(&config, &HealthView::default(), &mut numbers);
    assert_eq!(again.contents.vservers[&0].backup, vserver.backup);
    config.vservers[0].backup = None;
    let without = planned(&config, &HealthView::default(), &mut numbers);
    assert_eq!(without.contents.vservers.len(), 1);
    assert_eq!(without.contents.vservers[&0].flags & VSERVER_BACKUP, 0);
}

#[test]
fn a_limited_farm_leaves_half_of_its_ring_to_look_through() {
    use crate::model::Predictor;
    let hash = Predictor::Hash { bits: 32, bits6: 128, source: true, destination: false };
    let mut config = figure_7_1();
    config.serverfarms[0].predictor = hash;
    config.serverfarms[0].reals[0].limit.max = Some(1);
    let desired = planned(&config, &HealthView::default(), &mut Assignments::default());
    let vserver = desired.contents.vservers[&0];
    assert_eq!((vserver.ring_len, vserver.spare_len), (509, 3));
    assert!(ring(&desired.contents, 0).len() <= limits::RING_SLOTS as usize);
}

#[test]
fn a_farm_with_fewer_reals_than_its_threshold_is_down_until_enough_are_back() {
    use csm_common::service::VSERVER_BACKUP;
    let mut numbers = Assignments::default();
    let mut config = figure_7_1();
    config.serverfarms.push(Serverfarm { reals: vec![real(104, 8)], ..Serverfarm::new(name("SORRY")) });
    config.vservers[0].backup = Some(model::Backup { farm: name("SORRY"), sticky: false });
    config.vservers[0].threshold = Some(model::Threshold { outservice: 2, inservice: 3 });
    let key = |last| RealKey { farm: name("WEB"), address: [192, 158, 39, last].into(), port: None };
    let mut up = |failed: &[u8], config: &Config| {
        let unhealthy = failed.iter().map(|last| key(*last)).collect();
        let health = HealthView { unhealthy, ..HealthView::default() };
        let desired = planned(config, &health, &mut numbers);
        let vserver = desired.contents.vservers[&0];
        assert_ne!(vserver.flags & VSERVER_BACKUP, 0);
        assert_eq!(ring(&desired.contents, vserver.backup), [3], "the backup farm serves as it would");
        let is_up = vserver.ring_len > 0;
        // Sticky clients are its reals' no more.
        assert_eq!(is_up, vserver.farm == desired.contents.reals[&0].farm);
        assert_eq!(is_up, !desired.down.contains(&0));
        is_up
    };
    assert!(up(&[], &config) && up(&[101], &config), "two are enough to stay");
    assert!(!up(&[101, 102], &config));
    assert!(!up(&[101], &config), "and too few to come back");
    assert!(up(&[], &config) && up(&[101], &config));
    assert!(!up(&[101, 102], &config));
    // A node that has just started, and whose checks are not done yet, asks for no more than its peer.
    let mut fresh = Assignments::default();
    let mut first = |failed: &[u8]| {
        let unhealthy = failed.iter().map(|last| key(*last)).collect();
        let health = HealthView { unhealthy, ..HealthView::default() };
        planned(&config, &health, &mut fresh).contents.vservers[&0].ring_len > 0
    };
    assert_eq!([&[101, 102, 103][..], &[101, 102], &[101]].map(&mut first), [false, false, true]);
    assert_eq!([&[101, 102][..], &[101], &[]].map(&mut first), [false, false, true]);
    // Its data connections find their real by its sticky entry.
    config.vservers[0].virtual_server.as_mut().unwrap().service = model::Service::Ftp;
    let health = HealthView { unhealthy: [key(101)].into(), ..HealthView::default() };
    let vserver = planned(&config, &health, &mut numbers).contents.vservers[&0];
    assert!(vserver.ring_len == 0 && vserver.farm != 0);
    config.vservers[0].threshold = None;
    assert_ne!(planned(&config, &health, &mut numbers).contents.vservers[&0].ring_len, 0);
}

/// By the same numbers, with what the maps tell of their farms.
fn adopted(numbers: &Assignments, left: &Desired) -> Assignments {
    let (vservers, reals) = (numbers.vservers.iter(), numbers.reals.iter());
    let copied = |(number, id): (u32, &StableId)| (number, *id);
    let mut adopted = Assignments::restored(vservers.map(copied), reals.map(copied));
    adopted.recall(&left.contents);
    adopted.recall(&left.contents6);
    adopted
}

#[test]
fn a_farm_between_its_thresholds_stays_as_it_was_over_a_restart_in_place() {
    for service in [model::Service::Plain, model::Service::Ftp, model::Service::Rtsp] {
        let mut config = figure_7_1();
        config.vservers[0].threshold = Some(model::Threshold { outservice: 2, inservice: 3 });
        config.vservers[0].virtual_server.as_mut().unwrap().service = service;
        let failed = |failed: &[u8]| {
            let key =
                |last: &u8| RealKey { farm: name("WEB"), address: [192, 158, 39, *last].into(), port: None };
            HealthView { unhealthy: failed.iter().map(key).collect(), ..HealthView::default() }
        };
        let is_up = |desired: &Desired| desired.contents.vservers[&0].ring_len > 0;
        let mut numbers = Assignments::default();
        for (before, after) in [(&[][..], true), (&[101, 102], false)] {
            planned(&config, &failed(before), &mut numbers);
            let between = planned(&config, &failed(&[101]), &mut numbers);
            assert_eq!(is_up(&between), after, "{service:?}");
            let mut next = adopted(&numbers, &between);
            assert_eq!(is_up(&planned(&config, &failed(&[101]), &mut next)), after, "{service:?}");
            assert!(is_up(&planned(&config, &failed(&[]), &mut next)));
        }
    }
}

#[test]
fn a_standby_real_keeps_its_sticky_clients_and_is_in_the_ring_in_the_place_of_its_primary() {
    let mut config = figure_7_1();
    let backup = model::BackupReal { address: [192, 158, 39, 103].into(), port: None, name: None };
    config.serverfarms[0].reals[0].backup = Some(backup);
    config.serverfarms[0].reals[2].admin = RealAdmin::Standby;
    let desired = planned(&config, &HealthView::default(), &mut Assignments::default());
    assert_eq!(ring(&desired.contents, 0), [0, 1]);
    assert_eq!(desired.contents.reals[&2].flags, REAL_STICKY);
    let silent = HashSet::from([Host::on(IpAddr::from([192, 158, 39, 101]), 3)]);
    let health = HealthView { silent, ..HealthView::default() };
    let desired = planned(&config, &health, &mut Assignments::default());
    assert_eq!(ring(&desired.contents, 0), [2, 1, 2], "by its own weight");
    assert!(desired.in_rotation(2) && !desired.in_rotation(0));
}
