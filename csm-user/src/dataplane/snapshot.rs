//! Who is who: between this node's numbers and the identities both nodes derive from the configuration. Pure.
//!
//! One immutable snapshot for each plan, shared by all who translate records between the tables and the peer.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use csm_common::address::{Address, V6};
use csm_common::flow::{FLAG_REPLICA, FLAG_REPLICATE, NONE};
use csm_common::service::{
    VSERVER_REPLICATE, VSERVER_REPLICATE_STICKY, VSERVER_STICKY_BOTH, VSERVER_UNIDIRECTIONAL, Vserver,
};

use crate::model::{Host, Protocol, StableId};
use crate::numbers::Numbers;

use super::family::Wire;
use super::plan::{Assignments, Contents, Desired, PRIVATE_STICKY};
use super::routes::Routes;

/// A sticky group as both nodes know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StickyGroup {
    /// `group G`, 1–255.
    Shared(u8),
    /// Private to this virtual server.
    Private(StableId),
}

/// What of a virtual server does not depend on its family.
#[derive(Clone, Copy, Debug)]
struct Facts {
    id: StableId,
    flags: u32,
    idle_s: u32,
    pending_s: u32,
    sticky_s: u32,
    sticky_group: u32,
    reverse: u32,
    mark: u32,
}

impl Facts {
    const fn of<A: Address>(id: StableId, vserver: &Vserver<A>) -> Self {
        let Vserver { flags, idle_s, pending_s, sticky_s, sticky_group, reverse, mark, .. } = *vserver;
        Self { id, flags, idle_s, pending_s, sticky_s, sticky_group, reverse, mark }
    }
}

impl Facts {
    /// The sticky groups in which its connections enter what is replicated.
    fn replicated_groups(&self) -> impl Iterator<Item = u32> + use<> {
        let own = self.flags & VSERVER_REPLICATE_STICKY != 0;
        // Its server's own connections must find it there, whichever node they meet.
        let reverse = self.flags & VSERVER_REPLICATE != 0;
        [(own, self.sticky_group), (reverse, self.reverse)]
            .into_iter()
            .filter(|&(replicated, group)| replicated && group != 0)
            .map(|(_, group)| group)
    }
}

/// One plan's identities.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    vserver_numbers: HashMap<StableId, u32>,
    vservers: HashMap<u32, Facts>,
    real_numbers: HashMap<StableId, u32>,
    /// Identity and next hop.
    reals: HashMap<u32, (StableId, u32)>,
    replicated_groups: HashSet<u32>,
    /// Sticky entries of the configuration: group in the map, and address.
    fixed: HashSet<(u32, IpAddr)>,
    routes: Routes,
}

impl Directory {
    /// Of `desired`.
    #[must_use]
    pub fn of(desired: &Desired) -> Self {
        let Desired { contents, contents6, .. } = desired;
        // A number is of one family.
        let facts = |number, id| {
            let of_v4 = contents.vservers.get(number).map(|vserver| Facts::of(id, vserver));
            of_v4.or_else(|| contents6.vservers.get(number).map(|vserver| Facts::of(id, vserver)))
        };
        let vservers: HashMap<u32, Facts> = desired
            .vservers
            .iter()
            .filter_map(|(number, known)| Some((*number, facts(number, known.id)?)))
            .collect();
        // A real that nothing reaches has no next hop: replicas for it are refused.
        let hop = |number| {
            let of_v4 = contents.reals.get(number).map(|real| real.nexthop);
            of_v4.or_else(|| contents6.reals.get(number).map(|real| real.nexthop))
        };
        let reals: HashMap<u32, (StableId, u32)> = desired
            .reals
            .iter()
            .filter(|(_, known)| !desired.unreachable.contains(&known.key.address))
            .filter_map(|(number, known)| Some((*number, (known.id, hop(number)?))))
            .collect();
        let fixed = contents.stickies.keys().map(|key| (key.group, key.client_be.ip()));
        let fixed6 = contents6.stickies.keys().map(|key| (key.group, key.client_be.ip()));
        Self {
            fixed: fixed.chain(fixed6).collect(),
            vserver_numbers: vservers.iter().map(|(&number, facts)| (facts.id, number)).collect(),
            real_numbers: reals.iter().map(|(&number, &(id, _))| (id, number)).collect(),
            replicated_groups: vservers.values().flat_map(Facts::replicated_groups).collect(),
            vservers,
            reals,
            routes: desired.routes.clone(),
        }
    }

    /// Of what the maps of both families hold, in numbers of whoever wrote them: at a start, what earlier connections were
    /// made by. Only what drains is told by it as it is to be, see [`Self::keeping`].
    #[must_use]
    pub fn left(contents: &Contents, contents6: &Contents<V6>, numbers: &Assignments) -> Self {
        let mut left = Self::default();
        left.note(contents, numbers);
        left.note(contents6, numbers);
        left
    }

    fn note<A: Wire>(&mut self, contents: &Contents<A>, numbers: &Assignments) {
        for (&number, vserver) in &contents.vservers {
            let Some(&id) = numbers.vservers.key(number) else { continue };
            self.vservers.insert(number, Facts::of(id, vserver));
            self.vserver_numbers.insert(id, number);
            self.replicated_groups.extend(Facts::of(id, vserver).replicated_groups());
        }
        // One that nothing reaches has no next hop.
        for (&number, real) in contents.reals.iter().filter(|(_, real)| real.nexthop != 0) {
            if let Some(&id) = numbers.reals.key(number) {
                self.reals.insert(number, (id, real.nexthop));
                self.real_numbers.insert(id, number);
            }
        }
    }

    /// With what was removed since `before` but whose number is in use by `numbers` still: its connections drain, and are
    /// replicated, counted and timed as before until the last has ended.
    #[must_use]
    pub fn keeping(mut self, before: &Self, numbers: &Assignments) -> Self {
        for (&number, facts) in &before.vservers {
            if drains(&numbers.vservers, number, facts.id) {
                self.vservers.insert(number, *facts);
                self.vserver_numbers.insert(facts.id, number);
                let groups = [facts.sticky_group, facts.reverse];
                let replicated = groups.into_iter().filter(|group| before.replicated_groups.contains(group));
                self.replicated_groups.extend(replicated);
            }
        }
        for (&number, &(id, hop)) in &before.reals {
            if drains(&numbers.reals, number, id) {
                self.reals.insert(number, (id, hop));
                self.real_numbers.insert(id, number);
            }
        }
        self
    }

    /// Without what `numbers` knows no more.
    #[must_use]
    pub fn known_to(mut self, numbers: &Assignments) -> Self {
        self.vservers.retain(|&number, facts| numbers.vservers.key(number) == Some(&facts.id));
        self.vserver_numbers.retain(|id, number| numbers.vservers.key(*number) == Some(id));
        self.reals.retain(|&number, (id, _)| numbers.reals.key(number) == Some(id));
        self.real_numbers.retain(|id, number| numbers.reals.key(*number) == Some(id));
        self
    }

    /// This node's number of a virtual server; that of none for a connection that a server opened.
    #[must_use]
    pub fn vserver_number(&self, id: StableId) -> Option<u32> {
        if id == StableId::NONE {
            return Some(NONE);
        }
        self.vserver_numbers.get(&id).copied()
    }

    /// Identity of a virtual server; `None` for one that is not configured any more.
    #[must_use]
    pub fn vserver_id(&self, number: u32) -> Option<StableId> {
        if number == NONE {
            return Some(StableId::NONE);
        }
        self.vservers.get(&number).map(|facts| facts.id)
    }

    /// Whether its servers' packets may go past this node.
    #[must_use]
    pub fn is_unidirectional(&self, vserver: u32) -> bool {
        self.vservers.get(&vserver).is_some_and(|facts| facts.flags & VSERVER_UNIDIRECTIONAL != 0)
    }

    /// What is written into packets to the servers of its connections, as [`csm_common::flow::mark`] has it.
    #[must_use]
    pub fn mark(&self, vserver: u32) -> u32 {
        self.vservers.get(&vserver).map_or(0, |facts| facts.mark)
    }

    /// True if connections of this virtual server are replicated: those that servers open to none always are.
    #[must_use]
    pub fn replicates(&self, vserver: u32) -> bool {
        vserver == NONE
            || self.vservers.get(&vserver).is_some_and(|facts| facts.flags & VSERVER_REPLICATE != 0)
    }

    /// True if a connection of this virtual server, whose entry has these flags, is replicated. What is configured now counts,
    /// not what was when the entry was made; and what the peer told and no packet here has used is the peer's.
    #[must_use]
    pub fn is_replicated(&self, vserver: u32, flags: u8) -> bool {
        let known = vserver == NONE || self.vservers.contains_key(&vserver);
        flags & FLAG_REPLICA != 0
            || if known { self.replicates(vserver) } else { flags & FLAG_REPLICATE != 0 }
    }

    /// Virtual servers whose connections are not replicated, those that drain included.
    pub fn unreplicated(&self) -> impl Iterator<Item = u32> {
        self.vservers.keys().copied().filter(|number| !self.replicates(*number))
    }

    /// True if what both know of is replicated by one of them and not by the other: there may be entries that the peer was
    /// never told of, or that it is to have no more.
    #[must_use]
    pub fn replicates_otherwise(&self, before: &Self) -> bool {
        let known = |number: &u32, facts: &Facts| {
            before.vservers.get(number).filter(|earlier| earlier.id == facts.id).copied()
        };
        self.vservers.iter().any(|(number, facts)| {
            known(number, facts).is_some_and(|earlier| {
                let otherwise = |group| before.replicates_sticky(group) != self.replicates_sticky(group);
                (earlier.flags ^ facts.flags) & VSERVER_REPLICATE != 0
                    || otherwise(earlier.sticky_group)
                    || otherwise(earlier.reverse)
            })
        })
    }

    /// This node's number of a real and the next hop to it.
    #[must_use]
    pub fn real(&self, id: StableId) -> Option<(u32, u32)> {
        let number = *self.real_numbers.get(&id)?;
        Some((number, self.reals.get(&number)?.1))
    }

    /// Identity of a real; `None` for one that is not configured any more.
    #[must_use]
    pub fn real_id(&self, number: u32) -> Option<StableId> {
        self.reals.get(&number).map(|&(id, _)| id)
    }

    /// What both nodes call sticky group `group` of the map; `None` if its virtual server is not configured any more.
    #[must_use]
    pub fn sticky_group(&self, group: u32) -> Option<StickyGroup> {
        match group.checked_sub(PRIVATE_STICKY) {
            None => u8::try_from(group).ok().map(StickyGroup::Shared),
            Some(vserver) => self.vserver_id(vserver).map(StickyGroup::Private),
        }
    }

    /// The map's number of a sticky group.
    #[must_use]
    pub fn sticky_number(&self, group: StickyGroup) -> Option<u32> {
        match group {
            StickyGroup::Shared(group) => Some(u32::from(group)),
            StickyGroup::Private(id) => self.vserver_numbers.get(&id).map(|number| PRIVATE_STICKY + number),
        }
    }

    /// True if entries of sticky group `group` are replicated.
    #[must_use]
    pub fn replicates_sticky(&self, group: u32) -> bool {
        self.replicated_groups.contains(&group)
    }

    /// Whether what sticks in group `group` of the map are pairs of addresses, see [`csm_common::service::pair`].
    #[must_use]
    pub fn sticks_by_both(&self, group: u32) -> bool {
        let meant = |facts: &&Facts| facts.sticky_group == group && facts.sticky_s > 0;
        self.vservers.values().find(meant).is_some_and(|facts| facts.flags & VSERVER_STICKY_BOTH != 0)
    }

    /// The addresses that `key` of group `group` of the map stands for: one, or a client's and the one it speaks to.
    #[must_use]
    pub fn sticky_addresses(&self, group: u32, key: IpAddr) -> (IpAddr, Option<IpAddr>) {
        match key {
            IpAddr::V6(pair) if self.sticks_by_both(group) => {
                let [client, destination] = V6::from(pair).unpaired();
                (client, Some(destination))
            }
            _ => (key, None),
        }
    }

    /// Whether the configuration has a sticky entry of `address` in group `group` of the map: it is not the peer's to change.
    #[must_use]
    pub fn fixes_sticky(&self, group: u32, address: IpAddr) -> bool {
        self.fixed.contains(&(group, address))
    }

    /// The neighbour that a packet to `address` is handed to.
    #[must_use]
    pub fn hop(&self, address: impl Into<IpAddr>) -> Option<Host> {
        self.routes.hop(address)
    }

    /// Idle and pending times of a virtual server's connections of protocol `proto`, in seconds.
    #[must_use]
    pub fn times(&self, vserver: u32, proto: u8) -> Option<(u32, u32)> {
        let facts = self.vservers.get(&vserver)?;
        // Nobody waits for an answer there; a SYN still waits for its acknowledgement.
        let for_good = facts.flags & VSERVER_UNIDIRECTIONAL != 0 && proto != Protocol::TCP_NUMBER;
        let pending_s = match facts.idle_s {
            _ if !for_good => facts.pending_s,
            0 => u32::MAX,
            idle_s => idle_s,
        };
        Some((facts.idle_s, pending_s))
    }
}

/// Whether `id` is wanted no more, but has its number still.
fn drains(numbers: &Numbers<StableId>, number: u32, id: StableId) -> bool {
    numbers.key(number) == Some(&id) && !numbers.is_live(&id)
}

/// The directory in force, for several readers.
#[derive(Debug, Default)]
pub struct DirectoryCell(RwLock<Arc<Directory>>);

impl DirectoryCell {
    /// The directory in force.
    #[must_use]
    pub fn get(&self) -> Arc<Directory> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// A new plan is in the maps.
    pub fn set(&self, directory: Directory) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(directory);
    }
}

#[cfg(test)]
mod tests {
    use super::{Directory, FLAG_REPLICA, FLAG_REPLICATE, NONE, StickyGroup};
    use crate::dataplane::diff::{Operation, diff};
    use crate::dataplane::plan::tests::{figure_7_1, hops, name};
    use crate::dataplane::plan::{Assignments, Contents, HealthView, plan};
    use crate::model::{Config, StableId};
    use crate::numbers::Numbers;
    use std::net::IpAddr;

    #[test]
    fn identities_and_numbers_translate_both_ways() {
        let mut config = figure_7_1();
        config.vservers[0].sticky.as_mut().unwrap().group = 0;
        let hops = hops(&config);
        let desired = plan(&config, &HealthView::default(), &hops, &mut Assignments::default()).unwrap();
        let directory = Directory::of(&desired);
        let id = StableId::of_vserver(&name("VIP1"), &config.vservers[0].virtual_server.unwrap());
        assert_eq!(directory.vserver_number(id), Some(0));
        assert_eq!(directory.vserver_id(0), Some(id));
        assert!(directory.replicates(0) && !directory.replicates(1));
        assert_eq!(
            (directory.vserver_number(StableId::NONE), directory.vserver_id(NONE)),
            (Some(NONE), Some(StableId::NONE))
        );
        assert!(directory.replicates(NONE));
        let real = StableId::of_real(&name("WEB"), "192.158.39.102".parse().unwrap(), None);
        let (number, hop) = directory.real(real).unwrap();
        assert_eq!((number, directory.real_id(number)), (1, Some(real)));
        assert_eq!(hop, hops[&directory.hop("192.158.39.102".parse::<IpAddr>().unwrap()).unwrap()]);
        assert_eq!(directory.real(StableId(7)), None);
        assert_eq!(directory.sticky_group(256), Some(StickyGroup::Private(id)));
        assert_eq!(directory.sticky_number(StickyGroup::Private(id)), Some(256));
        assert_eq!(directory.sticky_group(10), Some(StickyGroup::Shared(10)));
        assert!(directory.replicates_sticky(256) && !directory.replicates_sticky(10));
    }

    #[test]
    fn what_is_replicated_is_what_is_configured_now() {
        let mut config = figure_7_1();
        let hops = hops(&config);
        let mut numbers = Assignments::default();
        let mut directory =
            |config: &_| Directory::of(&plan(config, &HealthView::default(), &hops, &mut numbers).unwrap());
        let on = directory(&config);
        config.vservers[0].replicate_connection = false;
        let off = directory(&config);
        // An entry that was made before the option, and one that was made with it.
        assert!(on.is_replicated(0, 0) && !off.is_replicated(0, FLAG_REPLICATE));
        assert!(off.is_replicated(0, FLAG_REPLICA), "it is the peer's");
        assert!(off.is_replicated(NONE, 0), "of a server's own connections all are");
        assert!(off.is_replicated(7, FLAG_REPLICATE) && !off.is_replicated(7, 0), "as it was made");
        assert_eq!((on.unreplicated().count(), off.unreplicated().collect::<Vec<_>>()), (0, vec![0]));
        assert!(on.replicates_otherwise(&off) && off.replicates_otherwise(&on));
        assert!(!on.replicates_otherwise(&on) && !on.replicates_otherwise(&Directory::default()));
        config.vservers[0].replicate_connection = true;
        config.vservers[0].replicate_sticky = false;
        assert!(directory(&config).replicates_otherwise(&on));
    }

    #[test]
    fn what_drains_is_known_to_the_next_csmd_by_what_the_maps_hold() {
        let mut config = figure_7_1();
        config.vservers[0].idle = std::time::Duration::from_secs(86_400);
        let (all, hops) = (config.clone(), hops(&config));
        let mut numbers = Assignments::default();
        let mut maps = Contents::default();
        let mut put = |config: &Config, numbers: &mut Assignments| {
            let desired = plan(config, &HealthView::default(), &hops, numbers).unwrap();
            for operation in diff(&desired.contents, &maps) {
                match operation {
                    Operation::SetVserver(number, vserver) => drop(maps.vservers.insert(number, vserver)),
                    Operation::SetReal(number, real) => drop(maps.reals.insert(number, real)),
                    _ => {}
                }
            }
            (Directory::of(&desired), maps.clone())
        };
        let (before, _) = put(&config, &mut numbers);
        let vserver = StableId::of_vserver(&name("VIP1"), &config.vservers[0].virtual_server.unwrap());
        let gone = config.serverfarms[0].reals.remove(1);
        let real = StableId::of_real(&config.serverfarms[0].name, gone.address, gone.port);
        config.vservers.remove(0);
        let (_, left) = put(&config, &mut numbers);

        // Another process, which has the maps and who had which number.
        let given = |numbers: &Numbers<StableId>| numbers.iter().map(|(n, id)| (n, *id)).collect::<Vec<_>>();
        let mut numbers = Assignments::restored(given(&numbers.vservers), given(&numbers.reals));
        let left = Directory::left(&left, &Contents::default(), &numbers);
        let (bare, _) = put(&config, &mut numbers);
        let known = bare.keeping(&left, &numbers);
        assert_eq!((known.vserver_number(vserver), known.vserver_id(0)), (Some(0), Some(vserver)));
        assert!(known.replicates(0) && known.replicates_sticky(10), "as before");
        assert_eq!(known.times(0, 6), before.times(0, 6));
        assert_eq!(known.real(real), before.real(real));
        // What is configured is as it is configured.
        let (bare, _) = put(&all, &mut numbers);
        let all = bare.clone().keeping(&left, &numbers);
        assert_eq!((all.real(real), all.times(0, 6)), (bare.real(real), bare.times(0, 6)));
    }

    #[test]
    fn what_is_removed_is_known_until_its_last_connection_has_ended() {
        let mut config = figure_7_1();
        config.vservers[0].idle = std::time::Duration::from_secs(86_400);
        let hops = hops(&config);
        let mut numbers = Assignments::default();
        let desired = plan(&config, &HealthView::default(), &hops, &mut numbers).unwrap();
        let before = Directory::of(&desired);
        let vserver = StableId::of_vserver(&name("VIP1"), &config.vservers[0].virtual_server.unwrap());
        let gone = config.serverfarms[0].reals.remove(1);
        let farm = config.serverfarms[0].name.clone();
        let real = StableId::of_real(&farm, gone.address, gone.port);
        config.vservers.remove(0);
        let desired = plan(&config, &HealthView::default(), &hops, &mut numbers).unwrap();
        let bare = Directory::of(&desired);
        assert_eq!((bare.vserver_number(vserver), bare.real(real)), (None, None));
        let kept = bare.keeping(&before, &numbers);
        assert_eq!((kept.vserver_number(vserver), kept.vserver_id(0)), (Some(0), Some(vserver)));
        assert!(kept.replicates(0), "its connections are told of, and their ends");
        assert_eq!(kept.times(0, 6).map(|(idle_s, _)| idle_s), Some(86_400), "its own time, not the default");
        assert_eq!(kept.real(real), before.real(real));
        // A walk that meets neither frees both.
        numbers.walk_begins(1);
        let none = std::collections::BTreeSet::new();
        assert!(!numbers.walk_ended(1, &none, &none).vservers.is_empty());
        let after = kept.known_to(&numbers);
        assert_eq!(
            (after.vserver_number(vserver), after.vserver_id(0), after.real(real)),
            (None, None, None)
        );
    }
}
