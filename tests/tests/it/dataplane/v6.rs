//! IPv6: what depends on the family, and that the rest goes by the shared stages.

mod bridge;
mod close;
mod controller;
mod edge;
mod errors;
mod frames;
mod headers;
mod jumbo;
mod modes;
mod neighbour;
mod own_mac;
mod race;
mod reverse;
mod router;
mod rtsp;
mod tcp;
