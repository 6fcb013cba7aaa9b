//! What the XDP program and the controller share: map keys and values, the arithmetic on them, and limits.
//!
//! `no_std`, no allocation, no aya except behind feature `user`. Every map type is `repr(C)` with explicit padding and
//! a size assertion; none holds a `bool`, an enum or an `Option`, so that any bit pattern read from a map is valid.
//! Addresses and ports are kept in network byte order, as they stand on the wire, in integers whose names end in `_be`;
//! everything else is in host order. What holds an address is generic over its family, IPv4 by default.
#![cfg_attr(not(test), no_std)]

pub mod address;
pub mod checksum;
pub mod counter;
pub mod event;
pub mod flow;
pub mod fragment;
pub mod gate;
pub mod hash;
pub mod limits;
pub mod names;
pub mod net;
pub mod rate;
pub mod service;
pub mod trace;

/// Declares plain map types: asserts the size and, for userspace, marks them as `aya::Pod`.
#[macro_export]
macro_rules! map_type {
    ($type:ty, $size:expr) => {
        const _: () = assert!(core::mem::size_of::<$type>() == $size);
        const _: () = assert!($size % core::mem::align_of::<$type>() == 0);
        #[cfg(feature = "user")]
        // SAFETY: the type is `repr(C)`, `Copy`, made of integers and arrays of them only, with padding spelled out.
        unsafe impl aya::Pod for $type {}
    };
    // Of both families: the sizes with IPv4 and with IPv6 addresses.
    (both $type:ident, $v4:expr, $v6:expr) => {
        const _: () = assert!(core::mem::size_of::<$type>() == $v4);
        const _: () = assert!($v4 % core::mem::align_of::<$type>() == 0);
        const _: () = assert!(core::mem::size_of::<$type<$crate::address::V6>>() == $v6);
        const _: () = assert!($v6 % core::mem::align_of::<$type<$crate::address::V6>>() == 0);
        #[cfg(feature = "user")]
        // SAFETY: as above; an address is made of integers, too.
        unsafe impl<A: $crate::address::Address> aya::Pod for $type<A> {}
    };
}
