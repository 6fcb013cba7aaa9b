//! Neighbours, own addresses and links over netlink.
