//! The far end of a static port channel, as a switch has it: what comes from any of its links is from one neighbour, what goes to
//! that neighbour takes one link, chosen by the flow. TC programs made by hand, since a kernel may have no bonding.

use std::io;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use nix::net::if_::if_nametoindex;

use crate::netns::{Netns, run};
use crate::tc::{REDIRECT, attach, index, instruction};

/// `bpf_get_hash_recalc` of linux/bpf.h: of addresses and ports.
const HASH: i32 = 34;

/// A channel of two links; dropping it takes the programs off.
#[derive(Debug)]
pub struct Channel {
    netns: String,
    links: [String; 2],
    /// The links' side.
    _inward: [OwnedFd; 2],
    /// The cable's side.
    outward: OwnedFd,
    cable: String,
}

impl Channel {
    /// Makes `links`, interfaces of `netns`, one channel whose other side is the interface `cable`.
    ///
    /// # Errors
    /// Without root, or before Linux 6.6.
    pub fn start(netns: &Netns, links: [&str; 2], cable: &str) -> Result<Self> {
        let links = links.map(str::to_owned);
        let made = netns.within(|| -> io::Result<_> {
            let far = if_nametoindex(cable)?;
            let [first, second] = [if_nametoindex(&*links[0])?, if_nametoindex(&*links[1])?];
            let inward = [attach(&inward(far), first)?, attach(&inward(far), second)?];
            Ok((inward, attach(&outward([first, second]), far)?))
        })?;
        let (inward, outward) = made.context("the programs of a port channel")?;
        Ok(Self { netns: netns.name().to_owned(), links, _inward: inward, outward, cable: cable.to_owned() })
    }

    /// Sends only over those of the links that are named, as a switch does when the others have no carrier.
    ///
    /// # Errors
    /// When no link is left, or of the kernel.
    pub fn use_only(&mut self, netns: &Netns, usable: &[&str]) -> Result<()> {
        let (first, last) = (usable.first().context("no link is left")?, usable.last().context("none")?);
        let (cable, chosen) = (&self.cable, [*first, *last]);
        let program = netns.within(|| -> io::Result<_> {
            let [first, last] = [if_nametoindex(chosen[0])?, if_nametoindex(chosen[1])?];
            attach(&outward([first, last]), if_nametoindex(cable.as_str())?)
        })?;
        // The one before it goes when the new one is there; which of the two runs first makes no difference: both redirect.
        self.outward = program.context("another program of a port channel")?;
        Ok(())
    }

    /// Packets that each link has carried, to and from the neighbour.
    ///
    /// # Errors
    /// Of `ip`.
    pub fn carried(&self) -> Result<[[u64; 2]; 2]> {
        let of = |link: &String| -> Result<[u64; 2]> {
            let mut command = std::process::Command::new("ip");
            let told =
                run(command.args(["-netns", &self.netns, "-json", "-stats", "link", "show", "dev", link]))?;
            let told: serde_json::Value = serde_json::from_str(&told).context("what ip prints")?;
            let counted = |way: &str| told[0]["stats64"][way]["packets"].as_u64().context("no counter");
            Ok([counted("tx")?, counted("rx")?])
        };
        Ok([of(&self.links[0])?, of(&self.links[1])?])
    }
}

/// Hands everything to `far`.
fn inward(far: u32) -> Vec<u64> {
    vec![
        instruction(0xb7, 0x01, 0, index(far)), // r1 = far
        instruction(0xb7, 0x02, 0, 0),          // r2 = 0
        instruction(0x85, 0, 0, REDIRECT),      // call
        instruction(0x95, 0, 0, 0),             // exit
    ]
}

/// Hands each flow to one of the links.
fn outward(links: [u32; 2]) -> Vec<u64> {
    vec![
        instruction(0x85, 0, 0, HASH),               // r0 = hash of r1, the frame
        instruction(0x57, 0x00, 0, 1),               // r0 &= 1
        instruction(0xb7, 0x01, 0, index(links[0])), // r1 = the first
        instruction(0x15, 0x00, 1, 0),               // if r0 == 0 goto +1
        instruction(0xb7, 0x01, 0, index(links[1])), // r1 = the second
        instruction(0xb7, 0x02, 0, 0),               // r2 = 0
        instruction(0x85, 0, 0, REDIRECT),           // call
        instruction(0x95, 0, 0, 0),                  // exit
    ]
}
