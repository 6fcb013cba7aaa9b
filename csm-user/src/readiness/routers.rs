//! The HSRP groups that the boxes speak for, as routers.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{BoxFacts, Checks};

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
                [(_, part)] if part.has_standby => {}
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
}
