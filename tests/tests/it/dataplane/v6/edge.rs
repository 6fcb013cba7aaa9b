use std::net::Ipv6Addr;

use aya::maps::{HashMap, MapData};
use csm_common::address::{Address, V6};
use csm_common::counter::Reason;
use csm_common::names;
use csm_common::rate::RateKey;
use csm_common::service::{Real, VSERVER_BACKUP, VSERVER_COUNTED, ring_slot, weighted_slot};
use csm_tests::rig::{Rig, Side};
use csm_tests::rig6::{self, DNS6, FAR6, FIRST6, Host6, VIP6, WEB6};

use super::frames::Frame6;
use crate::dataplane::frames::{L4, SYN};
use crate::dataplane::rates::{refused, slow};

fn open(rig: &mut Rig, net: u16, last: u16) -> Reason {
    let ip = Ipv6Addr::new(0x2001, 0xdb8, 0xa, net, 0, 0, 0, last);
    let frame = Frame6::from(&Host6 { ip, ..FAR6 }, 1000, (VIP6, 80), L4::Tcp { flags: SYN, seq: 1, ack: 0 });
    rig.run(Side::Client, &frame.bytes()).reason
}

#[test]
fn rates_are_limited_as_in_ipv4() {
    let mut rig = rig6::rig().expect("the rig");
    rig6::vserver(&rig, WEB6, |vserver| {
        (vserver.rate, vserver.client_rate) = (slow(4), slow(2));
        vserver.client_rate_mask_be = V6::mask(64);
    });
    let new = Reason::ForwardedNew;
    assert_eq!([1, 2, 3].map(|last| open(&mut rig, 1, last)), [new, new, Reason::DropClientRate]);
    assert_eq!([1, 2, 3].map(|last| open(&mut rig, 2, last)), [new, new, Reason::DropRate]);
    assert_eq!(open(&mut rig, 1, 2), Reason::ForwardedFlow);
    assert_eq!(refused(&rig, WEB6), (1, 1));
    let clients: HashMap<MapData, RateKey<V6>, u64> = rig.map(names::CLIENT_RATES6);
    assert_eq!(clients.iter().count(), 2);
}

#[test]
fn reals_have_limits_and_a_backup_as_in_ipv4() {
    let mut rig = rig6::rig().expect("the rig");
    for real in FIRST6..FIRST6 + 3 {
        rig.change(names::REALS6, real, |real: &mut Real<V6>| (real.max_conns, real.min_conns) = (2, 2));
        rig.change(names::RINGS, ring_slot(WEB6, real - FIRST6), |slot: &mut u32| {
            *slot = weighted_slot(real, 1);
        });
    }
    rig6::vserver(&rig, WEB6, |vserver| {
        vserver.flags |= VSERVER_COUNTED;
        // The ring itself, once more.
        (vserver.ring_len, vserver.spare_len) = (1, 2);
    });
    let got: Vec<Reason> = (0..7).map(|last| open(&mut rig, 1, last)).collect();
    assert_eq!(got[..6], [Reason::ForwardedNew; 6]);
    assert_eq!(got[6], Reason::DropMaxConns);
    rig6::vserver(&rig, WEB6, |vserver| {
        vserver.flags |= VSERVER_BACKUP;
        vserver.backup = DNS6;
    });
    assert_eq!(open(&mut rig, 1, 7), Reason::ForwardedNew);
}
