//! IPv6: what depends on the family, and that the rest goes by the shared stages.

mod frames;
mod neighbour;
mod tcp;
