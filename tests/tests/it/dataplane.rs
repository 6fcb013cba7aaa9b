//! Packet fixtures for the XDP program: one frame in, its reason and verdict, the frame out, and what else changed.
//!
//! The expected frame is always built anew by etherparse, with full checksums: an independent oracle for the
//! incremental ones of the program.

mod arp;
mod balancing;
mod bond;
mod bridge;
mod cleared;
mod close;
mod echo;
mod fragments;
mod frames;
mod ftp;
mod gate;
mod handshakes;
mod icmp;
mod icmp_send;
mod jumbo;
mod limits;
mod live;
mod load;
mod malformed;
mod matching;
mod modes;
mod options;
mod places;
mod policy;
mod race;
mod rates;
mod reassigned;
mod rebuild;
mod replica;
mod reverse;
mod room;
mod routed;
mod router;
mod rtsp;
mod statics;
mod sticky;
mod tcp;
mod trunk;
mod tunnel;
mod udp;
mod v6;
