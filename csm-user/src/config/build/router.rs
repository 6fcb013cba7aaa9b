//! The host as a router: lines under `interface`, `ip route`, and `ipv6 route`.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::super::command::Id;
use super::super::parse::Statement;
use super::{Draft, net, put};
use crate::model::{
    RouterInterface, RouterRoute, StandbyAddress, StandbyAddress6, StandbyGroup, StandbyTrack,
};

/// Applies a line under `interface`; `None` if it lacks a word.
pub(super) fn interface(router: &mut RouterInterface, statement: &Statement) -> Option<()> {
    let no = statement.negated;
    match statement.id {
        Id::RouterAddress => {
            router.address = if no { None } else { Some(net(statement, "ADDRESS", "MASK")?) }
        }
        Id::RouterAddress6 => {
            router.address6 = match statement.net("ADDRESS", "") {
                _ if no => None,
                Some(IpNet::V6(net)) => Some(net),
                _ => return None,
            }
        }
        Id::StandbyVersion => router.version = if no { 1 } else { statement.number("VERSION")? },
        _ => return group(router, statement),
    }
    Some(())
}

fn group(router: &mut RouterInterface, statement: &Statement) -> Option<()> {
    let no = statement.negated;
    let number = statement.number("GROUP").unwrap_or(0);
    let new = || StandbyGroup::new(number);
    if no && matches!(statement.id, Id::StandbyIp | Id::StandbyIpv6) {
        if !statement.has("ip") && !statement.has("ipv6") {
            router.groups.retain(|group| group.number != number);
            return Some(());
        }
        // The group goes with the last of its addresses.
        let v6 = statement.id == Id::StandbyIpv6;
        router.groups.retain_mut(|group| {
            let other = if v6 { group.address.is_some() } else { group.address6.is_some() };
            match (group.number == number, v6) {
                (false, _) => return true,
                (true, true) => (group.address6, group.global) = (None, Vec::new()),
                (true, false) => group.address = None,
            }
            other
        });
        return Some(());
    }
    let group = super::entry(&mut router.groups, |group| group.number == number, new);
    let delay = || Duration::from_secs(statement.number("SECONDS").unwrap_or(0));
    match statement.id {
        Id::StandbyIp => {
            let given = statement.address4("ADDRESS").map(StandbyAddress::Given);
            group.address = Some(given.unwrap_or(StandbyAddress::Learned));
        }
        Id::StandbyPrefix => match statement.net("NETWORK", "")? {
            IpNet::V6(net) => put(&mut group.global, net, no),
            IpNet::V4(_) => return None,
        },
        Id::StandbyIpv6 => {
            group.address6 = Some(match statement.address("ADDRESS") {
                Some(IpAddr::V6(address)) => StandbyAddress6::LinkLocal(address),
                _ => StandbyAddress6::Autoconfig,
            });
        }
        Id::StandbyPriority if no => group.priority = StandbyGroup::PRIORITY,
        Id::StandbyPriority => {
            group.priority = statement.number("PRIORITY")?;
            if statement.has("preempt") {
                (group.preempt, group.preempt_delay) = (true, delay());
            }
        }
        Id::StandbyPreempt if no => (group.preempt, group.preempt_delay) = (false, Duration::ZERO),
        Id::StandbyPreempt => (group.preempt, group.preempt_delay) = (true, delay()),
        Id::StandbyTimers if no => group.timers = None,
        Id::StandbyTimers => {
            let time = |seconds, milliseconds| {
                let seconds = statement.number(seconds).map(Duration::from_secs);
                seconds.or_else(|| statement.number(milliseconds).map(Duration::from_millis))
            };
            group.timers = Some((time("HELLO", "HELLO-MSEC")?, time("HOLD", "HOLD-MSEC")?));
        }
        Id::StandbyAuthentication => group.authentication = statement.text("TEXT").filter(|_| !no),
        Id::StandbyName if no => group.name = None,
        Id::StandbyName => group.name = Some(statement.name()?.clone()),
        Id::StandbyTrack => {
            let interface = statement.text("INTERFACE")?;
            group.track.retain(|track| track.interface != interface);
            if !no {
                let decrement = statement.number("DECREMENT").unwrap_or(StandbyGroup::DECREMENT);
                group.track.push(StandbyTrack { interface, decrement });
            }
        }
        _ => return None,
    }
    Some(())
}

/// Applies `ip route` or `ipv6 route`.
pub(super) fn route(draft: &mut Draft, statement: &Statement) -> Option<()> {
    let network = statement.net("NETWORK", "MASK")?.trunc();
    let route = RouterRoute { network, gateway: statement.address("ADDRESS")? };
    put(&mut draft.config.routes, route, statement.negated);
    Some(())
}
