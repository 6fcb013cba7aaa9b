//! Announcements seen from outside: what neighbours believe after a takeover, by the first announcement alone, and that nobody hears a
//! standby.

use std::net::IpAddr;
use std::time::Duration;

use csm_common::net::virtual_mac;
use csm_tests::announcement::{Announcement, Form, announcements};
use csm_tests::checks::{claims, not_silent, show_mac};
use csm_tests::lab::{Lab, Options};
use csm_tests::netns::{Netns, run};
use csm_tests::node::Fault;
use csm_tests::programs::Programs;
use csm_tests::status::Role;
use csm_tests::strays;
use csm_tests::topology::{ALIAS, ALIAS6, Side, VIP, VIP6};
use csm_tests::wait::{self, now_ns};

use crate::{finish, out};

const LIMIT: Duration = Duration::from_secs(20);
const PACE: Duration = Duration::from_millis(5);
/// Where a neighbour believes the group's address to be: nowhere.
const WRONG: &str = "02:00:00:de:ad:01";

/// A neighbour of the pair, its port of the switch, and the group's address that it speaks to.
struct Neighbour<'a> {
    netns: &'a Netns,
    port: &'static str,
    address: IpAddr,
}

impl Neighbour<'_> {
    fn all(lab: &Lab) -> [Neighbour<'_>; 4] {
        let (router, server) = (&lab.topology.router, &lab.topology.servers[0]);
        [
            Neighbour { netns: router, port: "sw-router", address: VIP.into() },
            Neighbour { netns: server, port: "sw-s1", address: ALIAS.into() },
            Neighbour { netns: router, port: "sw-router", address: VIP6.into() },
            Neighbour { netns: server, port: "sw-s1", address: ALIAS6.into() },
        ]
    }

    /// Has it believe what is wrong, and be sure of it: nothing but an announcement changes its mind soon. The node's own
    /// announcements do, also between the two commands here: then once more.
    fn mislead(&self) {
        let Self { netns, address, .. } = self;
        let wrong = format!("neigh replace {address} lladdr {WRONG} dev eth0 nud reachable");
        let what = format!("{WRONG} as the MAC address of {address}");
        wait::until(&what, LIMIT, PACE, || {
            netns.ip(std::slice::from_ref(&wrong))?;
            Ok((self.believes().as_deref() == Some(WRONG)).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error:#}: {:?}", self.believes()));
    }

    /// The MAC address in its ARP table or neighbour cache.
    fn believes(&self) -> Option<String> {
        let mut command = self.netns.command("ip").expect("ip");
        let shown = run(command.args(["neigh", "show", "to", &self.address.to_string(), "dev", "eth0"]));
        let shown = shown.expect("ip neigh");
        let mut words = shown.split_whitespace().skip_while(|&word| word != "lladdr");
        words.nth(1).map(str::to_owned)
    }

    fn follows(&self, what: &str) {
        let right = show_mac(&virtual_mac(1));
        let what = format!("the MAC address of {} after {what}", self.address);
        wait::until(&what, LIMIT, PACE, || Ok((self.believes().as_ref() == Some(&right)).then_some(())))
            .unwrap_or_else(|error| panic!("{error:#}: {:?}", self.believes()));
    }

    const fn forms(&self) -> &'static [Form] {
        match self.address {
            IpAddr::V4(_) => &[Form::Request, Form::Reply],
            IpAddr::V6(_) => &[Form::Advertisement],
        }
    }
}

/// Sends `frame` out of one port of the switch, so that its neighbour hears it and nobody else.
fn send(lab: &Lab, port: &str, frame: &[u8]) {
    use std::os::fd::AsRawFd;

    use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, bind, send, socket};

    let sent = lab.topology.switch.within(|| -> nix::Result<usize> {
        let kind = (AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC);
        let socket = socket(kind.0, kind.1, kind.2, Some(SockProtocol::EthAll))?;
        let index = nix::net::if_::if_nametoindex(port)?;
        let address = link_address(index);
        bind(socket.as_raw_fd(), &address)?;
        send(socket.as_raw_fd(), frame, MsgFlags::empty())
    });
    assert_eq!(sent.expect("the switch"), Ok(frame.len()));
}

fn link_address(index: u32) -> nix::sys::socket::LinkAddr {
    use nix::sys::socket::SockaddrLike;

    // SAFETY: all zeros are a valid address of no protocol.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).expect("17");
    address.sll_ifindex = i32::try_from(index).expect("an index");
    // SAFETY: a whole sockaddr_ll of the family it names.
    let made = unsafe {
        let length = libc::socklen_t::try_from(size_of_val(&address)).expect("20");
        nix::sys::socket::LinkAddr::from_raw((&raw const address).cast(), Some(length))
    };
    made.expect("a link address")
}

/// What nodes announced since then, all of it good and from the group's MAC address.
fn heard(lab: &Lab, since_ns: u64) -> Vec<Announcement> {
    let (good, faults) = announcements(&lab.capture.frames(since_ns, now_ns()));
    assert_eq!(faults, Vec::<String>::new());
    let own: Vec<Announcement> =
        good.into_iter().filter(|one| Neighbour::all(lab).iter().any(|n| n.address == one.address)).collect();
    assert!(own.iter().all(|one| one.mac == virtual_mac(1)), "{own:?}");
    own
}

/// Frames of a node that ended for `reason`.
fn count(lab: &mut Lab, side: Side, reason: &str) -> u64 {
    let stats = lab.node(side).command("show module csm 5 stats").expect("show stats");
    let line = stats.lines().find(|line| line.split_whitespace().next() == Some(reason));
    line.and_then(|line| line.split_whitespace().nth(2)?.replace(',', "").parse().ok()).unwrap_or(0)
}

fn ping(lab: &Lab, address: IpAddr) -> bool {
    let mut ping = lab.topology.router.command("ping").expect("ping");
    let ping = ping.args(["-q", "-c", "3", "-i", "0.05", "-W", "1", &address.to_string()]);
    ping.output().expect("ping").status.success()
}

#[test]
fn neighbours_follow_the_first_announcement_and_nobody_hears_a_standby() {
    let programs = Programs::beside_this_one().expect("built programs");
    let options = Options { ipv6: true, ..Options::small(programs, out("announce")) };
    let mut lab = Lab::build(options).expect("a lab");
    let old = lab.start(LIMIT).expect("one active, one standby");
    let new = old.peer();

    // A standby that gets everything for the virtual MAC drops it, in both families.
    for address in [IpAddr::from(VIP), VIP6.into()] {
        wait::until("an answer", LIMIT, PACE, || Ok(ping(&lab, address).then_some(()))).expect("an answer");
        let (before, began) = (count(&mut lab, new, "drop_standby"), now_ns());
        strays::steer(&lab, new).expect("steer");
        assert!(!ping(&lab, address), "{address} answers by its standby");
        strays::release(&lab, new).expect("release");
        assert!(count(&mut lab, new, "drop_standby") >= before + 3, "the standby drops and counts them");
        let said = claims(&lab.capture.frames(began, now_ns()), &[VIP, ALIAS]);
        assert_eq!(not_silent(&said, &[], new, began), Vec::<String>::new());
        assert!(heard(&lab, began).iter().all(|one| one.by == old), "a standby announces nothing");
    }

    // A takeover: all follow.
    Neighbour::all(&lab).iter().for_each(Neighbour::mislead);
    let began = now_ns();
    lab.fail(old, Fault::FtActive).expect("clear ft active");
    lab.node(new).wait_for(Role::Active, LIMIT).expect("takeover");
    for neighbour in Neighbour::all(&lab) {
        neighbour.follows("a takeover");
    }
    let said = heard(&lab, began);
    for neighbour in Neighbour::all(&lab) {
        for form in neighbour.forms() {
            let one =
                said.iter().find(|one| (one.address, one.form, one.by) == (neighbour.address, *form, new));
            let one = one.unwrap_or_else(|| panic!("{:?} of {}", form, neighbour.address));
            // Of that one alone. The node repeats itself, for two seconds now and every fifteen: then it is tried again.
            let alone = (0..8).any(|_| {
                neighbour.mislead();
                let began = now_ns();
                send(&lab, neighbour.port, &one.frame);
                neighbour.follows(&format!("one {form:?}"));
                heard(&lab, began).iter().all(|other| other.address != one.address)
            });
            assert!(alone, "{form:?} of {}: the node never stops", one.address);
        }
    }
    finish(lab);
}
