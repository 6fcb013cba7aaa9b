//! Probes.

use std::net::IpAddr;
use std::time::Duration;

use super::{Name, Secret};

/// `probe NAME TYPE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Name.
    pub name: Name,
    /// Type.
    pub kind: ProbeKind,
    /// `interval S`: from the end of a check to the start of the next, 2–65535 s, default 120.
    pub interval: Duration,
    /// `retries N`: consecutive failures before `failed`, 0–65535, default 3.
    pub retries: u16,
    /// `failed S`: interval while failed, 2–65535 s, default 300.
    pub failed: Duration,
    /// `receive S`: wait for an answer, 1–65535 s, default 10.
    pub receive: Duration,
    /// `open S`: wait for a TCP connection, 1–65535 s, default 10.
    pub open: Duration,
    /// `recover N`: consecutive successes before coming back, 1–65535, default 1.
    pub recover: u16,
    /// `port N`: overrides the real's and the vserver's.
    pub port: Option<u16>,
    /// `address A routed`: what is checked in the real's place.
    pub address: Option<IpAddr>,
    /// What an application is asked, and what it is to answer.
    pub question: Question,
}

/// Type of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    /// ICMP echo.
    Icmp,
    /// TCP connect.
    Tcp,
    /// A datagram that nobody refuses.
    Udp,
    /// An HTTP request.
    Http,
    /// A DNS query.
    Dns,
    /// The greeting of an FTP server.
    Ftp,
    /// The first octets of a telnet server.
    Telnet,
    /// The greeting of an SMTP server.
    Smtp,
}

impl ProbeKind {
    /// All, in the order of the reference.
    pub const ALL: [Self; 8] =
        [Self::Icmp, Self::Tcp, Self::Udp, Self::Http, Self::Dns, Self::Ftp, Self::Telnet, Self::Smtp];

    /// As a configuration writes it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Icmp => "icmp",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Http => "http",
            Self::Dns => "dns",
            Self::Ftp => "ftp",
            Self::Telnet => "telnet",
            Self::Smtp => "smtp",
        }
    }

    /// The type's own port, when neither the probe, nor the real, nor a virtual server names one: the last step of the order
    /// in CiscoProbeInheritedPortType. `None`: it has no ports.
    #[must_use]
    pub const fn port(self) -> Option<u16> {
        match self {
            Self::Icmp => None,
            Self::Tcp | Self::Http => Some(80),
            Self::Udp | Self::Dns => Some(53),
            Self::Ftp => Some(21),
            Self::Telnet => Some(23),
            Self::Smtp => Some(25),
        }
    }

    /// Whether it sets up a TCP connection.
    #[must_use]
    pub const fn connects(self) -> bool {
        matches!(self, Self::Tcp | Self::Http | Self::Ftp | Self::Telnet | Self::Smtp)
    }

    /// Whether what answers says a number that tells how it is.
    #[must_use]
    pub const fn has_status(self) -> bool {
        matches!(self, Self::Http | Self::Ftp | Self::Smtp)
    }
}

/// What an application is asked, and which answers are good. Each type has its part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// `request method head` of http; else it is `get`.
    pub is_head: bool,
    /// `request url PATH` of http; `None`: `/`.
    pub path: Option<String>,
    /// `header FIELD VALUE` of http, several.
    pub headers: Vec<(String, String)>,
    /// `credentials USER [PASSWORD]` of http: who asks, by the Basic scheme.
    pub credentials: Option<(String, Secret)>,
    /// `expect status MIN [MAX]`, several, both ends included; none: any of http, 220 of ftp and smtp.
    pub statuses: Vec<(u16, u16)>,
    /// `name DOMAIN` of dns; `None`: the root, and any answer is good.
    pub domain: Option<String>,
    /// `expect address A` of dns, several: one of them is in the answer.
    pub addresses: Vec<IpAddr>,
}

impl Question {
    /// Whether a server of `kind` that says `status` is well.
    #[must_use]
    pub fn expects(&self, kind: ProbeKind, status: u16) -> bool {
        match kind {
            _ if !self.statuses.is_empty() => {
                self.statuses.iter().any(|(first, last)| (*first..=*last).contains(&status))
            }
            ProbeKind::Ftp | ProbeKind::Smtp => status == 220,
            _ => true,
        }
    }
}
