use super::*;

const VIRTUAL: [u8; 6] = [0, 1, 0x64, 0xf9, 0x1a, 1];
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 2];

fn table() -> NeighbourTable {
    let port = |number, vlan, ifindex, net: &str| HopPort {
        number,
        vlan,
        ifindex,
        mtu: 1500,
        tagged: false,
        bridge: None,
        networks: [Some(net.parse().unwrap()), None],
    };
    NeighbourTable::new(VIRTUAL, &[port(0, 2, 12, "192.158.38.10/24"), port(1, 3, 13, "192.158.39.10/24")])
}

fn key(address: &str, vlan: u16) -> Host {
    Host::on(address.parse::<IpAddr>().unwrap(), vlan)
}

fn hop_of(effects: &[Effect]) -> (u32, Hop) {
    effects
        .iter()
        .find_map(|effect| match effect {
            Effect::SetNextHop(number, hop) => Some((*number, *hop)),
            _ => None,
        })
        .expect("a next hop is written")
}

#[test]
fn a_wanted_host_is_asked_for_and_then_found() {
    let mut table = table();
    let real = key("192.158.39.101", 3);
    let (numbers, effects) = table.want(&HashSet::from([real]));
    let (number, hop) = hop_of(&effects);
    assert_eq!((numbers[&real], hop.mac, hop.port, hop.source_mac), (number, None, 1, VIRTUAL));
    let address = "192.158.39.101".parse().unwrap();
    assert!(effects.contains(&Effect::Resolve { ifindex: 13, address, managed: true }));
    let effects = table.discovered(13, address, Discovery::Known(MAC));
    let (_, hop) = hop_of(&effects);
    assert_eq!(hop.mac, Some(MAC));
    assert_eq!(effects.last(), Some(&Effect::SetNeighbour(real, number)), "after the hop it leads to");
    assert_eq!(table.discovered(13, address, Discovery::Known(MAC)), [], "nothing new");
    assert_eq!(table.discovered(13, address, Discovery::Asking), [], "a stale MAC stays in use");
}

#[test]
fn another_source_on_a_vlan_is_written_for_its_hosts_alone_and_taken_back() {
    let mut table = table();
    table.want(&HashSet::from([key("192.158.39.101", 3), key("192.158.38.20", 2)]));
    let effects = table.set_source(3, Some(OTHER));
    let (_, hop) = hop_of(&effects);
    assert_eq!((effects.len(), hop.host, hop.source_mac), (1, key("192.158.39.101", 3), OTHER));
    assert_eq!(table.set_source(3, Some(OTHER)), [], "nothing new");
    let (_, effects) = table.want(&HashSet::from([key("192.158.39.102", 3)]));
    assert_eq!(hop_of(&effects).1.source_mac, OTHER, "of one that comes later, too");
    assert_eq!(table.set_source(2, None), []);
    assert!(
        table
            .set_source(3, None)
            .iter()
            .all(|effect| { matches!(effect, Effect::SetNextHop(_, hop) if hop.source_mac == VIRTUAL) })
    );
}

#[test]
fn a_wanted_host_that_fails_is_unresolved_and_comes_back_under_its_number() {
    let mut table = table();
    let address = "192.158.39.101".parse().unwrap();
    let (numbers, _) = table.want(&HashSet::from([key("192.158.39.101", 3)]));
    table.discovered(13, address, Discovery::Known(MAC));
    let effects = table.discovered(13, address, Discovery::Failed);
    assert_eq!(hop_of(&effects).1.mac, None);
    assert!(table.silent().eq([key("192.158.39.101", 3)]));
    let effects = table.discovered(13, address, Discovery::Known(OTHER));
    assert_eq!(table.silent().count(), 0);
    let (number, hop) = hop_of(&effects);
    assert_eq!((Some(&number), hop.mac), (numbers.values().next(), Some(OTHER)));
    let asked = Effect::Resolve { ifindex: 13, address, managed: true };
    assert_eq!(table.discovered(13, address, Discovery::Forgotten), [asked]);
}

#[test]
fn a_forged_packet_does_not_divert_a_wanted_host() {
    let mut table = table();
    let real = key("192.158.39.101", 3);
    table.want(&HashSet::from([real]));
    assert!(!table.heard(real, MAC).is_empty(), "the first MAC is taken, whoever tells it");
    assert_eq!(table.heard(real, OTHER), []);
    let client = key("192.158.38.77", 2);
    table.heard(client, MAC);
    assert_eq!(hop_of(&table.heard(client, OTHER)).1.mac, Some(OTHER), "a client may have moved");
}

#[test]
fn only_hosts_of_the_connected_network_are_learned() {
    let mut table = table();
    for (address, vlan) in [
        ("10.0.0.1", 2),
        ("192.158.38.10", 2),
        ("192.158.38.0", 2),
        ("192.158.38.255", 2),
        ("192.158.38.5", 9),
    ] {
        assert_eq!(table.learn(key(address, vlan)), (None, vec![]), "{address} on {vlan}");
    }
    assert!(table.heard(key("192.158.38.5", 2), [0xff; 6]).is_empty());
    assert!(table.learn(key("192.158.38.5", 2)).0.is_some());
}

#[test]
fn a_learned_host_that_fails_makes_room_when_no_connection_refers_to_it() {
    let mut table = table();
    let client = key("192.158.38.77", 2);
    let number = table.learn(client).0.unwrap();
    table.heard(client, MAC);
    let effects = table.discovered(12, "192.158.38.77".parse().unwrap(), Discovery::Failed);
    assert!(effects.contains(&Effect::RemoveNeighbour(client)));
    assert_eq!(hop_of(&effects).1.mac, None);
    let fresh =
        |table: &mut NeighbourTable, last: u8| table.learn(key(&format!("192.158.38.{last}"), 2)).0.unwrap();
    assert_ne!(fresh(&mut table, 100), number);
    table.walk_begins(1);
    table.walk_ended(1, |used| used == number);
    assert_ne!(fresh(&mut table, 101), number, "a connection still refers to it");
    table.walk_begins(2);
    table.walk_ended(2, |_| false);
    assert_eq!(fresh(&mut table, 102), number);
}

#[test]
fn the_network_cannot_fill_the_table_beyond_its_bound() {
    let port = HopPort {
        number: 0,
        vlan: 2,
        ifindex: 12,
        mtu: 1500,
        tagged: false,
        bridge: None,
        networks: [Some("10.0.0.1/8".parse().unwrap()), None],
    };
    let mut table = NeighbourTable::new(VIRTUAL, &[port]);
    for index in 0..u32::try_from(LEARNED_MAX).unwrap() + 100 {
        let address = std::net::Ipv4Addr::from_bits(0x0a00_0100 + index);
        table.heard(Host::on(address, 2), MAC);
    }
    assert_eq!(table.iter().count(), LEARNED_MAX);
    assert_eq!(table.refused, 100);
    let (numbers, _) = table.want(&HashSet::from([key("10.1.2.3", 2)]));
    assert_eq!(numbers.len(), 1, "the configuration's own hosts always find room");
    table.walk_begins(1);
    table.walk_ended(1, |number| number <= 10);
    assert_eq!(table.iter().count(), 11, "hosts without connections make room");
}

#[test]
fn of_ipv6_hosts_of_the_network_and_link_local_ones_are_learned() {
    let port = HopPort {
        number: 0,
        vlan: 2,
        ifindex: 12,
        mtu: 1500,
        tagged: false,
        bridge: None,
        networks: [None, Some("fd00:2::10/64".parse().unwrap())],
    };
    let mut table = NeighbourTable::new(VIRTUAL, &[port]);
    for turned_away in ["fd00:2::10", "fd00:2::", "fd00:3::1", "192.158.38.1"] {
        assert_eq!(table.learn(key(turned_away, 2)), (None, vec![]), "{turned_away}");
    }
    for neighbour in ["fd00:2::1", "fd00:2::ffff:ffff:ffff:ffff", "fe80::1"] {
        let address = neighbour.parse().unwrap();
        let (number, effects) = table.learn(key(neighbour, 2));
        assert!(
            number.is_some() && effects.contains(&Effect::Resolve { ifindex: 12, address, managed: false })
        );
        let effects = table.discovered(12, address, Discovery::Known(MAC));
        assert_eq!(hop_of(&effects).1.mac, Some(MAC));
    }
}

#[test]
fn adopted_ways_are_written_anew_and_what_leads_nowhere_keeps_its_number_only() {
    let mut table = table();
    let router = key("192.158.39.1", 3);
    let tunnel = Tunnel {
        encapsulation: crate::model::Encapsulation::Ipip,
        local: "192.158.39.20".parse().unwrap(),
        remote: "10.7.0.1".parse().unwrap(),
    };
    let way = Host { tunnel: Some(tunnel), ..router };
    let (gone, left) = (key("192.158.40.1", 4), key("192.158.38.77", 2));
    let known = |host, number, mac, tunnel| Known { host, number, mac, tunnel };
    let effects = table.adopt(&[
        known(left, 2, None, None),
        known(way, 3, Some(MAC), Some(1)),
        known(router, 4, None, None),
        known(gone, 5, Some(MAC), None),
        known(router, 6, Some(MAC), None),
    ]);
    let written = |number: u32| {
        effects.iter().rev().find_map(|effect| match effect {
            Effect::SetNextHop(written, hop) if *written == number => Some(*hop),
            _ => None,
        })
    };
    let found = written(3).unwrap();
    assert_eq!(
        (found.mac, found.port, found.mtu, found.tunnel),
        (Some(MAC), 1, 1500 - 20, Some((1, tunnel)))
    );
    assert_eq!(written(5).unwrap().mac, None);
    assert!(effects.contains(&Effect::RemoveNeighbour(gone)));
    assert_eq!(written(2).unwrap().mac, None);
    let asked = |effect: &&Effect| matches!(effect, Effect::Resolve { .. });
    assert_eq!(effects.iter().filter(asked).count(), 1, "the router alone");
    assert_eq!((table.number(&router), table.number(&left)), (Some(6), None));
    assert_eq!(table.learn(left).0, Some(2), "its number is still its own");
    let (numbers, effects) = table.want(&HashSet::from([way]));
    assert_eq!(numbers[&way], 3);
    assert_eq!(hop_of(&effects).1.mac, Some(MAC));
}

#[test]
fn a_neighbour_stays_while_a_way_that_begins_at_it_is_in_use() {
    let mut table = table();
    // A network with room for more learned hosts than the table keeps without need.
    let port = HopPort { networks: [Some("10.1.0.10/16".parse().unwrap()), None], ..*table.port(3).unwrap() };
    table.ports.insert(3, port);
    let router = key("10.1.0.1", 3);
    let tunnel = Tunnel {
        encapsulation: crate::model::Encapsulation::Ipip,
        local: "10.1.0.20".parse().unwrap(),
        remote: "10.7.0.1".parse().unwrap(),
    };
    let way = Host { tunnel: Some(tunnel), ..router };
    let number = table.want(&HashSet::from([way])).0[&way];
    table.want(&HashSet::new());
    for low in 0..=LEARNED_MAX / 2 {
        let [high, low] = u16::try_from(256 + low).unwrap().to_be_bytes();
        table.learn(Host::on(IpAddr::from([10, 1, high, low]), 3));
    }
    table.walk_begins(1);
    table.walk_ended(1, |used| used == number);
    assert_eq!(table.iter().count(), 2, "the way, and where it begins");
    assert!(table.number(&router).is_some() && table.number(&way) == Some(number));
}

#[test]
fn a_way_through_a_tunnel_has_its_own_number_and_the_mac_of_the_neighbour_it_begins_at() {
    let mut table = table();
    let router = key("192.158.39.1", 3);
    let tunnel = Tunnel {
        encapsulation: crate::model::Encapsulation::Gue { port: 6080 },
        local: "192.158.39.20".parse().unwrap(),
        remote: "10.7.0.1".parse().unwrap(),
    };
    let way = Host { tunnel: Some(tunnel), ..router };
    let (numbers, _) = table.want(&HashSet::from([way]));
    let number = numbers[&way];
    assert_ne!(table.number(&router), Some(number));
    let hop_to = |effects: &[Effect]| {
        effects.iter().rev().find_map(|effect| match effect {
            Effect::SetNextHop(written, hop) if *written == number => Some(*hop),
            _ => None,
        })
    };
    let told =
        |table: &mut NeighbourTable, state| hop_to(&table.discovered(13, router.address, state)).unwrap();
    let found = told(&mut table, Discovery::Known(MAC));
    assert_eq!(
        (found.mac, found.port, found.mtu, found.tunnel),
        (Some(MAC), 1, 1500 - 28, Some((1, tunnel)))
    );
    assert_eq!(told(&mut table, Discovery::Failed).mac, None);
    told(&mut table, Discovery::Known(OTHER));
    let resized = hop_to(&table.resized(13, 1400)).unwrap();
    assert_eq!((resized.mtu, resized.mac), (1372, Some(OTHER)));
    // A narrow link on the way counts for ten minutes; what nobody can have meant does not.
    let remote = tunnel.remote;
    let at = Duration::from_secs;
    assert_eq!(table.narrow(remote, 575, at(1)), []);
    assert_eq!(table.narrow("10.7.0.9".parse().unwrap(), 1000, at(1)), []);
    assert_eq!(hop_to(&table.narrow(remote, 1000, at(1))).unwrap().mtu, 972);
    assert_eq!(table.narrow(remote, 1000, at(300)), [], "known");
    assert_eq!(table.widen(at(900)), []);
    assert_eq!(hop_to(&table.widen(at(901))).unwrap().mtu, 1372);
    // Wanted no more it keeps its number as long as a connection refers to it, and follows its neighbour.
    table.want(&HashSet::from([router]));
    table.walk_begins(1);
    table.walk_ended(1, |used| used == number);
    assert_eq!(told(&mut table, Discovery::Known(MAC)).mac, Some(MAC));
    assert_eq!(table.want(&HashSet::from([way])).0[&way], number);
    table.want(&HashSet::from([router]));
    table.walk_begins(2);
    table.walk_ended(2, |_| false);
    assert_eq!((table.number(&way), table.iter().count()), (None, 1));
    let other = Host { tunnel: Some(Tunnel { remote: "10.7.0.2".parse().unwrap(), ..tunnel }), ..router };
    let (numbers, effects) = table.want(&HashSet::from([other]));
    assert_eq!(
        (numbers[&other], hop_to(&effects).unwrap().tunnel.unwrap().0),
        (number, 1),
        "both are free again"
    );
}
