//! Which virtual server a first packet is for.

use csm_common::flow::FlowKey;
use csm_common::service::{Vserver, VserverKey};

use crate::maps;

/// Number and facts of the virtual server that `key`'s destination and VLAN match: its port first, then any port.
#[inline(always)]
pub(crate) fn lookup(key: &FlowKey) -> Option<(u32, &'static Vserver)> {
    lookup_port(key, key.dport_be).or_else(|| lookup_port(key, 0))
}

#[inline(always)]
fn lookup_port(key: &FlowKey, port_be: u16) -> Option<(u32, &'static Vserver)> {
    let wanted = VserverKey { ip_be: key.dst_be, port_be, proto: key.proto, pad: 0 };
    // SAFETY: the value is a plain number; one that was just replaced leads to a slot that is still valid.
    let number = *unsafe { maps::VSERVER_KEYS.get(wanted) }?;
    let vserver = maps::VSERVERS.get(number)?;
    (vserver.vlan == 0 || vserver.vlan == u32::from(key.vlan)).then_some((number, vserver))
}
