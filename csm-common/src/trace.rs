//! What `csm trace` asks of the traced form of the program.

use crate::address::V6;

/// Value of `TRACE`, one entry: whose packets are told of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Filter {
    /// An address, network order: as a source or destination, before or after the rewrite. 0: nobody's.
    pub client_be: u32,
    /// The same of IPv6. Unspecified: nobody's.
    pub client6_be: V6,
}
crate::map_type!(Filter, 20);
