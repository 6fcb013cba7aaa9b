//! Tracked objects to a verdict. Pure: times are durations since the start.

use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::model::TrackMode;

/// Changes that are kept for `show`.
pub const CHANGES_MAX: usize = 32;

/// Kind of what is tracked; `track mode all` counts by kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// `track group`.
    Group,
    /// `track gateway`.
    Gateway,
    /// `track interface`.
    Interface,
    /// `track serverfarm`.
    Farm,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Group, Self::Gateway, Self::Interface, Self::Farm];

    /// Whether what comes back must stay for the hold-down. A group's routers have agreed on who is active, and their
    /// own delays are over.
    const fn is_held_down(self) -> bool {
        !matches!(self, Self::Group)
    }
}

/// What is tracked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Object {
    /// An HSRP group, and the router that should be active; of an address of the link its VLAN.
    Group(u16, IpAddr, Option<u16>),
    /// A VRRP group, and the router that should be its master.
    Vrrp(u8, Ipv4Addr),
    /// A router's address.
    Gateway(IpAddr),
    /// An interface of Linux.
    Interface(String),
    /// A server farm, and how many of its reals must be in rotation.
    Farm(String, u16),
}

/// Why something is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The interface was set down.
    AdministrativelyDown,
    /// It has no link.
    NoCarrier,
    /// There is no such interface.
    Gone,
    /// The group is spoken in another version of VRRP: what is heard, and what is configured.
    OtherVersion(u8, u8),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::AdministrativelyDown => "administratively down",
            Self::NoCarrier => "no carrier",
            Self::Gone => "no such interface",
            Self::OtherVersion(heard, configured) => {
                return write!(f, "it is heard in version {heard}, and version {configured} is configured");
            }
        })
    }
}

impl Object {
    /// Its kind.
    #[must_use]
    pub const fn class(&self) -> Class {
        match self {
            Self::Group(..) | Self::Vrrp(..) => Class::Group,
            Self::Gateway(_) => Class::Gateway,
            Self::Interface(_) => Class::Interface,
            Self::Farm(..) => Class::Farm,
        }
    }
}

/// As `track` names it.
impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(group, router, None) => write!(f, "group {group} router {router}"),
            Self::Group(group, router, Some(vlan)) => write!(f, "group {group} router {router} vlan {vlan}"),
            Self::Gateway(address) => write!(f, "gateway {address}"),
            Self::Interface(name) => write!(f, "interface {name}"),
            Self::Vrrp(group, router) => write!(f, "vrrp {group} router {router}"),
            Self::Farm(name, least) => write!(f, "serverfarm {name} minimum {least}"),
        }
    }
}

/// What happened, for `show` and the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// An object is up, or down.
    Object(Object, bool),
    /// The node is eligible now, or no longer.
    Eligible(bool),
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(object, true) => write!(f, "{object} is up"),
            Self::Object(object, false) => write!(f, "{object} is down"),
            Self::Eligible(true) => f.write_str("this box is eligible"),
            Self::Eligible(false) => f.write_str("this box is not eligible"),
        }
    }
}

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// When.
    pub at: Duration,
    /// Which.
    pub what: What,
}

/// An object and its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracked {
    /// Which.
    pub object: Object,
    /// Up or down; `None`: not known yet.
    pub up: Option<bool>,
    /// Since when; the start until it is known.
    pub since: Duration,
    /// Why it is down, if that is known.
    pub cause: Option<Cause>,
    /// When its hold-down ends; it counts while the node is not eligible.
    steady: Duration,
}

/// The machine. Objects that are not known count as down, so a node that has just started does not take the role before
/// it knows. What was never down counts at once; what comes back must stay for the hold-down before the node is eligible
/// again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracker {
    mode: TrackMode,
    hold_down: Duration,
    objects: Vec<Tracked>,
    eligible: bool,
    changes: VecDeque<Change>,
}

impl Tracker {
    /// Of `objects`; without any the node is eligible.
    #[must_use]
    pub fn new(mode: TrackMode, hold_down: Duration, objects: Vec<Object>) -> Self {
        let eligible = objects.is_empty();
        let unknown =
            |object| Tracked { object, up: None, since: Duration::ZERO, cause: None, steady: Duration::ZERO };
        Self {
            mode,
            hold_down,
            objects: objects.into_iter().map(unknown).collect(),
            eligible,
            changes: VecDeque::new(),
        }
    }

    /// The verdict.
    #[must_use]
    pub const fn is_eligible(&self) -> bool {
        self.eligible
    }

    /// What is tracked.
    #[must_use]
    pub fn objects(&self) -> &[Tracked] {
        &self.objects
    }

    /// The latest changes, oldest first.
    pub fn changes(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter()
    }

    /// When the hold-down ends, if it runs; [`Tracker::wake`] is due then.
    #[must_use]
    pub fn hold_down_ends(&self) -> Option<Duration> {
        let steady = self.objects.iter().map(|tracked| tracked.steady).max().unwrap_or_default();
        (!self.eligible && self.is_well()).then_some(steady)
    }

    /// `object` is up or down. Returns what changed by that.
    pub fn report(&mut self, object: &Object, up: bool, now: Duration) -> Vec<What> {
        let Some(tracked) = self.objects.iter_mut().find(|tracked| tracked.object == *object) else {
            return Vec::new();
        };
        if tracked.up == Some(up) {
            return Vec::new();
        }
        let held_down = up && tracked.up == Some(false) && object.class().is_held_down();
        let steady = if held_down { now + self.hold_down } else { now };
        (tracked.up, tracked.since, tracked.steady) = (Some(up), now, steady);
        let mut changed = vec![What::Object(object.clone(), up)];
        changed.extend(self.judge(now));
        self.record(&changed, now);
        changed
    }

    /// Why `object` is down, or will be said to be at once; `None`: it is not, or nobody knows. Returns whether that is new.
    pub fn explain(&mut self, object: &Object, cause: Option<Cause>) -> bool {
        let tracked = self.objects.iter_mut().find(|tracked| tracked.object == *object);
        tracked.is_some_and(|tracked| std::mem::replace(&mut tracked.cause, cause) != cause)
    }

    /// The hold-down may be over.
    pub fn wake(&mut self, now: Duration) -> Vec<What> {
        let changed: Vec<What> = self.judge(now).into_iter().collect();
        self.record(&changed, now);
        changed
    }

    fn judge(&mut self, now: Duration) -> Option<What> {
        let over = self.hold_down_ends().is_some_and(|end| now >= end);
        let eligible = self.is_well() && (self.eligible || over);
        (eligible != self.eligible).then(|| {
            self.eligible = eligible;
            What::Eligible(eligible)
        })
    }

    /// Whether nothing stands against the node at this moment.
    fn is_well(&self) -> bool {
        let of = |class: Class| self.objects.iter().filter(move |tracked| tracked.object.class() == class);
        let is_down = |tracked: &Tracked| tracked.up != Some(true);
        match self.mode {
            TrackMode::Any => !self.objects.iter().any(is_down),
            TrackMode::All => {
                let mut used = Class::ALL.into_iter().filter(|class| of(*class).next().is_some()).peekable();
                used.peek().is_none() || used.any(|class| !of(class).any(is_down))
            }
        }
    }

    fn record(&mut self, changed: &[What], now: Duration) {
        for what in changed {
            if self.changes.len() == CHANGES_MAX {
                self.changes.pop_front();
            }
            self.changes.push_back(Change { at: now, what: what.clone() });
        }
    }
}

#[cfg(test)]
mod tests;
