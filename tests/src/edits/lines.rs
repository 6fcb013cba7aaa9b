//! Lines as an operator might type them, at random.

/// A sequence of edits; the same seed gives the same sequence.
#[derive(Clone, Copy, Debug)]
pub struct Random(u64);

impl Random {
    /// From a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// splitmix64, by Sebastiano Vigna.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        let at = self.below(all.len() as u64);
        all[usize::try_from(at).unwrap_or_default()]
    }

    /// The next edit. It concerns farms, virtual servers, pools and routes of its own, and of those that carry the lab's
    /// traffic whatever may change while connections go on.
    #[must_use]
    pub fn edit(&mut self) -> String {
        match self.below(14) {
            13 => {
                let name = self.of(&["O1", "O2"]);
                match self.below(4) {
                    0 => format!("no owner {name}\n"),
                    1 => format!("owner {name}\n no maxconns\n"),
                    _ => format!("owner {name}\n maxconns {}\n", 50 + self.below(50)),
                }
            }
            0..=3 => self.farm(),
            4..=7 => self.vserver(),
            8 => self.of_traffic(),
            9 => self.vlan(),
            10 => {
                let first = 60 + self.below(3);
                self.of(&[
                    format!("natpool P1 192.158.39.{first} 192.158.39.{} netmask 255.255.255.0\n", first + 1)
                        .as_str(),
                    "no natpool P1\n",
                ])
                .to_owned()
            }
            // Two sections at once, one of them faulty: all or nothing.
            _ => {
                let good = self.farm();
                format!("{good}exit\nvserver T1\n frobnicate\n")
            }
        }
    }

    fn farm(&mut self) -> String {
        let name = self.of(&["F1", "F2", "F3", "F4"]);
        let real = self.of(&["192.158.39.101", "192.158.39.102", "192.158.39.103"]);
        let port = self.of(&["", " 80", " 8080"]);
        let weight = self.below(20);
        match self.below(10) {
            0 => format!("no serverfarm {name}\n"),
            1 | 2 => format!("serverfarm {name}\n no real {real}{port}\n"),
            3 => format!("serverfarm {name}\n real {real}{port}\n  no inservice\n"),
            4 => {
                let predictor = self.of(&["roundrobin", "leastconns", "hash address", "hash address source"]);
                format!("serverfarm {name}\n predictor {predictor}\n")
            }
            5 => format!(
                "serverfarm {name}\n {}\n",
                self.of(&["nat client P1", "no nat client", "no nat server", "nat server"])
            ),
            _ => format!("serverfarm {name}\n real {real}{port}\n  weight {weight}\n  inservice\n"),
        }
    }

    fn vserver(&mut self) -> String {
        let name = self.of(&["T1", "T2", "T3", "T4", "T5"]);
        let farm = self.of(&["F1", "F2", "F3", "F4"]);
        let address =
            self.of(&["192.158.38.31", "192.158.38.32", "192.158.38.40", "192.158.50.0 255.255.255.0"]);
        let service = self.of(&["tcp www", "tcp 8080", "udp 53", "any", "tcp 0"]);
        let line = match self.below(13) {
            12 => self.of(&["owner O1", "owner O2", "no owner"]).to_owned(),
            0 => return format!("no vserver {name}\n"),
            1 => "no inservice".to_owned(),
            2 => format!("idle {}", 600 + self.below(100)),
            3 => format!("sticky {} group {}", 5 + self.below(3), self.below(3)),
            4 => "no sticky".to_owned(),
            5 => self
                .of(&["replicate csrp connection", "no replicate csrp connection", "replicate csrp sticky"])
                .to_owned(),
            6 => self
                .of(&["vlan 2", "no vlan", "client 10.0.0.0 255.0.0.0", "no client 10.0.0.0 255.0.0.0"])
                .to_owned(),
            8 => self.of(&["reverse-sticky 1", "reverse-sticky 2", "no reverse-sticky"]).to_owned(),
            7 => self.of(&["unidirectional", "no unidirectional", "pending 20"]).to_owned(),
            _ => format!("virtual {address} {service}\n serverfarm {farm}\n inservice"),
        };
        format!("vserver {name}\n {line}\n")
    }

    /// The farm and the virtual servers whose connections must live.
    fn of_traffic(&mut self) -> String {
        let farm = self.of(&["WEB", "MESSAGES"]);
        let real = self.of(&["192.158.39.101", "192.158.39.102", "192.158.39.103"]);
        match self.below(5) {
            0 => format!("serverfarm {farm}\n no real {real}\n"),
            1 | 2 => {
                format!("serverfarm {farm}\n real {real}\n  weight {}\n  inservice\n", 1 + self.below(9))
            }
            3 => format!("vserver MESSAGES\n idle {}\n", 900 + self.below(90)),
            _ => format!("serverfarm {farm}\n predictor {}\n", self.of(&["roundrobin", "leastconns"])),
        }
    }

    fn vlan(&mut self) -> String {
        let net = 60 + self.below(3);
        let via = self.of(&["192.158.39.101", "192.158.39.102"]);
        let no = self.of(&["", "no "]);
        format!("vlan 3 server\n {no}route 10.{net}.0.0 255.255.0.0 gateway {via}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_sequence_and_most_of_it_is_good() {
        let edits = |seed| {
            let mut random = Random::new(seed);
            std::iter::repeat_with(move || random.edit()).take(50).collect::<Vec<_>>()
        };
        assert_eq!(edits(1), edits(1));
        assert_ne!(edits(1), edits(2));
    }
}
