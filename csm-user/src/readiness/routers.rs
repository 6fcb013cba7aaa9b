//! The HSRP groups that the boxes speak for, as routers.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{BoxFacts, Check, Checks, Grade, Role};

/// A box's part in an HSRP group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouterFacts {
    /// It is the active router.
    pub active: bool,
    /// It hears an active router, or is it.
    pub has_active: bool,
    /// It hears a standby router, or is it.
    pub has_standby: bool,
}

impl Checks {
    /// Whoever forwards for a group must have a successor. Boxes that speak for none are not asked.
    pub(super) fn routers(&mut self, boxes: &[(&str, &BoxFacts)]) {
        const REMEDY: Option<&str> = Some("see `show standby` on both boxes");
        let groups: BTreeSet<&String> = boxes.iter().flat_map(|(_, of)| of.routers.keys()).collect();
        let before = self.0.len();
        for group in &groups {
            let parts: Vec<_> =
                boxes.iter().filter_map(|(who, of)| Some((*who, *of.routers.get(*group)?))).collect();
            let active: Vec<_> = parts.iter().filter(|(_, part)| part.active).collect();
            match active.as_slice() {
                [] if parts.iter().any(|(_, part)| part.has_active) => {}
                [] => self.missing("routers", format!("{group} has no active router"), REMEDY),
                [(who, part)] if part.has_standby => self.crossing(group, who, boxes),
                [(who, _)] => self.missing(
                    "routers",
                    format!("{who} is the active router of {group}, and no router stands by"),
                    REMEDY,
                ),
                _ => self.missing("routers", format!("both boxes are the active router of {group}"), REMEDY),
            }
        }
        if !groups.is_empty() && self.0.len() == before {
            self.good(
                "routers",
                "each HSRP group of these boxes has an active router and one that stands by",
            );
        }
    }
    /// Who routes should balance, too. It works all the same, so it is no more than a remark.
    fn crossing(&mut self, group: &str, router: &str, boxes: &[(&str, &BoxFacts)]) {
        let role = |of: &BoxFacts| of.role == Role::Active;
        let Some((active, _)) = boxes.iter().find(|(_, of)| role(of)) else { return };
        if *active == router {
            return;
        }
        let found = format!(
            "{router} is the active router of {group}, and {active} is active: traffic crosses between the boxes"
        );
        let remedy = "have the groups of a box move together: `standby N priority`, `preempt` and `track` alike in all of them, \
                      and `track group N` under `ft group`";
        self.0.push(Check { grade: Grade::Remark, about: "routers", found, remedy: Some(remedy) });
    }
}
