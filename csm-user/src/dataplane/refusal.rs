//! Why an interface does not take the program, and what to do about it. Pure.

use std::io;

/// Whether a refusal is the driver's: it has no native XDP, or not at this MTU or with these settings. It is not to blame
/// if the port is taken or gone, or the rights are missing.
#[must_use]
pub fn is_the_drivers(reason: &io::Error) -> bool {
    !matches!(reason.raw_os_error(), Some(libc::EBUSY | libc::EPERM | libc::EACCES | libc::ENODEV))
}

/// What to do about it.
#[must_use]
pub fn remedy_for(reason: &io::Error) -> &'static str {
    match reason.raw_os_error() {
        Some(libc::EBUSY) => {
            "another XDP program is attached there: stop what put it there (`ip link show` names it), perhaps another csmd"
        }
        Some(libc::EPERM | libc::EACCES) => "start csmd as root, or with CAP_BPF and CAP_NET_ADMIN",
        Some(libc::ENODEV) => "the interface has gone: see `ip link`",
        _ => {
            "use an interface whose driver has native XDP, with an MTU that it takes with XDP, or `xdp mode generic`, which is slow"
        }
    }
}
