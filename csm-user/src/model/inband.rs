//! What a farm counts as a sign of life.

use std::time::Duration;

/// `health retries N failed S`: a real is taken out of rotation by how its clients' connections fare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct InbandHealth {
    /// Abnormal sessions in a row, 1–65534.
    pub retries: u16,
    /// How long it gets no new connection then, 0–65535 s; zero: until it is taken out of service and put back.
    pub failed: Duration,
}
