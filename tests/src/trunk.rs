//! Trunks of the lab's switch: TC programs made by hand take the tag off what a node sends and hand it to the bridge of
//! its VLAN, and put it on what a bridge sends to the node. Kernels without 802.1Q devices or VLAN-aware bridges do.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result};

use crate::netns::Netns;

const PROG_LOAD: libc::c_long = 5;
const LINK_CREATE: libc::c_long = 28;
const PROG_TYPE_SCHED_CLS: u32 = 3;
const ATTACH_TCX_INGRESS: u32 = 46;
/// Helpers of linux/bpf.h.
const SKB_VLAN_PUSH: i32 = 18;
const SKB_VLAN_POP: i32 = 19;
const REDIRECT: i32 = 23;
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

/// One BPF instruction: opcode, registers (source high, destination low), offset, immediate (linux/bpf.h).
fn instruction(opcode: u8, registers: u8, offset: i16, immediate: i32) -> u64 {
    let [o0, o1] = offset.to_ne_bytes();
    let [i0, i1, i2, i3] = immediate.to_ne_bytes();
    u64::from_ne_bytes([opcode, registers, o0, o1, i0, i1, i2, i3])
}

fn index(interface: u32) -> i32 {
    interface.cast_signed()
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

/// The fields of `union bpf_attr` for BPF_PROG_LOAD, as far as they are needed.
#[repr(C)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
}

/// The fields of `union bpf_attr` for BPF_LINK_CREATE, as far as they are needed.
#[repr(C)]
struct LinkAttr {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

fn attach(instructions: &[u64], interface: u32) -> io::Result<OwnedFd> {
    let license = CString::new("MIT")?;
    let mut load = LoadAttr {
        prog_type: PROG_TYPE_SCHED_CLS,
        insn_cnt: u32::try_from(instructions.len()).map_err(io::Error::other)?,
        insns: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
    };
    // SAFETY: instructions and licence live through the call; their number is given, or they end in a zero.
    let program = unsafe { bpf(PROG_LOAD, &mut load) }?;
    let mut link = LinkAttr {
        prog_fd: program.as_raw_fd().cast_unsigned(),
        target_ifindex: interface,
        attach_type: ATTACH_TCX_INGRESS,
        flags: 0,
    };
    // SAFETY: there is no address in it.
    unsafe { bpf(LINK_CREATE, &mut link) }
}

/// `bpf(2)`, for commands that return a descriptor.
///
/// # Safety
/// Every address in `attr` must be good for what `command` reads or writes there.
unsafe fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: `attr` lives through the call and its size is given; the caller answers for the addresses in it.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let descriptor = i32::try_from(result).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made it for us and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
