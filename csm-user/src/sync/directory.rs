//! What stands in the directories of both nodes, and whether it is the same. Pure.

use serde::{Deserialize, Serialize};

/// What a node says of its directories. Crosses the FT VLAN in JSON: what another version does not say has its default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BoxDirectory {
    /// The program that runs, as it describes itself.
    pub running: String,
    /// The directory that it was started from; `None`: the initial configuration.
    pub booted: Option<String>,
    /// The configuration in force is the working copy.
    pub saved: bool,
    /// The working directory.
    pub working: Copy,
    /// The certified directory.
    pub certified: Copy,
}

/// One directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Copy {
    /// Something stands there, and it is not whole.
    pub damaged: bool,
    /// Checksum of what both nodes should have alike of the configuration, in hexadecimal digits; `None`: nothing whole
    /// stands there, or this node does not understand it.
    pub shared: Option<String>,
    /// The line that names the image; `None`: the program that is installed.
    pub image: Option<String>,
}

/// What the two nodes of a pair do not have alike, each in a few words; nothing if the directories are the same.
#[must_use]
pub fn differing(own: &BoxDirectory, peer: &BoxDirectory) -> Vec<&'static str> {
    let pairs = [
        (own.working.shared != peer.working.shared, "the configuration in `working`"),
        (own.working.image != peer.working.image, "the image in `working`"),
        (own.certified.shared != peer.certified.shared, "the configuration in `certified`"),
        (own.certified.image != peer.certified.image, "the image in `certified`"),
        (own.working.damaged || own.certified.damaged, "a damaged directory on this box"),
        (peer.working.damaged || peer.certified.damaged, "a damaged directory on the peer"),
    ];
    pairs.into_iter().filter_map(|(differs, what)| differs.then_some(what)).collect()
}

/// Whether the certified directory of the active node is to be given to its peer at that one's start: it is whole, and
/// the peer's is another.
#[must_use]
pub fn is_to_distribute(own: &BoxDirectory, peer: &BoxDirectory) -> bool {
    own.certified.shared.is_some() && own.certified != peer.certified
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(shared: Option<&str>, image: Option<&str>) -> Copy {
        Copy { damaged: false, shared: shared.map(str::to_owned), image: image.map(str::to_owned) }
    }

    #[test]
    fn each_difference_of_the_directories_has_its_name() {
        let own = BoxDirectory {
            working: copy(Some("1"), Some("! image a")),
            certified: copy(Some("2"), None),
            ..BoxDirectory::default()
        };
        assert_eq!(differing(&own, &own), [""; 0]);
        let change = |change: &dyn Fn(&mut BoxDirectory)| {
            let mut peer = own.clone();
            change(&mut peer);
            (differing(&own, &peer), is_to_distribute(&own, &peer))
        };
        for (found, wanted) in [
            (change(&|peer| peer.working.shared = None), (vec!["the configuration in `working`"], false)),
            (change(&|peer| peer.working.image = None), (vec!["the image in `working`"], false)),
            (change(&|peer| peer.certified.shared = None), (vec!["the configuration in `certified`"], true)),
            (
                change(&|peer| peer.certified.image = Some("! image b".to_owned())),
                (vec!["the image in `certified`"], true),
            ),
            (change(&|peer| peer.certified.damaged = true), (vec!["a damaged directory on the peer"], true)),
            // How it was started is each node's own business.
            (change(&|peer| peer.booted = Some("working".to_owned())), (vec![], false)),
        ] {
            assert_eq!(found, wanted);
        }
        let nothing = BoxDirectory::default();
        assert!(!is_to_distribute(&nothing, &own), "nothing is certified here");
    }
}
