//! What the lab reads out of `show module csm 5 ft detail` in JSON.

use anyhow::{Result, bail};
use serde::Deserialize;
use serde_json::Value;

/// The state of a node's FT group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Listening, before its first decision.
    Initializing,
    /// Ready to take over.
    Standby,
    /// Forwarding.
    Active,
}

/// The facts that the lab waits for or prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The node's role.
    pub role: Role,
    /// Whether a takeover by this node would keep every replicated connection.
    pub ready: bool,
    /// What stands against that.
    pub obstacles: Vec<String>,
    /// How late the real-time thread woke at worst since csmd started, microseconds.
    pub worst_lateness_us: u64,
    /// Whether that thread got SCHED_FIFO.
    pub realtime: bool,
}

impl Status {
    /// Reads csm's answer. The field names are those of the product's API, read here as any other program would.
    ///
    /// # Errors
    /// Naming what is missing.
    pub fn from_json(answer: &Value) -> Result<Self> {
        let field = |path: &str| answer.pointer(path).filter(|value| !value.is_null());
        let Some(role) = field("/state") else { bail!("no state in {answer}") };
        let Some(ready) = field("/readiness/ready").and_then(Value::as_bool) else {
            bail!("no readiness in {answer}")
        };
        let Some(worst_lateness_us) = field("/lateness/worst_us").and_then(Value::as_u64) else {
            bail!("no lateness in {answer}")
        };
        let obstacles = field("/readiness/obstacles").and_then(Value::as_array).cloned().unwrap_or_default();
        Ok(Self {
            role: serde_json::from_value(role.clone())?,
            ready,
            obstacles: obstacles.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect(),
            worst_lateness_us,
            realtime: field("/lateness/realtime").and_then(Value::as_bool).unwrap_or(false),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_without_its_measurements_is_an_error_and_not_a_guess() {
        let whole = serde_json::json!({
            "state": "standby",
            "readiness": { "ready": false, "obstacles": ["snapshot running"] },
            "lateness": { "worst_us": 812, "realtime": true },
        });
        let read = Status::from_json(&whole);
        assert!(
            read.is_ok_and(|status| status.role == Role::Standby && status.obstacles == ["snapshot running"])
        );
        for missing in ["state", "readiness", "lateness"] {
            let mut part = whole.clone();
            part[missing] = Value::Null;
            assert!(Status::from_json(&part).is_err_and(|error| error.to_string().contains(missing)));
        }
    }
}
