//! What outlives a controller, and what the next one makes of it, against the kernel's own maps.

use std::net::Ipv6Addr;
use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::path::PathBuf;

use aya::maps::lpm_trie::Key;
use aya::maps::{LpmTrie, Map, MapData};
use csm_common::address::V6;
use csm_common::flow::{FlowEntry, FlowKey};
use csm_common::gate::{Gate, GateState};
use csm_common::names;
use csm_common::net::Route;
use csm_common::service::Real;
use csm_user::dataplane::adopt::{Convert, LAYOUT, Migration};
use csm_user::dataplane::bpf::{BpfMap, Update};
use csm_user::dataplane::load::{AttachMode, Capacity, Dataplane, LoadError};
use csm_user::dataplane::maps::{MapSource, Promises};
use csm_user::dataplane::table::{Conflict, Insert, Table};
use csm_user::dataplane::task::adopted::Keep;
use csm_user::dataplane::task::pins;

use super::tables::connection;

/// A directory of pins, removed at the end.
struct Place(PathBuf);

impl Place {
    fn new(test: &str) -> Self {
        Self(pins::directory(format!("/csm-pins-{}-{test}", std::process::id()).as_ref()))
    }

    fn load(&self, connections: u32) -> Dataplane {
        self.load_by(connections, Keep::open(&self.0).expect("a BPF file system, and root"))
    }

    fn load_by(&self, connections: u32, keep: Keep) -> Dataplane {
        Self::load_for(false, connections, keep)
    }

    fn load_for(ipv6: bool, connections: u32, keep: Keep) -> Dataplane {
        let capacity = Capacity {
            connections,
            embryonic: 1024,
            sticky: 1024,
            vservers: 16,
            reals: 16,
            ipv6,
            router: false,
        };
        Dataplane::load_over(&[], AttachMode::Native, capacity, Some(keep)).expect("a program")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A test that passed left nothing there.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn fill(dataplane: &Dataplane, count: u32) {
    let table = Table::open(dataplane).expect("the tables");
    let inserts: Vec<Insert> = (0..count)
        .map(|client| Insert {
            connection: connection(client, 1),
            to_server: 1,
            to_client: 2,
            idle_ns: 0,
            mark: 0,
        })
        .collect();
    assert!(table.insert(&inserts, Conflict::Replace).iter().all(Result::is_ok));
}

fn flows(dataplane: &Dataplane) -> BpfMap<FlowKey, FlowEntry> {
    BpfMap::new(dataplane.descriptor(names::FLOWS).expect("a map")).expect("of this shape")
}

#[test]
fn tables_that_are_as_expected_are_the_same_ones() {
    let place = Place::new("same");
    let first = place.load(5_000);
    assert!(!first.has_adopted());
    fill(&first, 100);
    let gate = Gate::new(GateState::Open, 1 << 50);
    first.gate().store(gate);
    let taken = Keep::open(&place.0).expect_err("two at a time would write one table");
    assert!(
        matches!(taken, LoadError::Pins { .. }) && taken.to_string().contains("another csmd has"),
        "{taken}"
    );
    first.abandon();
    let second = place.load(5_000);
    assert!(second.has_adopted());
    assert_eq!(second.gate().load(), gate, "it is for the lease to end, and for nobody else");
    assert_eq!(flows(&second).entries().expect("entries").len(), 200);
    drop(second);
    assert!(!place.0.exists(), "an orderly end leaves nothing");
    assert!(!place.load(5_000).has_adopted());
}

#[test]
fn an_orderly_end_leaves_nothing_but_what_the_peer_was_promised() {
    let place = Place::new("promise");
    let first = place.load(5_000);
    fill(&first, 10);
    let far = u64::MAX / 2;
    Promises::open(&first).expect("a map").set(far).expect("a promise");
    drop(first);
    let left: Vec<_> = std::fs::read_dir(place.0.join(format!("v{LAYOUT}")))
        .expect("tables")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .filter(|name| name != "whole")
        .collect();
    assert_eq!(left, [names::PROMISE]);
    let second = place.load(5_000);
    assert_eq!(flows(&second).entries().expect("entries").len(), 0);
    let promises = Promises::open(&second).expect("a map");
    assert_eq!(promises.get().expect("a promise"), far);
    promises.set(1).expect("one that is over");
    drop(promises);
    drop(second);
    assert!(!place.0.exists());
}

#[test]
fn tables_of_another_size_are_copied() {
    let place = Place::new("size");
    let first = place.load(5_000);
    fill(&first, 1_000);
    let gate = Gate::new(GateState::Open, 1 << 50);
    first.gate().store(gate);
    first.abandon();
    let second = place.load(8_000);
    assert!(second.has_adopted());
    assert_eq!(flows(&second).max_entries(), 16_000);
    assert_eq!(flows(&second).entries().expect("entries").len(), 2_000);
    assert_eq!(second.gate().load(), gate);
    second.abandon();
    // Smaller than what it is to hold: as many as fit.
    let third = place.load(500);
    assert_eq!(flows(&third).entries().expect("entries").len(), 1_000);
}

#[test]
fn tables_of_a_start_that_broke_off_are_not_taken() {
    let place = Place::new("broken");
    let first = place.load(5_000);
    fill(&first, 10);
    first.abandon();
    std::fs::remove_dir(place.0.join(format!("v{LAYOUT}")).join("whole")).expect("the mark");
    let second = place.load(5_000);
    assert!(!second.has_adopted());
    assert!(flows(&second).entries().expect("entries").is_empty());
}

/// The layout before the first one, as if it had had connections by the name of `FLOWS`, with another generation.
fn older(layout: u32, table: &str) -> Option<Convert> {
    let convert: Convert = |key, value| {
        let mut value = value.to_vec();
        value.rotate_left(8);
        Some((key.to_vec(), value))
    };
    (layout == LAYOUT - 1 && table == names::FLOWS).then_some(convert)
}

#[test]
fn tables_of_an_older_layout_are_read_as_its_migration_says_and_others_are_left() {
    let place = Place::new("layout");
    let age = |name: &str| {
        let first = place.load(5_000);
        fill(&first, 50);
        let before = flows(&first).entries().expect("entries");
        first.abandon();
        let version = |layout: u32| place.0.join(format!("v{layout}"));
        std::fs::rename(version(LAYOUT), version(LAYOUT - 1))
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        before
    };
    let octets = |value: &FlowEntry| {
        // SAFETY: an entry is plain integers, its padding spelled out.
        let octets = unsafe { std::mem::transmute::<FlowEntry, [u8; size_of::<FlowEntry>()]>(*value) };
        octets.to_vec()
    };
    let before = age("first");
    let migration: Migration = older;
    let second = place.load_by(5_000, Keep::migrating(&place.0, migration).expect("the pins"));
    assert!(second.has_adopted());
    let after = flows(&second);
    assert_eq!(after.entries().expect("entries").len(), before.len());
    for (key, value) in &before {
        let mut expected = octets(value);
        expected.rotate_left(8);
        assert_eq!(octets(&after.get(key).expect("a map").expect("the entry")), expected);
    }
    assert!(!place.0.join("v0").exists(), "what was read is gone");
    drop((second, after));
    age("second");
    let third = place.load(5_000);
    assert!(!third.has_adopted() && flows(&third).entries().expect("entries").is_empty());
    assert!(!place.0.join("v0").exists(), "what nobody can read is gone, too");
}

/// An array of so many values of so many octets.
fn array(value: u32, entries: u32) -> OwnedFd {
    /// BPF_MAP_CREATE and BPF_MAP_TYPE_ARRAY of linux/bpf.h.
    const MAP_CREATE: libc::c_int = 0;
    const ARRAY: u32 = 2;
    let attr = [ARRAY, 4, value, entries, 0];
    // SAFETY: the first fields of `union bpf_attr` for this command; the kernel only reads them.
    let made = unsafe { libc::syscall(libc::SYS_bpf, MAP_CREATE, attr.as_ptr(), size_of_val(&attr)) };
    let made = RawFd::try_from(made).expect("a descriptor");
    assert!(made >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: it was made just now and is nobody else's.
    unsafe { OwnedFd::from_raw_fd(made) }
}

#[test]
fn values_that_have_become_longer_keep_what_they_were() {
    /// A real before it had limits.
    const SHORT: usize = size_of::<Real>() - 8;
    let place = Place::new("longer");
    let first = place.load(5_000);
    fill(&first, 10);
    first.abandon();
    let old = array(u32::try_from(SHORT).expect("octets"), 16);
    let values: BpfMap<u32, [u8; SHORT]> = BpfMap::new(old.try_clone().expect("it")).expect("of this shape");
    let value = std::array::from_fn(|at| u8::try_from(at).expect("an octet"));
    values.set(&3, &value, Update::Any).expect("an element");
    let pins = pins::Pins::open(&place.0).expect("the pins");
    pins.put(LAYOUT, names::REALS, old.as_fd()).expect("in the place of what is there");
    drop(pins);
    let second = place.load(5_000);
    assert!(second.has_adopted());
    assert_eq!(flows(&second).entries().expect("entries").len(), 20);
    let reals: BpfMap<u32, Real> =
        BpfMap::new(second.descriptor(names::REALS).expect("a map")).expect("of this shape");
    let real = reals.get(&3).expect("a map").expect("an element");
    assert_eq!((real.ip_be.to_ne_bytes(), real.farm.to_ne_bytes()), ([0, 1, 2, 3], [16, 17, 18, 19]));
    assert_eq!((real.max_conns, real.min_conns), (0, 0), "as if it were not configured");
}

#[test]
fn a_table_that_is_needed_no_more_does_not_hold_up_what_is() {
    let place = Place::new("no-ipv6");
    let keep = || Keep::open(&place.0).expect("a BPF file system, and root");
    let first = Place::load_for(true, 5_000, keep());
    fill(&first, 10);
    let routes = MapData::from_fd(first.descriptor(names::ROUTES6).expect("a map")).expect("a map");
    let mut routes: LpmTrie<MapData, V6, Route> =
        LpmTrie::try_from(Map::LpmTrie(routes)).expect("of this shape");
    let network = |number| Key::new(16, V6::from(Ipv6Addr::new(number, 0, 0, 0, 0, 0, 0, 0)));
    let route = Route { nexthop: 0, vlan: 2, kind: 0 };
    for number in [0x2001, 0x2002] {
        routes.insert(&network(number), route, 0).expect("a route");
    }
    first.abandon();
    let second = Place::load_for(false, 5_000, keep());
    assert!(second.has_adopted());
    assert_eq!(flows(&second).entries().expect("entries").len(), 20);
}
