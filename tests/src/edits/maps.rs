//! What a running csmd's maps hold, read from where it pins them, in words that hold whatever numbers it gave.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use aya::maps::MapData;
use csm_common::service::{MATCH_FTP, Real, VSERVER_BACKUP, Vserver, of_weighted_slot};
use csm_user::dataplane::adopt::LAYOUT;
use csm_user::dataplane::maps::{HopMaps, MapSource, Maps};
use csm_user::dataplane::plan::Contents;
use csm_user::dataplane::task::pins;

/// Private sticky groups begin here: see [`Vserver::sticky_group`].
const PRIVATE: u32 = 256;

/// The pinned maps of a csmd, which goes on using them.
struct Pinned(PathBuf);

impl MapSource for Pinned {
    fn descriptor(&self, name: &str) -> io::Result<OwnedFd> {
        let data = MapData::from_pin(self.0.join(name)).map_err(io::Error::other)?;
        data.fd().as_fd().try_clone_to_owned()
    }
}

/// A line for each entry that the plan puts into the maps of IPv4, sorted. Numbers that only old connections use have none.
///
/// # Errors
/// If no csmd with this socket pins anything, or a map cannot be read.
pub fn read(socket: &Path) -> Result<Vec<String>> {
    let pinned = Pinned(pins::directory(socket).join(format!("v{LAYOUT}")));
    let contents = Maps::<u32>::open(&pinned).context("pinned maps")?.read_back()?;
    let mut hops = BTreeMap::new();
    for (number, hop) in HopMaps::<u32>::open(&pinned)?.nexthops()? {
        let at = std::net::Ipv4Addr::from(u32::from_be(hop.ip_be));
        hops.insert(number, format!("{at} vlan {} flags {} mtu {}", hop.vlan, hop.flags, hop.mtu));
    }
    Ok(Reader { contents: &contents, hops }.lines())
}

struct Reader<'a> {
    contents: &'a Contents,
    hops: BTreeMap<u32, String>,
}

impl Reader<'_> {
    fn lines(&self) -> Vec<String> {
        let Contents {
            vserver_keys,
            networks,
            clients,
            statics,
            addresses,
            routes,
            origins,
            error_sources,
            ..
        } = self.contents;
        let mut lines = Vec::new();
        for (key, found) in vserver_keys {
            let ftp = if key.kind == MATCH_FTP { " ftp" } else { "" };
            let key = format!(
                "{} {}/{} bits {}{ftp}",
                ip(key.ip_be),
                key.proto,
                u16::from_be(key.port_be),
                key.kind
            );
            if found.rules == 0 {
                lines.push(format!("match {key}: {}", self.vserver(found.vserver)));
                continue;
            }
            for (prefix, vserver) in
                clients.iter().filter(|(prefix, _)| u32::from(prefix.of.rules) == found.rules)
            {
                let of = format!("{}/{} on vlan {}", ip(prefix.of.client_be), prefix.bits, prefix.of.vlan);
                lines.push(format!("match {key} from {of}: {}", self.vserver(*vserver)));
            }
        }
        lines.extend(networks.iter().map(|(net, inside)| format!("network {net}: {inside:?}")));
        lines.extend(statics.iter().map(|(net, pool)| format!("static {net}: {}", self.pool(*pool))));
        lines.extend(addresses.iter().map(|(key, address)| {
            format!("address {} on vlan {}: kind {}", ip(key.ip_be), key.vlan, address.kind)
        }));
        lines.extend(routes.iter().map(|(net, route)| {
            let via = if route.nexthop == 0 { "connected" } else { self.hop(route.nexthop) };
            format!("route {net}: {} on vlan {}, {via}", route.kind, route.vlan)
        }));
        lines.extend(origins.iter().map(|(key, origin)| {
            let from = format!("{} {}/{}", ip(key.ip_be), key.proto, u16::from_be(key.port_be));
            let to = format!("{}:{}", ip(origin.virtual_be), u16::from_be(origin.port_be));
            format!("origin {from}: {to}, {}", self.real(origin.real, None))
        }));
        lines.extend(
            error_sources.iter().map(|(vlan, source)| format!("errors of vlan {vlan}: {}", ip(*source))),
        );
        lines.sort();
        lines
    }

    fn hop(&self, number: u32) -> &str {
        self.hops.get(&number).map_or("nowhere", String::as_str)
    }

    fn pool(&self, number: u32) -> String {
        match (number, self.contents.pools.get(&number)) {
            (0, _) => "none".to_owned(),
            (_, Some(pool)) => {
                format!("{}+{} ports {}+{}", ip(pool.first_be), pool.addresses, pool.port_first, pool.ports)
            }
            (number, None) => format!("missing {number}"),
        }
    }

    fn real(&self, number: u32, of: Option<&Vserver>) -> String {
        let Some(real) = self.contents.reals.get(&number) else { return format!("missing real {number}") };
        let Real { ip_be, port_be, vlan, nexthop, flags, farm, max_conns, min_conns } = *real;
        let stray = if of.is_some_and(|vserver| vserver.farm != farm) { " of another farm" } else { "" };
        let (address, port, hop) = (ip(ip_be), u16::from_be(port_be), self.hop(nexthop));
        let limits = format!("at most {max_conns} below {min_conns}");
        format!("{address}:{port} vlan {vlan} flags {flags} {limits} by {hop}{stray}")
    }

    /// By whom the senders of a virtual server's connections are known, and how they are entered.
    fn reverse(&self, group: u32) -> String {
        let Some(reverse) = self.contents.reverses.get(&group) else { return "none".to_owned() };
        let count = usize::try_from(reverse.count).unwrap_or(usize::MAX);
        let reals: Vec<String> =
            reverse.reals.iter().take(count).map(|number| self.real(*number, None)).collect();
        let (mask, flags, life_s) = (ip(reverse.mask_be), reverse.flags, reverse.life_s);
        format!("group {group} mask {mask} flags {flags} life {life_s} of [{}]", reals.join(", "))
    }

    fn vserver(&self, number: u32) -> String {
        let Some(vserver) = self.contents.vservers.get(&number) else { return "out of service".to_owned() };
        let Vserver { flags, idle_s, pending_s, sticky_s, sticky_mask_be, sticky_group, pool, .. } = *vserver;
        let group =
            if sticky_group == PRIVATE + number { "its own".to_owned() } else { sticky_group.to_string() };
        let ring = self.contents.rings.get(&number).map_or(&[][..], Vec::as_slice);
        let limits = (vserver.rate, vserver.client_rate, ip(vserver.client_rate_mask_be), vserver.max_conns);
        let its = |other: &&Vserver| vserver.owner != 0 && other.owner == vserver.owner;
        let limits = (limits, self.contents.vservers.values().filter(its).count(), vserver.owner_max_conns);
        // Nothing leads to the backup's element but this.
        let backup =
            if flags & VSERVER_BACKUP == 0 { "none".to_owned() } else { self.vserver(vserver.backup) };
        // In their order, which a client's hash depends on; runs of one real are told by their length.
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for slot in ring {
            match runs.last_mut() {
                Some((last, times)) if last == slot => *times += 1,
                _ => runs.push((*slot, 1)),
            }
        }
        let slots: Vec<_> = runs
            .into_iter()
            .map(|(slot, times)| {
                let (real, weight) = of_weighted_slot(slot);
                format!("{times} of weight {weight}: {}", self.real(real, Some(vserver)))
            })
            .collect();
        format!(
            "flags {flags} idle {idle_s} pending {pending_s} sticky {sticky_s} mask {} group {group} hash {} port {} pool {} \
             reverse ({}) limits {limits:?} ring [{}], {} of them spare, backup ({backup})",
            ip(sticky_mask_be),
            ip(vserver.hash_mask_be),
            u16::from_be(vserver.port_be),
            self.pool(pool),
            self.reverse(vserver.reverse),
            slots.join(", "),
            vserver.spare_len
        )
    }
}

fn ip(address_be: u32) -> std::net::Ipv4Addr {
    u32::from_be(address_be).into()
}
