//! `docs/api.md` shows every endpoint, with an example that is exactly what the types say.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::*;
use crate::api::path;

const DOCUMENT: &str = include_str!("../../../../docs/api.md");

/// The example below each `### METHOD PATH`, and the one of errors.
fn examples() -> BTreeMap<&'static str, &'static str> {
    let mut examples = BTreeMap::new();
    for section in DOCUMENT.split("\n### ").skip(1) {
        let (heading, body) = section.split_once('\n').expect("a heading");
        examples.insert(heading, block(body, "\n```json\n"));
    }
    examples.insert("error", block(DOCUMENT, "\n```json error\n"));
    examples
}

fn block(text: &'static str, opening: &str) -> &'static str {
    let (_, rest) = text.split_once(opening).expect("an example");
    rest.split_once("\n```").expect("the end of the example").0
}

/// The example, read as `T` and written again, is the same: no field is missing, none is too many.
fn check<T: DeserializeOwned + Serialize>(heading: &str, examples: &mut BTreeMap<&str, &str>) {
    let example = examples.remove(heading).unwrap_or_else(|| panic!("{heading} is not documented"));
    let value: Value = serde_json::from_str(example).unwrap_or_else(|error| panic!("{heading}: {error}"));
    let reply: T = serde_json::from_str(example).unwrap_or_else(|error| panic!("{heading}: {error}"));
    assert_eq!(serde_json::to_value(reply).expect("plain values"), value, "{heading}");
}

#[test]
fn every_endpoint_is_documented_with_a_true_example() {
    let mut examples = examples();
    let get = |path: &str| format!("GET {path}");
    check::<ErrorReply>("error", &mut examples);
    check::<SystemReply>(&get(path::SYSTEM), &mut examples);
    check::<RunningConfigReply>(&get(path::RUNNING_CONFIG), &mut examples);
    check::<ChangeReply>(&format!("POST {}", path::CONFIGURE), &mut examples);
    check::<Done>(&format!("POST {}", path::CONFIRM), &mut examples);
    check::<RunningConfigReply>(&get(path::STARTUP_CONFIG), &mut examples);
    check::<SavedReply>(&format!("POST {}", path::STARTUP_CONFIG), &mut examples);
    check::<SavedReply>(&format!("POST {}", path::WRITE_MEMORY), &mut examples);
    check::<SavedReply>(&format!("POST {}", path::CERTIFY), &mut examples);
    check::<DirectoryReply>(&get(path::DIRECTORY), &mut examples);
    check::<ImageReply>(&format!("POST {}", path::IMAGE), &mut examples);
    check::<SavedReply>(&format!("DELETE {}", path::IMAGE), &mut examples);
    check::<Done>(&format!("POST {}", path::RELOAD_CANCEL), &mut examples);
    check::<Done>(&format!("POST {}", path::RELOAD), &mut examples);
    check::<SyncReply>(&format!("POST {}", path::SYNC), &mut examples);
    check::<Vec<DifferenceReply>>(&get(path::SYNC_DIFFERENCES), &mut examples);
    check::<Option<FtReply>>(&get(path::FT), &mut examples);
    check::<ReadyReply>(&get(path::READINESS), &mut examples);
    check::<Option<ExplainReply>>(&get(path::EXPLAIN), &mut examples);
    check::<Done>(&format!("POST {}", path::FORCE_STANDBY), &mut examples);
    check::<Vec<VserverReply>>(&get(path::VSERVERS), &mut examples);
    check::<Vec<ServerfarmReply>>(&get(path::SERVERFARMS), &mut examples);
    check::<Vec<RealReply>>(&get(path::REALS), &mut examples);
    check::<ConnsReply>(&get(path::CONNS), &mut examples);
    check::<ClearedReply>(&format!("POST {}", path::CLEAR_CONNS), &mut examples);
    check::<StickiesReply>(&get(path::STICKY), &mut examples);
    check::<ClearedReply>(&format!("POST {}", path::CLEAR_STICKY), &mut examples);
    check::<Done>(&format!("POST {}", path::CLEAR_NEIGHBOURS), &mut examples);
    check::<Done>(&format!("POST {}", path::CLEAR_COUNTERS), &mut examples);
    check::<Vec<StandbyReply>>(&get(path::STANDBY), &mut examples);
    check::<Vec<VlanReply>>(&get(path::VLANS), &mut examples);
    check::<Vec<NeighbourReply>>(&get(path::NEIGHBOURS), &mut examples);
    check::<Vec<WalkReply>>(&format!("POST {}", path::TRACE), &mut examples);
    check::<CountersReply>(&get(path::COUNTERS), &mut examples);
    assert_eq!(examples, BTreeMap::new(), "documented, but not there");
}
