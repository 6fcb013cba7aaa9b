//! Announcements: gratuitous ARP for alias and virtual addresses.
