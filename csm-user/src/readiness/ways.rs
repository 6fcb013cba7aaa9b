//! The ways between both boxes, in both directions.

use super::{BoxFacts, Checks, Pair};

/// A way to the peer, as one box sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Its VLAN.
    pub vlan: u16,
    /// The peer is heard there.
    pub heard: bool,
    /// The peer says there that it hears this box on it.
    pub hears_us: bool,
}

impl Checks {
    pub(super) fn pair(&mut self, pair: &Pair, peer: Result<&BoxFacts, &str>) {
        if !pair.heard {
            self.missing(
                "pair",
                "no peer is heard",
                Some("start the other box, or check the FT VLAN's link"),
            );
            return;
        }
        let before = self.0.len();
        if !pair.hears_us {
            self.missing(
                "pair",
                "the peer does not hear this box",
                Some("check the FT VLAN in that direction"),
            );
        }
        self.ways(pair, peer.ok());
        if let Err(why) = peer {
            self.missing("pair", format!("the peer does not say how it stands: {why}"), None);
        }
        if self.0.len() == before {
            self.good("pair", "both boxes hear each other on every path");
        }
    }

    /// Either box may know of a way that works in one direction only: who sends there, and who is told so.
    fn ways(&mut self, pair: &Pair, peer: Option<&BoxFacts>) {
        let deaf = |vlan| peer.is_some_and(|peer| peer.unheard.contains(&vlan));
        let ft = pair.ways.first().map(|way| way.vlan);
        for &Way { vlan, heard, hears_us } in &pair.ways {
            match (heard, hears_us && !deaf(vlan)) {
                (true, true) => {}
                (false, _) if Some(vlan) == ft => self.missing(
                    "pair",
                    format!("the FT VLAN is down (vlan {vlan}): nothing can be replicated"),
                    Some("check its link on both boxes"),
                ),
                (false, _) => self.missing(
                    "pair",
                    format!("the peer is not heard on vlan {vlan}"),
                    Some("check both boxes' ports of that VLAN, and the switch between them"),
                ),
                // Of nothing that is heard at all it was said before.
                (true, false) if pair.hears_us => self.unheard(vlan),
                (true, false) => {}
            }
        }
        let known = |vlan: &u16| pair.ways.iter().any(|way| way.vlan == *vlan);
        for vlan in peer.into_iter().flat_map(|peer| &peer.unheard).filter(|vlan| !known(vlan)) {
            self.unheard(*vlan);
        }
    }

    fn unheard(&mut self, vlan: u16) {
        self.missing(
            "pair",
            format!("the peer does not hear this box on vlan {vlan}"),
            Some("check that VLAN in that direction: the switch, and both boxes' ports of it"),
        );
    }
}
