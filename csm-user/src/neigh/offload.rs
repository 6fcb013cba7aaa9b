//! What an interface's hardware, or a veth in its place, does to frames beside the program: the ethtool features that
//! must be on or off.

use std::io;
use std::os::fd::AsRawFd;

use socket2::{Domain, Socket, Type};

/// SIOCETHTOOL of linux/sockios.h.
const SIOCETHTOOL: libc::c_ulong = 0x8946;
/// ETHTOOL_STXCSUM, ETHTOOL_SGRO, ETHTOOL_GFLAGS, ETHTOOL_SFLAGS and ETH_FLAG_RXVLAN of linux/ethtool.h.
const SET_TX_CHECKSUM: u32 = 0x17;
const SET_GRO: u32 = 0x2c;
const GET_FLAGS: u32 = 0x25;
const SET_FLAGS: u32 = 0x26;
const FLAG_RX_VLAN: u32 = 1 << 8;

/// `struct ethtool_value` of linux/ethtool.h.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// Makes the kernel's end of a veth pair hand over complete frames (no checksum or segmentation left to hardware that
/// is not there), and take what the program redirects to it: a veth without NAPI loses that.
///
/// # Errors
/// Of the requests.
pub fn for_program(interface: &str) -> io::Result<()> {
    // Scatter-gather and segmentation fall with the checksum (netdev_fix_features).
    ethtool(interface, SET_TX_CHECKSUM, 0)?;
    ethtool(interface, SET_GRO, 1).map(drop)
}

/// A trunk whose hardware leaves the tags in received frames; dropping it restores what was.
#[derive(Debug)]
pub struct TagsKept {
    interface: String,
    stripped: bool,
}

impl TagsKept {
    /// Has `interface` leave 802.1Q tags in received frames.
    ///
    /// # Errors
    /// If it strips them and cannot be told not to.
    pub fn new(interface: &str) -> io::Result<Self> {
        // A driver without the request has no such offload.
        let flags = ethtool(interface, GET_FLAGS, 0).unwrap_or(0);
        let stripped = flags & FLAG_RX_VLAN != 0;
        if stripped {
            ethtool(interface, SET_FLAGS, flags & !FLAG_RX_VLAN)?;
        }
        Ok(Self { interface: interface.to_owned(), stripped })
    }
}

impl Drop for TagsKept {
    fn drop(&mut self) {
        if !self.stripped {
            return;
        }
        let restored = ethtool(&self.interface, GET_FLAGS, 0)
            .and_then(|flags| ethtool(&self.interface, SET_FLAGS, flags | FLAG_RX_VLAN));
        if let Err(error) = restored {
            tracing::debug!(self.interface, %error, "VLAN tags are not stripped again");
        }
    }
}

/// ETHTOOL_GDRVINFO of linux/ethtool.h.
const GET_DRIVER: u32 = 3;
/// struct ethtool_drvinfo of linux/ethtool.h: its command, the driver's name, and what is not looked at.
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    rest: [u8; 160],
}

/// Name of the interface's driver; of one without hardware the kind of its link, e.g. `veth`.
///
/// # Errors
/// Of the request.
pub fn driver(interface: &str) -> io::Result<String> {
    let mut info = DriverInfo { command: GET_DRIVER, driver: [0; 32], rest: [0; 160] };
    // SAFETY: the request is the one for this structure.
    unsafe { request(interface, &mut info)? };
    Ok(info.driver.iter().take_while(|&&byte| byte != 0).map(|&byte| char::from(byte)).collect())
}

/// One request; returns the value as the kernel leaves it.
fn ethtool(interface: &str, command: u32, data: u32) -> io::Result<u32> {
    let mut value = EthtoolValue { command, data };
    // SAFETY: all requests of this file but one are for this structure.
    unsafe { request(interface, &mut value)? };
    Ok(value.data)
}

/// Has the kernel read and write `about`.
///
/// # Safety
/// `about` is the structure of the command that it begins with.
unsafe fn request<T>(interface: &str, about: &mut T) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    // SAFETY: ifreq is plain old data, for which all zeroes is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes().take(libc::IFNAMSIZ - 1)) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = std::ptr::from_mut(about).cast();
    // SAFETY: `about` outlives the call; by the contract the kernel reads and writes nothing beyond it.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
