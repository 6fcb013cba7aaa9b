use super::*;
use crate::dataplane::plan::tests::{figure_7_1, name, vlan};
use crate::model::ClientRange;

/// A virtual server called `label` for `to`, in service.
fn vserver(label: &str, to: Virtual) -> Vserver {
    Vserver { name: name(label), virtual_server: Some(to), ..figure_7_1().vservers.remove(0) }
}

fn web() -> Virtual {
    Virtual::single("192.158.38.30".parse().unwrap(), Protocol::TCP, 80)
}

fn range(network: &str, exclude: bool) -> ClientRange {
    ClientRange { network: network.parse().unwrap(), exclude }
}

fn planned(vservers: &[Vserver]) -> Contents {
    let numbered = (0..).zip(vservers);
    let numbered = numbered.map(|(number, vserver)| Numbered { number, vserver, policies: Vec::new() });
    planned_with(&numbered.collect::<Vec<_>>())
}

fn planned_with(numbered: &[Numbered<'_>]) -> Contents {
    let mut contents = Contents::default();
    plan(numbered, &mut contents).unwrap();
    contents
}

/// Who has `client` of `vlan` by the plan, looked up as the dataplane does; `None`: nobody.
fn who(contents: &Contents, to: &Virtual, on: u16, client: &str) -> Option<u32> {
    let found = contents.vserver_keys.get(&key(to))?;
    if found.rules == 0 {
        return Some(found.vserver);
    }
    let client: IpNet = client.parse().unwrap();
    let by_vlan = |vlan: u16| {
        let fitting = contents.clients.iter().filter(|(prefix, _)| {
            let length = u8::try_from(prefix.bits - 32).unwrap();
            let network = IpNet::new(client.addr(), length).unwrap().network();
            let of = prefix.of;
            u32::from(of.rules) == found.rules && of.vlan == vlan && of.client_be == wire::<u32>(network)
        });
        fitting.max_by_key(|(prefix, _)| prefix.bits).map(|(_, &number)| number).filter(|&n| n != NONE)
    };
    by_vlan(on).or_else(|| by_vlan(0))
}

#[test]
fn a_plain_virtual_server_needs_no_rules() {
    let contents = planned(&[vserver("A", web())]);
    assert_eq!(contents.vserver_keys[&key(&web())], Match { vserver: 0, rules: 0 });
    assert!(contents.clients.is_empty() && contents.networks.is_empty());
}

#[test]
fn the_longest_range_of_all_that_share_an_address_decides_and_an_exclusion_is_its_owners_alone() {
    let mut near = vserver("NEAR", web());
    near.clients = vec![range("10.0.0.0/8", false), range("10.1.1.0/24", true)];
    let mut far = vserver("FAR", web());
    far.clients = vec![range("10.1.0.0/16", false)];
    let rest = vserver("REST", web());
    let contents = planned(&[near.clone(), far, rest]);
    let whose = |client| who(&contents, &web(), 2, client);
    assert_eq!(whose("10.2.0.1/32"), Some(0));
    assert_eq!(whose("10.1.2.1/32"), Some(1));
    assert_eq!(whose("10.1.1.1/32"), Some(1), "excluded by NEAR, served by FAR");
    assert_eq!(whose("11.0.0.1/32"), Some(2));
    let contents = planned(&[near]);
    assert_eq!(who(&contents, &web(), 2, "10.1.1.1/32"), None);
    assert_eq!(who(&contents, &web(), 2, "11.0.0.1/32"), None);
}

#[test]
fn who_only_excludes_serves_all_others() {
    let mut picky = vserver("PICKY", web());
    picky.clients = vec![range("10.0.0.0/8", true)];
    let contents = planned(&[picky]);
    assert_eq!(who(&contents, &web(), 2, "10.0.0.1/32"), None);
    assert_eq!(who(&contents, &web(), 2, "11.0.0.1/32"), Some(0));
}

#[test]
fn a_vlan_goes_before_a_longer_range() {
    let mut of_vlan = vserver("VLAN", web());
    of_vlan.vlan = Some(vlan(2));
    let mut of_clients = vserver("CLIENTS", web());
    of_clients.clients = vec![range("10.0.0.0/8", false)];
    let contents = planned(&[of_vlan, of_clients]);
    assert_eq!(who(&contents, &web(), 2, "10.0.0.1/32"), Some(0));
    assert_eq!(who(&contents, &web(), 4, "10.0.0.1/32"), Some(1));
    assert_eq!(who(&contents, &web(), 4, "11.0.0.1/32"), None);
}

#[test]
fn one_out_of_service_leaves_its_clients_to_the_others() {
    let mut idle = vserver("IDLE", web());
    idle.inservice = false;
    let contents = planned(&[idle.clone(), vserver("BUSY", web())]);
    assert_eq!(contents.vserver_keys[&key(&web())], Match { vserver: 1, rules: 0 });
    assert_eq!(planned(&[idle]).vserver_keys[&key(&web())].vserver, 0, "so that its packets get a reason");
}

fn line(permit: bool, network: &str) -> AccessLine {
    AccessLine { permit, network: network.parse().unwrap() }
}

#[test]
fn the_first_policy_whose_group_holds_a_client_has_it_and_without_one_the_virtual_server() {
    let web_server = vserver("A", web());
    let (locals, others) = (
        [line(false, "10.1.1.0/24"), line(true, "10.1.0.0/16")],
        [line(true, "10.1.1.5/32"), line(true, "10.0.0.0/8")],
    );
    let policies = vec![(7, Some(&locals[..])), (8, Some(&others[..]))];
    let contents = planned_with(&[Numbered { number: 0, vserver: &web_server, policies }]);
    let whose = |client| who(&contents, &web(), 2, client);
    assert_eq!(whose("10.1.2.3/32"), Some(7), "of both groups: the first");
    assert_eq!(whose("10.1.1.5/32"), Some(8), "denied by the first");
    assert_eq!((whose("10.1.1.6/32"), whose("10.2.0.1/32")), (Some(8), Some(8)));
    assert_eq!(whose("11.0.0.1/32"), Some(0));
    let for_all = vec![(7, Some(&locals[..])), (8, None)];
    let contents = planned_with(&[Numbered { number: 0, vserver: &web_server, policies: for_all }]);
    assert_eq!(who(&contents, &web(), 2, "11.0.0.1/32"), Some(8));
    assert_eq!(who(&contents, &web(), 2, "10.1.2.3/32"), Some(7));
}

proptest::proptest! {
    /// The table of prefixes says of every client what its virtual server's range, and the lists one line after the other, say.
    #[test]
    fn prefixes_say_what_the_lists_say_line_by_line(
        groups in proptest::collection::vec(
            proptest::option::of(
                proptest::collection::vec((proptest::bool::ANY, 0..16_u8, 27..=32_u8), 0..6),
            ),
            0..4,
        ),
        ranges in proptest::collection::vec((proptest::bool::ANY, 0..16_u8, 28..=32_u8), 0..3),
    ) {
        let net = |host: u8, bits: u8| IpNet::new([10, 0, 0, host].into(), bits).unwrap().trunc();
        let mut server = vserver("A", web());
        for (exclude, host, bits) in ranges {
            if !server.clients.iter().any(|range| range.network == net(host, bits)) {
                server.clients.push(ClientRange { network: net(host, bits), exclude });
            }
        }
        let groups: Vec<Option<Vec<AccessLine>>> = groups
            .into_iter()
            .map(|lines| {
                let line = |(permit, host, bits)| AccessLine { permit, network: net(host, bits) };
                Some(lines?.into_iter().map(line).collect())
            })
            .collect();
        let policies = (1..).zip(&groups).map(|(number, lines)| (number, lines.as_deref())).collect();
        let contents = planned_with(&[Numbered { number: 0, vserver: &server, policies }]);
        for host in 0..20_u8 {
            let client = net(host, 32);
            let range = server
                .client_ranges()
                .into_iter()
                .filter(|range| range.network.contains(&client))
                .max_by_key(|range| range.network.prefix_len());
            let permits = |lines: &Option<Vec<AccessLine>>| {
                lines.as_ref().is_none_or(|lines| {
                    let first = lines.iter().find(|line| line.network.contains(&client));
                    first.is_some_and(|line| line.permit)
                })
            };
            let policy = (1..).zip(&groups).find(|(_, lines)| permits(lines)).map_or(0, |(number, _)| number);
            let wanted = range.filter(|range| !range.exclude).map(|_| policy);
            proptest::prop_assert_eq!(who(&contents, &web(), 2, &client.to_string()), wanted, "{}", client);
        }
    }
}

#[test]
fn networks_name_those_around_them_smallest_first() {
    let to = |network: &str, protocol| Virtual {
        network: network.parse().unwrap(),
        ..Virtual::single([0; 4].into(), protocol, 0)
    };
    let contents = planned(&[
        vserver("ALL", to("0.0.0.0/0", Protocol::Any)),
        vserver("NET", to("10.1.0.0/16", Protocol::TCP)),
        vserver("SUB", to("10.1.2.0/24", Protocol::Number(47))),
    ]);
    let around = |network: &str| contents.networks[&network.parse().unwrap()].host_bits;
    assert_eq!(around("0.0.0.0/0"), [32, 0, 0, 0]);
    assert_eq!(around("10.1.0.0/16"), [16, 32, 0, 0]);
    assert_eq!(around("10.1.2.0/24"), [8, 16, 32, 0]);
    let all = VserverKey { ip_be: 0, port_be: 0, proto: 0, kind: 32 };
    assert_eq!(contents.vserver_keys[&all].vserver, 0);
    let gre = VserverKey { ip_be: wire([10, 1, 2, 0].into()), port_be: 0, proto: 47, kind: 8 };
    assert_eq!(contents.vserver_keys[&gre].vserver, 2);
}
