//! Whether a running csmd answers as `docs/openapi.json` says.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use boon::{Compiler, Draft, Schemas};
use csm_user::api::client::{Client, ClientError};
use serde_json::Value;

const DOCUMENT: &str = include_str!("../../docs/openapi.json");
const NAME: &str = "http://csmd/openapi.json";
const DEADLINE: Duration = Duration::from_secs(20);

/// Asks for everything that can be had by GET; returns how many answers were as the document says.
///
/// # Errors
/// The first that is not, with what the document wants instead.
pub fn check(socket: &Path) -> Result<usize> {
    let document: Value = serde_json::from_str(DOCUMENT)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let client = Client::new(socket, DEADLINE);
    let (mut schemas, mut compiler) = (Schemas::new(), Compiler::new());
    compiler.set_default_draft(Draft::V2020_12);
    compiler.add_resource(NAME, document.clone()).map_err(|error| anyhow!("{error:#}"))?;
    let mut valid = |path: &str, status: &str, answer: &Value| -> Result<()> {
        let way = format!("/paths/{}/get/responses/{status}/content/application~1json/schema", escape(path));
        let schema =
            compiler.compile(&format!("{NAME}#{way}"), &mut schemas).map_err(|error| anyhow!("{error:#}"))?;
        schemas.validate(answer, schema).map_err(|error| anyhow!("{path} answers {answer}: {error:#}"))
    };
    let mut checked = 0;
    for (path, methods) in document["paths"].as_object().context("paths")? {
        if methods.get("get").is_none() {
            continue;
        }
        match runtime.block_on(client.get::<Value>(path)) {
            Ok(answer) => valid(path, "200", &answer)?,
            Err(ClientError::Refused(refusal)) => valid(path, "default", &serde_json::to_value(refusal)?)?,
            Err(error) => bail!("{path}: {error}"),
        }
        checked += 1;
    }
    // One that cannot be true: a check that lets anything pass is none.
    if valid("/v1/system", "200", &serde_json::json!({ "module": "five" })).is_ok() {
        bail!("the document takes anything for an answer");
    }
    Ok(checked)
}

/// RFC 6901 section 3, of a path.
fn escape(path: &str) -> String {
    path.replace('~', "~0").replace('/', "~1")
}
