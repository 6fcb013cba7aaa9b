//! The API as an OpenAPI 3.1 document, made of the types of its replies and a list of the endpoints: `docs/openapi.json`.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::path;
use super::reply::{
    CertifyRequest, ChangeReply, ChangeRequest, ClearedReply, ConnFilter, ConnPage, ConnsReply,
    CountersReply, DifferenceReply, DirectoryReply, Done, ErrorReply, ExplainReply, FtReply, ImageReply,
    NeighbourReply, ReadyReply, RealReply, ReloadRequest, RunningConfigReply, SavedReply, ServerfarmReply,
    StandbyReply, StickiesReply, StickyFilter, SyncReply, SystemReply, TraceQuery, VlanReply, VserverReply,
    WalkReply,
};

/// Where schemas stand in the document.
const SCHEMAS: &str = "/components/schemas";

type Of = fn(&mut SchemaGenerator) -> Schema;

/// What goes with a request.
enum With {
    Nothing,
    /// Names and values behind the path.
    Query(Of),
    /// JSON.
    Body(Of),
    /// Plain octets.
    Octets,
}

/// A method of a path.
struct Endpoint {
    method: &'static str,
    path: &'static str,
    /// The command of the command line that does the same.
    command: &'static str,
    with: With,
    reply: Of,
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

const fn get(path: &'static str, command: &'static str, reply: Of) -> Endpoint {
    Endpoint { method: "get", path, command, with: With::Nothing, reply }
}

const fn post(path: &'static str, command: &'static str, with: With, reply: Of) -> Endpoint {
    Endpoint { method: "post", path, command, with, reply }
}

/// Every endpoint, in the order of `docs/api.md`.
const ENDPOINTS: &[Endpoint] = &[
    get(path::SYSTEM, "show module csm N status", of::<SystemReply>),
    get(path::RUNNING_CONFIG, "show running-config", of::<RunningConfigReply>),
    post(path::CONFIGURE, "configure terminal", With::Body(of::<ChangeRequest>), of::<ChangeReply>),
    post(path::CONFIRM, "configure confirm", With::Nothing, of::<Done>),
    get(path::STARTUP_CONFIG, "show startup-config", of::<RunningConfigReply>),
    post(path::STARTUP_CONFIG, "copy FILE startup-config", With::Body(of::<ChangeRequest>), of::<SavedReply>),
    post(path::WRITE_MEMORY, "write memory", With::Nothing, of::<SavedReply>),
    post(path::CERTIFY, "copy working certified", With::Body(of::<CertifyRequest>), of::<SavedReply>),
    get(path::DIRECTORY, "show running-directory", of::<DirectoryReply>),
    post(path::IMAGE, "copy FILE working image", With::Octets, of::<ImageReply>),
    Endpoint {
        method: "delete",
        path: path::IMAGE,
        command: "delete working image",
        with: With::Nothing,
        reply: of::<SavedReply>,
    },
    post(path::RELOAD, "reload", With::Body(of::<ReloadRequest>), of::<Done>),
    post(path::RELOAD_CANCEL, "reload cancel", With::Nothing, of::<Done>),
    post(path::SYNC, "hw-module csm N standby config-sync", With::Nothing, of::<SyncReply>),
    get(path::SYNC_DIFFERENCES, "show module csm N ft detail", of::<Vec<DifferenceReply>>),
    get(path::FT, "show module csm N ft", of::<Option<FtReply>>),
    get(path::READINESS, "show ft readiness", of::<ReadyReply>),
    get(path::EXPLAIN, "ft explain", of::<Option<ExplainReply>>),
    post(path::FORCE_STANDBY, "clear module csm N ft active", With::Nothing, of::<Done>),
    get(path::VSERVERS, "show module csm N vservers", of::<Vec<VserverReply>>),
    get(path::SERVERFARMS, "show module csm N serverfarms", of::<Vec<ServerfarmReply>>),
    get(path::REALS, "show module csm N reals", of::<Vec<RealReply>>),
    Endpoint {
        method: "get",
        path: path::CONNS,
        command: "show module csm N conns",
        with: With::Query(of::<ConnPage>),
        reply: of::<ConnsReply>,
    },
    post(
        path::CLEAR_CONNS,
        "clear module csm N connections",
        With::Query(of::<ConnFilter>),
        of::<ClearedReply>,
    ),
    get(path::STICKY, "show module csm N sticky", of::<StickiesReply>),
    post(
        path::CLEAR_STICKY,
        "clear module csm N sticky",
        With::Query(of::<StickyFilter>),
        of::<ClearedReply>,
    ),
    post(path::CLEAR_NEIGHBOURS, "clear module csm N arp-cache", With::Nothing, of::<Done>),
    post(path::CLEAR_COUNTERS, "clear module csm N counters", With::Nothing, of::<Done>),
    get(path::VLANS, "show module csm N vlan", of::<Vec<VlanReply>>),
    get(path::NEIGHBOURS, "show module csm N arp", of::<Vec<NeighbourReply>>),
    get(path::STANDBY, "show standby", of::<Vec<StandbyReply>>),
    post(path::TRACE, "trace client ADDRESS", With::Query(of::<TraceQuery>), of::<Vec<WalkReply>>),
    get(path::COUNTERS, "show module csm N stats", of::<CountersReply>),
];

/// The document.
#[must_use]
pub fn document() -> Value {
    // What csmd says is always whole; what it is asked may leave out what has a default.
    let settings = || {
        SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = SCHEMAS.into();
            settings.meta_schema = None;
        })
    };
    let mut said = settings().for_serialize().into_generator();
    let mut asked = settings().for_deserialize().into_generator();
    let mut paths = Map::new();
    let error = of::<ErrorReply>(&mut said);
    for endpoint in ENDPOINTS {
        let operation = operation(endpoint, &mut said, &mut asked, &error);
        let methods = paths.entry(endpoint.path).or_insert_with(|| json!({}));
        if let Some(methods) = methods.as_object_mut() {
            methods.insert(endpoint.method.to_owned(), operation);
        }
    }
    let mut schemas = asked.take_definitions(true);
    schemas.extend(said.take_definitions(true));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "csmd",
            "description": "The API of csmd on its unix socket, see api.md. The command line uses nothing else.",
            "version": "1",
        },
        "servers": [{ "url": "http://csmd", "description": "the unix socket /run/csm/csmd.sock" }],
        "paths": paths,
        "components": { "schemas": schemas },
    })
}

fn operation(
    endpoint: &Endpoint,
    said: &mut SchemaGenerator,
    asked: &mut SchemaGenerator,
    error: &Schema,
) -> Value {
    let content = |schema: Schema| json!({ "application/json": { "schema": schema } });
    let mut operation = json!({
        "summary": format!("`{}`", endpoint.command),
        "responses": {
            "200": { "description": "done", "content": content((endpoint.reply)(said)) },
            "default": { "description": "refused, or failed", "content": content(error.clone()) },
        },
    });
    match endpoint.with {
        With::Nothing => {}
        With::Octets => {
            operation["requestBody"] =
                json!({ "required": true, "content": { "application/octet-stream": {} } });
        }
        With::Body(body) => {
            operation["requestBody"] = json!({ "required": true, "content": content(body(asked)) });
        }
        With::Query(query) => operation["parameters"] = parameters(query, asked),
    }
    operation
}

/// The properties of a query, one by one.
fn parameters(query: Of, asked: &mut SchemaGenerator) -> Value {
    let referred = query(asked);
    let name = referred.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next());
    let schema = name.and_then(|name| asked.definitions().get(name)).cloned().unwrap_or_default();
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = schema["properties"].as_object().into_iter().flatten();
    properties
        .map(|(name, schema)| {
            json!({ "name": name, "in": "query", "required": required.contains(&name.as_str()), "schema": schema })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect_file;

    const SERVER: &str = include_str!("server.rs");
    const PATHS: &str = include_str!("mod.rs");

    #[test]
    fn the_document_is_up_to_date() {
        let text = serde_json::to_string_pretty(&document()).expect("plain values") + "\n";
        expect_file![concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json")].assert_eq(&text);
    }

    /// What the router answers, by its own source: a name in [`path`], and the methods behind it.
    fn routes() -> Vec<(String, String)> {
        let mut routes = Vec::new();
        for route in SERVER.split(".route(").skip(1) {
            let route = route.split_once(".method_not_allowed_fallback").map_or(route, |(route, _)| route);
            let (_, rest) = route.split_once("path::").expect("a constant of `path`");
            let end = rest.find(|c: char| !(c.is_ascii_uppercase() || c == '_')).expect("an end");
            let constant = &rest[..end];
            let (_, line) = PATHS.split_once(&format!("pub const {constant}: &str = \"")).expect("a path");
            let (path, _) = line.split_once('"').expect("a string");
            for method in ["get", "post", "delete"] {
                if rest.contains(&format!(" {method}(")) || rest.contains(&format!(".{method}(")) {
                    routes.push((path.to_owned(), method.to_owned()));
                }
            }
        }
        routes.sort();
        routes
    }

    #[test]
    fn the_document_has_every_route_of_the_server_and_no_other() {
        let mut documented: Vec<_> =
            ENDPOINTS.iter().map(|endpoint| (endpoint.path.to_owned(), endpoint.method.to_owned())).collect();
        documented.sort();
        assert_eq!(routes(), documented);
    }
}
