//! What the loss of this box would take with it: entries that nobody is told of. Pure.

use std::collections::BTreeMap;

use super::expiry::Census;
use super::plan::{Desired, PRIVATE_STICKY};
use super::snapshot::Directory;

/// A virtual server that drains, and whose name is forgotten.
const REMOVED: &str = "a virtual server that was removed";

/// Connections and sticky entries that are not replicated, by what the last walk over the tables met (`census`, `None`
/// before the first has ended): whoever they belong to, in service, out of service, or removed.
#[must_use]
pub fn unreplicated(desired: &Desired, directory: &Directory, census: Option<&Census>) -> Vec<String> {
    let name = |number: u32| {
        desired.vservers.get(&number).map_or_else(|| REMOVED.to_owned(), |known| known.name.to_string())
    };
    let Some(census) = census else {
        let mut unknown: Vec<String> = directory
            .unreplicated()
            .map(|number| format!("the connections of {}, which were not counted yet,", name(number)))
            .collect();
        unknown.sort();
        return unknown;
    };
    // Several that were removed are told of together.
    let mut connections: BTreeMap<String, u64> = BTreeMap::new();
    for (&number, count) in census.vservers.iter().filter(|(number, _)| !directory.replicates(**number)) {
        *connections.entry(name(number)).or_default() += count;
    }
    let connections = connections.into_iter().filter(|(_, count)| *count > 0);
    let connections = connections.map(|(name, count)| format!("{count} connections of {name}"));
    let groups = census.groups.iter().filter(|(group, _)| !directory.replicates_sticky(**group));
    let sticky = groups.map(|(group, count)| match group.checked_sub(PRIVATE_STICKY) {
        None => format!("{count} sticky entries of group {group}"),
        Some(vserver) => format!("{count} sticky entries of {}", name(vserver)),
    });
    connections.chain(sticky).collect()
}

#[cfg(test)]
mod tests {
    use super::{Census, Directory, unreplicated};
    use crate::dataplane::plan::tests::{figure_7_1, hops};
    use crate::dataplane::plan::{Assignments, Desired, HealthView, plan};
    use crate::model::Config;
    use csm_common::flow::NONE;

    fn planned(config: &Config, numbers: &mut Assignments) -> (Desired, Directory) {
        let hops = hops(&figure_7_1());
        let desired = plan(config, &HealthView::default(), &hops, numbers).expect("a plan");
        let directory = Directory::of(&desired);
        (desired, directory)
    }

    fn census(connections: &[(u32, u64)], groups: &[(u32, u64)]) -> Census {
        Census {
            vservers: connections.iter().copied().collect(),
            groups: groups.iter().copied().collect(),
            ..Census::default()
        }
    }

    #[test]
    fn what_is_not_replicated_counts_until_it_has_ended_whatever_is_configured() {
        let (mut config, mut numbers) = (figure_7_1(), Assignments::default());
        let five = census(&[(0, 5), (NONE, 9)], &[(10, 3)]);
        let (desired, directory) = planned(&config, &mut numbers);
        assert_eq!(unreplicated(&desired, &directory, None), Vec::<String>::new());
        assert_eq!(
            unreplicated(&desired, &directory, Some(&five)),
            Vec::<String>::new(),
            "all are replicated"
        );

        let vserver = &mut config.vservers[0];
        (vserver.replicate_connection, vserver.replicate_sticky) = (false, false);
        let lost = ["5 connections of VIP1", "3 sticky entries of group 10"];
        let (desired, directory) = planned(&config, &mut numbers);
        assert_eq!(unreplicated(&desired, &directory, Some(&five)), lost);
        assert_eq!(
            unreplicated(&desired, &directory, None),
            ["the connections of VIP1, which were not counted yet,"]
        );
        assert_eq!(unreplicated(&desired, &directory, Some(&census(&[(0, 0)], &[]))), Vec::<String>::new());

        config.vservers[0].inservice = false;
        let (desired, out_of_service) = planned(&config, &mut numbers);
        assert_eq!(unreplicated(&desired, &out_of_service, Some(&five)), lost, "they go on");
        config.vservers.clear();
        let (desired, bare) = planned(&config, &mut numbers);
        let removed = bare.keeping(&out_of_service, &numbers);
        assert_eq!(
            unreplicated(&desired, &removed, Some(&five)),
            ["5 connections of a virtual server that was removed", lost[1]]
        );
    }
}
