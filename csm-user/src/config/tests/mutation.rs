//! The guides' listings and the golden files with octets changed: what a fuzzer makes of its corpus. `cargo xtask soak` tries
//! many more, and `tests/fuzz` looks for new ways by itself.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::host;
use super::oracle::examine;

/// Every file of the test data.
fn corpus() -> Vec<Vec<u8>> {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/");
    let mut files = Vec::new();
    for directory in ["config", "walk"] {
        let entries = std::fs::read_dir(format!("{data}{directory}")).expect("test data");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        files.extend(paths.filter(|path| path.extension().is_some_and(|end| end == "cfg" || end == "txt")));
    }
    files.sort();
    assert!(files.len() > 10, "{files:?}");
    files.into_iter().map(|file| std::fs::read(file).expect("a file")).collect()
}

/// A change: at which octet, of which kind, and with what.
type Change = (Index, u8, u8, Index);

fn apply(octets: &mut Vec<u8>, (at, kind, octet, to): &Change) {
    if octets.is_empty() {
        return;
    }
    let at = at.index(octets.len());
    match kind % 6 {
        0 => octets[at] = *octet,
        1 => octets.insert(at, *octet),
        2 => drop(octets.remove(at)),
        3 => octets.insert(at, b'\n'),
        // A piece goes, or comes twice.
        4 => drop(octets.drain(at..(at + to.index(80)).min(octets.len()))),
        _ => {
            let piece = octets[at..(at + to.index(80)).min(octets.len())].to_vec();
            let to = to.index(octets.len());
            octets.splice(to..to, piece);
        }
    }
}

proptest! {
    // A listing takes as long as hundreds of the other properties' texts.
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 8, ..ProptestConfig::default() })]

    #[test]
    fn changed_listings_are_refused_or_read_back_and_never_panic(
        file in any::<Index>(), changes in vec((any::<Index>(), any::<u8>(), any::<u8>(), any::<Index>()), 1..24),
    ) {
        let corpus = corpus();
        let mut octets = file.get(&corpus).clone();
        changes.iter().for_each(|change| apply(&mut octets, change));
        examine(&String::from_utf8_lossy(&octets), &host());
    }
}
