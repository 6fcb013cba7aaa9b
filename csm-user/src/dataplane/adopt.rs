//! Which tables of an earlier csmd a start takes over, and how. Pure.

use csm_common::names;

/// Version of the tables' layout. To be raised whenever a key or value of a table that outlives the controller means
/// something else than before, so that an older table is never read as a newer one. A value may become longer without that: what stood
/// in a table before gets zeros behind it, which must mean what was so before.
pub const LAYOUT: u32 = 1;

/// Maps that each start makes anew: what they hold belongs to one program, or comes from the configuration before the
/// program takes its place. All others outlive the controller.
const OF_ONE_START: [&str; 17] = [
    names::PORTS,
    names::TAGGED,
    names::PORT_SLOTS,
    names::VLANS,
    names::OWN6,
    names::TX_PORTS,
    names::CLOCKS,
    names::BUDGETS,
    names::TRACE,
    names::FAMILIES,
    "COLD",
    "COLD6",
    "TRACED",
    "TRACED6",
    names::DRAIN,
    "HANDOVER",
    "QUOTE6",
];

/// What the kernel knows of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// BPF_MAP_TYPE_*.
    pub kind: u32,
    /// Octets of a key.
    pub key: u32,
    /// Octets of a value.
    pub value: u32,
    /// Entries that it can hold.
    pub entries: u32,
    /// BPF_F_*.
    pub flags: u32,
}

/// BPF_MAP_TYPE_* of linux/bpf.h.
const HASH: u32 = 1;
const ARRAY: u32 = 2;
const LRU_HASH: u32 = 9;
const LPM_TRIE: u32 = 11;

/// What becomes of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is the new program's as it is.
    AsItIs,
    /// Its entries are copied into a new one, with zeros behind values that have become longer.
    Copied,
    /// Nothing of it is kept.
    Left,
}

/// What an entry of another layout is in this one, key and value; `None`: nothing.
pub type Convert = fn(&[u8], &[u8]) -> Option<(Vec<u8>, Vec<u8>)>;
/// How table `1` of layout `0` is read; `None`: not at all.
pub type Migration = fn(u32, &str) -> Option<Convert>;

/// The layouts that this program reads besides its own: there was none before the first.
#[must_use]
pub const fn migration(_layout: u32, _table: &str) -> Option<Convert> {
    None
}

/// Whether map `name` outlives the controller.
#[must_use]
pub fn is_kept(name: &str) -> bool {
    // Of the logger; and what the compiler makes of constants.
    !OF_ONE_START.contains(&name) && !name.starts_with("AYA_") && !name.starts_with('.')
}

/// What becomes of a table of shape `found` where one of shape `wanted` is needed; both of the same layout.
#[must_use]
pub fn taken(found: Shape, wanted: Shape) -> Taken {
    let keys = |shape: Shape| (shape.kind, shape.key);
    if found == wanted {
        Taken::AsItIs
    } else if keys(found) == keys(wanted)
        && found.value <= wanted.value
        && matches!(wanted.kind, HASH | ARRAY | LRU_HASH | LPM_TRIE)
    {
        Taken::Copied
    } else {
        Taken::Left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_taken_as_it_is_only_if_it_is_what_the_program_expects() {
        let wanted = Shape { kind: HASH, key: 16, value: 64, entries: 100, flags: 0 };
        assert_eq!(taken(wanted, wanted), Taken::AsItIs);
        assert_eq!(taken(Shape { entries: 50, ..wanted }, wanted), Taken::Copied);
        assert_eq!(taken(Shape { flags: 1, ..wanted }, wanted), Taken::Copied);
        assert_eq!(
            taken(Shape { value: 56, ..wanted }, wanted),
            Taken::Copied,
            "from before a field was added"
        );
        assert_eq!(taken(Shape { value: 72, ..wanted }, wanted), Taken::Left, "of a later program");
        assert_eq!(taken(Shape { key: 20, ..wanted }, wanted), Taken::Left);
        assert_eq!(taken(Shape { kind: LRU_HASH, ..wanted }, wanted), Taken::Left);
        let ring = Shape { kind: 27, key: 0, value: 0, entries: 4096, flags: 0 };
        assert_eq!(
            taken(Shape { entries: 8192, ..ring }, ring),
            Taken::Left,
            "a ring has no entries to copy"
        );
    }

    #[test]
    fn tables_of_connections_are_kept_and_those_of_ports_are_not() {
        for name in
            [names::FLOWS, names::STICKY6, names::GATE, names::NEXTHOPS, names::EVENTS, names::COUNTERS]
        {
            assert!(is_kept(name), "{name}");
        }
        for name in [names::PORTS, names::FAMILIES, "AYA_LOGS", ".rodata"] {
            assert!(!is_kept(name), "{name}");
        }
    }
}
