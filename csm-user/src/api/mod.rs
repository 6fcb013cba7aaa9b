//! The daemon's API: JSON over HTTP on a unix socket.
