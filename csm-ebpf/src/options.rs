//! Options of the IPv4 header: packets with them are balanced like others, except that no sender prescribes the route.

use aya_ebpf::programs::XdpContext;
use csm_common::counter::Reason;

use crate::packet::{self, Ipv4, L3, VERSION_IHL, header};

/// Octets of the longest options.
const LONGEST: usize = 40;
/// Any position in the options, as a mask.
const INDEX: usize = 63;
const END: u8 = 0;
const NO_OPERATION: u8 = 1;
/// Loose and strict source and record route.
const LSRR: u8 = 131;
const SSRR: u8 = 137;

/// Checks the length of the IP header and looks through its options.
#[inline(never)]
#[expect(clippy::cast_possible_truncation, reason = "at most 40")]
pub(crate) fn check(ctx: &XdpContext) -> Result<(), Reason> {
    let ip = header::<Ipv4>(ctx, L3)?;
    // SAFETY: `header` checked the bounds.
    let version_ihl = unsafe { (*ip).version_ihl };
    if version_ihl == VERSION_IHL {
        return Ok(());
    }
    if version_ihl & 0xf0 != VERSION_IHL & 0xf0 || version_ihl < VERSION_IHL {
        return Err(Reason::DropMalformed);
    }
    let length = usize::from(version_ihl - VERSION_IHL) * 4;
    let mut options = [0_u8; INDEX + 2];
    // SAFETY: the buffer has that room and more.
    let read = unsafe {
        packet::load(ctx, L3 + size_of::<Ipv4>(), options.as_mut_ptr(), length as u32, LONGEST as u32)
    };
    if !read {
        return Err(Reason::DropMalformed);
    }
    let mut at = 0;
    for _ in 0..LONGEST {
        if at >= length {
            break;
        }
        // The mask tells the verifier the bounds, whatever way led here: it then walks each turn once.
        at &= INDEX;
        let kind = options[at];
        if kind == END {
            break;
        }
        if kind == LSRR || kind == SSRR {
            return Err(Reason::DropSourceRoute);
        }
        let own = if kind == NO_OPERATION { 1 } else { usize::from(options[at + 1]) };
        let rest = length - at;
        if own == 0 || own > rest || (own == 1 && kind != NO_OPERATION) {
            return Err(Reason::DropMalformed);
        }
        at += own;
    }
    Ok(())
}
