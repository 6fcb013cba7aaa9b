//! Which reals of a farm take whom: health, `inservice` and `backup real`. Pure.

use crate::model::{Real, RealAdmin, Serverfarm};

/// Whom a real takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Serving {
    /// New connections.
    New,
    /// Sticky clients that it has, and no others: of weight 0, or standby.
    Sticky,
    /// Nobody. Out of service, its clients must not come back for ever: it is to run empty.
    Nobody,
}

/// What each real of `farm` does, in their order; `is_well` says whether one could have traffic, `None` if no route leads there.
pub(super) fn serving(farm: &Serverfarm, is_well: impl Fn(&Real) -> Option<bool>) -> Vec<Serving> {
    let reals = &farm.reals;
    let mut serving: Vec<Serving> = reals
        .iter()
        .map(|real| match real.admin {
            RealAdmin::OutOfService => Serving::Nobody,
            _ if !is_well(real).unwrap_or(false) => Serving::Nobody,
            RealAdmin::InService if real.weight > 0 => Serving::New,
            RealAdmin::InService | RealAdmin::Standby => Serving::Sticky,
        })
        .collect();
    // Each with the place of the one that it names.
    let named: Vec<Option<usize>> = reals.iter().map(|real| named(reals, real)).collect();
    // Whose turn it is: all but standby reals, then whoever stands in for one of these that takes no new connections, and so on.
    let mut turn: Vec<bool> = reals.iter().map(|real| real.admin != RealAdmin::Standby).collect();
    loop {
        let wanted = |at: usize| {
            let is_named = named.contains(&Some(at));
            (0..reals.len()).filter(|&other| turn[other] && serving[other] != Serving::New).any(|other| {
                named[other] == Some(at) || (!is_named && reals[other].admin != RealAdmin::Standby)
            })
        };
        let Some(next) = (0..reals.len()).find(|&at| !turn[at] && wanted(at)) else { return serving };
        turn[next] = true;
        if serving[next] == Serving::Sticky && reals[next].weight > 0 {
            serving[next] = Serving::New;
        }
    }
}

/// Place among `reals` of the one that `real` names to stand in for it.
fn named(reals: &[Real], real: &Real) -> Option<usize> {
    let backup = real.backup.as_ref()?;
    reals.iter().position(|other| (other.address, other.port) == (backup.address, backup.port))
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::Serving::{New, Nobody, Sticky};
    use super::*;
    use crate::model::{BackupReal, ConnectionLimit, Name};

    fn address(last: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, last).into()
    }

    /// Reals 1, 2, ... with their state and whom they name.
    fn farm(reals: &[(RealAdmin, Option<u8>)]) -> Serverfarm {
        let real = |(last, (admin, backup)): (u8, &(RealAdmin, Option<u8>))| Real {
            address: address(last),
            port: None,
            weight: 8,
            limit: ConnectionLimit::default(),
            admin: *admin,
            probes: Vec::new(),
            name: None,
            backup: backup.map(|last| BackupReal { address: address(last), port: None, name: None }),
        };
        let reals = (1..).zip(reals).map(real).collect();
        Serverfarm { reals, ..Serverfarm::new(Name::new("F").expect("a name")) }
    }

    fn with_failed(farm: &Serverfarm, failed: &[u8]) -> Vec<Serving> {
        serving(farm, |real| Some(failed.iter().all(|last| real.address != address(*last))))
    }

    const UP: RealAdmin = RealAdmin::InService;
    const STANDBY: RealAdmin = RealAdmin::Standby;

    #[test]
    fn a_standby_real_takes_new_connections_only_in_the_place_of_one_that_names_it() {
        let farm = farm(&[(UP, Some(3)), (UP, None), (STANDBY, None)]);
        assert_eq!(with_failed(&farm, &[]), [New, New, Sticky]);
        assert_eq!(with_failed(&farm, &[2]), [New, Nobody, Sticky], "nobody stands in for 2");
        assert_eq!(with_failed(&farm, &[1]), [Nobody, New, New]);
        assert_eq!(with_failed(&farm, &[1, 3]), [Nobody, New, Nobody]);
    }

    #[test]
    fn one_that_nobody_names_stands_in_for_each() {
        let mut farm = farm(&[(UP, None), (UP, None), (STANDBY, None)]);
        assert_eq!(with_failed(&farm, &[]), [New, New, Sticky]);
        assert_eq!(with_failed(&farm, &[2]), [New, Nobody, New]);
        farm.reals[0].admin = RealAdmin::OutOfService;
        assert_eq!(with_failed(&farm, &[]), [Nobody, New, New], "out of service, too");
        farm.reals[0].admin = UP;
        farm.reals[0].weight = 0;
        assert_eq!(with_failed(&farm, &[]), [Sticky, New, New], "and of weight 0");
    }

    #[test]
    fn standby_reals_stand_in_for_one_another_in_a_row_and_a_ring_of_them_ends() {
        let row = farm(&[(UP, Some(2)), (STANDBY, Some(3)), (STANDBY, None)]);
        assert_eq!(with_failed(&row, &[2]), [New, Nobody, Sticky], "nobody needed 2");
        assert_eq!(with_failed(&row, &[1]), [Nobody, New, Sticky]);
        assert_eq!(with_failed(&row, &[1, 2]), [Nobody, Nobody, New]);
        let ring = farm(&[(STANDBY, Some(2)), (STANDBY, Some(1))]);
        assert_eq!(with_failed(&ring, &[]), [Sticky, Sticky]);
    }
}
