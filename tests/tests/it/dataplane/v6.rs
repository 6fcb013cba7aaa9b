//! IPv6: what depends on the family, and that the rest goes by the shared stages.

mod bridge;
mod controller;
mod edge;
mod errors;
mod frames;
mod headers;
mod modes;
mod neighbour;
mod tcp;
