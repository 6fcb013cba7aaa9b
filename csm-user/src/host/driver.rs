//! What a port's driver can do, and what it is known to want. Pure.

use super::{
    Finding, Grade, MTU_ONE_BUFFER, PortFacts, PortWanted, XDP_BASIC, XDP_REDIRECT, XDP_RX_SG, XDP_XMIT,
    XDP_XMIT_SG,
};
use crate::model::XdpMode;

/// What the kernel does not tell of a driver.
struct Known {
    driver: &'static str,
    /// XDP in the driver with redirects both ways, as of Linux 6.1.
    native: bool,
    /// A limit that its own sources state; empty: none known.
    limit: &'static str,
}

/// From the drivers' sources (drivers/net of Linux 6.1 and later).
const KNOWN: &[Known] = &[
    Known { driver: "atlantic", native: true, limit: "" },
    Known { driver: "bnxt_en", native: true, limit: "" },
    Known {
        driver: "bonding",
        native: true,
        limit: "every member must do XDP; not in the modes broadcast, tlb and alb, nor by vlan+srcmac",
    },
    Known {
        driver: "ena",
        native: true,
        limit: "at most half of the queues may be in use: ethtool -L PORT combined N",
    },
    Known {
        driver: "gve",
        native: true,
        limit: "at most half of the queues may be in use: ethtool -L PORT rx N tx N",
    },
    Known { driver: "i40e", native: true, limit: "" },
    Known { driver: "ice", native: true, limit: "" },
    Known { driver: "igb", native: true, limit: "" },
    Known { driver: "igc", native: true, limit: "" },
    Known {
        driver: "ixgbe",
        native: true,
        limit: "on more than 64 CPUs they share transmit queues, under a lock",
    },
    Known { driver: "ixgbevf", native: false, limit: "" },
    Known { driver: "mlx4_en", native: false, limit: "" },
    Known { driver: "mlx5_core", native: true, limit: "" },
    Known { driver: "mvneta", native: true, limit: "" },
    Known { driver: "nfp", native: false, limit: "" },
    Known { driver: "qede", native: true, limit: "" },
    Known { driver: "sfc", native: true, limit: "" },
    Known { driver: "tun", native: true, limit: "" },
    Known {
        driver: "veth",
        native: true,
        limit: "its other end must have GRO on, or what is redirected there is lost",
    },
    Known {
        driver: "virtio_net",
        native: true,
        limit: "wants a transmit queue per CPU beside its own, else CPUs share them; attaching turns guest offloads off",
    },
];

/// What there is to say of `port`.
pub(super) fn judge(port: &PortFacts, wish: Option<&PortWanted>, cpus: usize, out: &mut Vec<Finding>) {
    let name = &port.name;
    if !port.present {
        out.push(Finding::new(
            Grade::Fault,
            name,
            "there is no such interface",
            "name one of `ip link`, or make it first",
        ));
        return;
    }
    let known = KNOWN.iter().find(|known| Some(known.driver) == port.driver.as_deref());
    out.push(mode(port, wish.map_or(XdpMode::Auto, |wish| wish.mode), known));
    out.extend(frames(port, wish.map_or(XdpMode::Auto, |wish| wish.mode)));
    if let Some(known) = known.filter(|known| !known.limit.is_empty()) {
        let limit = known.limit.replace("PORT", name);
        out.push(Finding::good(name, format!("{}: {limit}", known.driver)));
    }
    if wish.is_none() {
        return;
    }
    if !port.up || !port.carrier {
        let (found, remedy) =
            if port.up { ("has no carrier", "plug it in") } else { ("is down", "csmd sets it up") };
        out.push(Finding::new(Grade::Warning, name, found, remedy));
    }
    if port.attached != 0 {
        out.push(Finding::new(
            Grade::Warning,
            name,
            format!("XDP program {} is attached", port.attached),
            "if it is not csmd's (bpftool prog show), take it off: ip link set dev NAME xdp off"
                .replace("NAME", name),
        ));
    }
    if cpus > 1 && port.rx_queues == 1 && port.driver.as_deref() != Some("veth") {
        out.push(Finding::new(
            Grade::Warning,
            name,
            format!("has one receive queue: one of {cpus} CPUs does all the work"),
            format!("ethtool -L {name} combined N, if the hardware or the hypervisor has more"),
        ));
    }
}

/// Whether the program can be attached as asked.
fn mode(port: &PortFacts, mode: XdpMode, known: Option<&Known>) -> Finding {
    let name = &port.name;
    let driver = port.driver.as_deref().unwrap_or("no driver named");
    let needed = XDP_BASIC | XDP_REDIRECT;
    let native = match port.xdp {
        // Without the bit for redirects to it a driver may just have nothing attached; the table knows which never do.
        Some(bits) => {
            let target = bits & XDP_XMIT != 0 || known.is_none_or(|known| known.native);
            Some(bits & needed == needed && target)
        }
        None => known.map(|known| known.native),
    };
    let source = if port.xdp.is_some() { "the kernel says" } else { "by its name" };
    if mode == XdpMode::Generic {
        return Finding::new(
            Grade::Warning,
            name,
            format!("{driver}; generic XDP as configured: frames come late and copied, which is slow"),
            "`xdp mode auto` takes the driver's if it has one",
        );
    }
    match native {
        Some(true) => {
            let target = match port.xdp {
                Some(bits) if bits & XDP_XMIT == 0 => "; redirects to it work once the program is attached",
                _ => "",
            };
            Finding::good(name, format!("{driver}: native XDP with redirects ({source}){target}"))
        }
        Some(false) => Finding::new(
            if mode == XdpMode::Native { Grade::Fault } else { Grade::Warning },
            name,
            format!("{driver}: no native XDP with redirects ({source})"),
            "use another port, or `xdp mode generic` under its interface, which is slow",
        ),
        None => Finding::new(
            Grade::Warning,
            name,
            format!(
                "{driver}: this kernel does not tell what the driver can do, and it is none that is known here"
            ),
            "try it: `show module csm N vlan` shows how the program was attached",
        ),
    }
}

/// Whether frames of the port's MTU can be received and redirected.
fn frames(port: &PortFacts, mode: XdpMode) -> Option<Finding> {
    let (name, mtu) = (&port.name, port.mtu);
    // The generic mode has the kernel put each frame into one buffer.
    if mtu <= MTU_ONE_BUFFER || mode == XdpMode::Generic {
        return None;
    }
    let Some(bits) = port.xdp else {
        return Some(Finding::new(
            Grade::Warning,
            name,
            format!(
                "MTU {mtu}: this kernel redirects no frames in several buffers (before Linux 6.3), so long ones are lost"
            ),
            format!(
                "Linux 6.3 or later; ip link set {name} mtu {MTU_ONE_BUFFER}, or less; or `xdp mode generic` under its interface, which is slow"
            ),
        ));
    };
    if bits & XDP_BASIC == 0 {
        return None;
    }
    if bits & XDP_RX_SG != 0 {
        let out =
            if bits & XDP_XMIT_SG == 0 && bits & XDP_XMIT != 0 { ", but not redirected to it" } else { "" };
        return Some(Finding::good(name, format!("MTU {mtu}: frames in several buffers are received{out}")));
    }
    Some(Finding::new(
        Grade::Fault,
        name,
        format!("MTU {mtu}, but the driver has XDP for frames in one buffer only"),
        format!("ip link set {name} mtu {MTU_ONE_BUFFER}, or less: the driver says in dmesg what it takes"),
    ))
}
