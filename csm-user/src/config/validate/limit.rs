//! Limits of reals and of rates, backup farms, and when they serve.

use super::super::command::Id;
use super::super::parse::Section;
use super::{Checker, family};
use crate::model::{Backup, Family, Predictor, RealAdmin, Serverfarm, Threshold, Vserver};

/// `maxconns` and `minconns` of a farm's reals.
pub(super) fn farm(checker: &mut Checker<'_>, farm: &Serverfarm) {
    for real in &farm.reals {
        let section = Section::of_real(farm, real);
        let Some(min) = real.limit.min else { continue };
        let place = checker.tree.place(&section, Id::MinConns, "COUNT");
        match real.limit.max {
            None => {
                let message = "`minconns` has no meaning without `maxconns`";
                checker.warning(place, message, "add `maxconns COUNT`, or remove the line");
            }
            Some(max) if min > max => {
                let message =
                    format!("minconns {min} is more than maxconns {max}: it would never be waited for");
                checker.error(place, message, format!("at most `minconns {max}`"));
            }
            Some(_) => {}
        }
    }
}

/// The backup farm of a virtual server, and whom its rates tell apart.
pub(super) fn vserver(checker: &mut Checker<'_>, vserver: &Vserver, section: &Section) {
    // Without an address it is of no family yet.
    if let Some(limit) = vserver.rate_limits.client.filter(|_| vserver.virtual_server.is_some()) {
        family::part(checker, section, Id::ClientRateLimit, vserver.family(), (limit.bits, limit.bits6));
    }
    if let Some(backup) = &vserver.backup {
        backup_farm(checker, vserver, section, Id::VserverFarm, backup);
    }
    if let Some(name) = &vserver.owner
        && checker.config.owner_of(vserver).is_none()
    {
        let place = checker.tree.place(section, Id::VserverOwner, "NAME");
        checker.error(
            place,
            format!("there is no owner {name}"),
            format!("add `owner {name}` to the module"),
        );
    }
    if let Some(known) = vserver.threshold {
        threshold(checker, vserver, section, known);
    }
}

fn threshold(checker: &mut Checker<'_>, vserver: &Vserver, section: &Section, known: Threshold) {
    let Threshold { outservice, inservice } = known;
    let place = checker.tree.place(section, Id::VserverFarm, "UP");
    if inservice < outservice {
        let message =
            format!("with {inservice} reals the farm is up again, with fewer than {outservice} it is down");
        return checker.error(place, message, format!("at least `inservice {outservice}`"));
    }
    let Some(farm) = vserver.serverfarm.as_ref().and_then(|name| checker.serverfarm(name)) else {
        return;
    };
    let place = checker.tree.place(section, Id::VserverFarm, "threshold");
    if farm.predictor == Predictor::Forward {
        let message = "`predictor forward` has no reals: there are none to count";
        return checker.error(place, message, "leave `threshold` out");
    }
    let reals = farm.reals.iter().filter(|real| real.admin != RealAdmin::OutOfService).count();
    if usize::from(inservice) > reals {
        let when =
            if usize::from(outservice) > reals { "it is always down" } else { "once down it stays down" };
        let message =
            format!("server farm {} has {reals} reals in service, fewer than {inservice}: {when}", farm.name);
        checker.warning(place, message, "lower the threshold, or add reals");
    }
}

/// The backup farm that line `id` of `section` names.
pub(super) fn backup_farm(
    checker: &mut Checker<'_>,
    vserver: &Vserver,
    section: &Section,
    id: Id,
    named: &Backup,
) {
    let place = checker.tree.place(section, id, "BACKUP");
    let Some(backup) = checker.serverfarm(&named.farm) else {
        let remedy = format!("add `serverfarm {}` with its reals before this virtual server", named.farm);
        checker.error(place, format!("there is no server farm {}", named.farm), remedy);
        return;
    };
    // One that is missing was named before.
    let Some(farm) = vserver.serverfarm.as_ref().and_then(|name| checker.serverfarm(name)) else {
        return;
    };
    if farm.name == backup.name {
        let message = format!("farm {} cannot be its own backup", farm.name);
        return checker.error(place, message, "name another server farm");
    }
    if [farm, backup].iter().any(|farm| farm.predictor == Predictor::Forward) {
        let message =
            "`predictor forward` has no reals: there is nothing to stand in for, and nobody who could";
        return checker.error(place, message, "use farms with reals, or leave `backup` out");
    }
    if farm.nat_server != backup.nat_server {
        let message = format!(
            "farm {} and its backup {} must be alike in `nat server`: a client's packets change in one way",
            farm.name, backup.name
        );
        checker.error(place, message, "make both `nat server`, or both `no nat server`");
    }
    let of = |farm: &Serverfarm| farm.reals.first().map(|real| Family::of(real.address));
    if vserver.virtual_server.is_some() && of(backup).is_some_and(|family| family != vserver.family()) {
        let message =
            format!("virtual server {} is {}, its backup farm is not", vserver.name, vserver.family());
        checker.error(place, message, family::REMEDY);
    }
    if named.sticky && vserver.sticky.is_none() {
        let message = "there are no sticky entries for the backup farm";
        let place = checker.tree.place(section, id, "sticky");
        checker.warning(place, message, "add `sticky MINUTES`, or leave `sticky` out here");
    }
}
