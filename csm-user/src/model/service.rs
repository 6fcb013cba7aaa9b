//! What `service` in a `virtual` line has followed. Pure.

use super::Protocol;

/// What is followed beside the connections to the port of a virtual server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Service {
    /// Nothing.
    #[default]
    Plain,
    /// `service ftp`: data connections, TCP.
    Ftp,
    /// `service rtsp`: media, UDP.
    Rtsp,
}

impl Service {
    /// The word of a configuration; none if there is none.
    #[must_use]
    pub const fn word(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Ftp => Some("ftp"),
            Self::Rtsp => Some("rtsp"),
        }
    }

    /// Protocol of what is followed.
    #[must_use]
    pub const fn data(self) -> Option<Protocol> {
        match self {
            Self::Plain => None,
            Self::Ftp => Some(Protocol::TCP),
            Self::Rtsp => Some(Protocol::UDP),
        }
    }
}
