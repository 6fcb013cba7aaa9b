//! Trunks of the lab's switch: TC programs made by hand take the tag off what a node sends and hand it to the bridge of
//! its VLAN, and put it on what a bridge sends to the node. Kernels without 802.1Q devices or VLAN-aware bridges do.

use std::io;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};

use crate::netns::Netns;
use crate::tc::{REDIRECT, attach, index, instruction};

/// Helpers of linux/bpf.h.
const SKB_VLAN_PUSH: i32 = 18;
const SKB_VLAN_POP: i32 = 19;
/// TC_ACT_SHOT.
const SHOT: i32 = 2;
/// `vlan_tci` in `struct __sk_buff`.
const VLAN_TCI: i16 = 24;
/// 0x8100 as the helper takes it, in network order.
const DOT1Q: i32 = u16::to_be(0x8100) as i32;

/// The programs of one trunk; dropping it takes them off.
#[derive(Debug)]
pub struct Trunk {
    _links: Vec<OwnedFd>,
}

/// One VLAN of a trunk: its number and the interface, a veth whose other end is in the VLAN's bridge.
pub type Member = (u16, u32);

impl Trunk {
    /// Makes interface `trunk` of the switch carry `members` with tags.
    ///
    /// # Errors
    /// Without root, or before Linux 6.6.
    pub fn start(switch: &Netns, trunk: u32, members: &[Member]) -> Result<Self> {
        switch
            .within(|| {
                let mut links = vec![attach(&untagger(members), trunk)?];
                for &(vlan, member) in members {
                    links.push(attach(&tagger(vlan, trunk), member)?);
                }
                io::Result::Ok(Self { _links: links })
            })?
            .context("the programs of a trunk")
    }
}

/// Tags every frame and redirects it out of `trunk`.
fn tagger(vlan: u16, trunk: u32) -> Vec<u64> {
    vec![
        instruction(0xb7, 0x02, 0, DOT1Q),        // r2 = 0x8100
        instruction(0xb7, 0x03, 0, vlan.into()),  // r3 = vlan
        instruction(0x85, 0, 0, SKB_VLAN_PUSH),   // call
        instruction(0xb7, 0x01, 0, index(trunk)), // r1 = trunk
        instruction(0xb7, 0x02, 0, 0),            // r2 = 0
        instruction(0x85, 0, 0, REDIRECT),        // call
        instruction(0x95, 0, 0, 0),               // exit
    ]
}

/// Takes the tag off and redirects the frame into its VLAN; others are dropped, untagged ones too.
fn untagger(members: &[Member]) -> Vec<u64> {
    let mut program = vec![
        instruction(0xbf, 0x16, 0, 0),        // r6 = r1
        instruction(0x61, 0x17, VLAN_TCI, 0), // r7 = skb->vlan_tci
        instruction(0x57, 0x07, 0, 0xfff),    // r7 &= 0xfff
        instruction(0xb7, 0x08, 0, 0),        // r8 = 0
    ];
    for &(vlan, interface) in members {
        program.push(instruction(0x55, 0x07, 1, vlan.into())); // if r7 != vlan goto +1
        program.push(instruction(0xb7, 0x08, 0, index(interface))); // r8 = interface
    }
    program.extend([
        instruction(0x55, 0x08, 2, 0),         // if r8 != 0 goto +2
        instruction(0xb7, 0x00, 0, SHOT),      // r0 = TC_ACT_SHOT
        instruction(0x95, 0, 0, 0),            // exit
        instruction(0xbf, 0x61, 0, 0),         // r1 = r6
        instruction(0x85, 0, 0, SKB_VLAN_POP), // call
        instruction(0xbf, 0x81, 0, 0),         // r1 = r8
        instruction(0xb7, 0x02, 0, 0),         // r2 = 0
        instruction(0x85, 0, 0, REDIRECT),     // call
        instruction(0x95, 0, 0, 0),            // exit
    ]);
    program
}
