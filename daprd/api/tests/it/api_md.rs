//! `docs/api.md` is the operations table as a page. `DAPR_PRINT=1` writes it anew.

use std::{fmt::Write, path::Path};

use api::operations::{self, Operation, PLANNED, workflow::task_hub::RPCS};

const HEAD: &str = "# Operations of the sidecar\n\n\
    The rows of `daprd/api/src/operations` as a page. The group and the version are what `spec.api` of a Configuration names;\n\
    what it denies is not there: 404 on HTTP, Unimplemented on gRPC. RPCs are those of `dapr.proto.runtime.v1.Dapr`.\n\n\
    | operation | group | RPC | HTTP |\n|---|---|---|---|\n";
/// The service of the workers of workflows.
const TASK_HUB: &str = "\n`TaskHubSidecarService`, which access rules do not cover, has ";
const MIDDLE: &str = "\nBesides: gRPC calls of any other service are passed to the app that `dapr-callee-app-id` or `dapr-app-id` names, and `grpc.reflection` is answered.\n\n\
    ## Not built yet\n\nThese RPCs answer Unimplemented, and their HTTP routes do not exist:\n\n";
/// Invocation has no fixed routes: it is what no route matches.
const INVOCATION: &str =
    "any method, `/v1.0/invoke/{app}/method/{method}`, or any path with `dapr-app-id`";
const WIDTH: usize = 118;

fn row(operation: &Operation) -> String {
    let rpcs: Vec<String> = operation
        .rpcs
        .iter()
        .map(|rpc| format!("`{}` {}", rpc.name, rpc.version))
        .collect();
    let routes: Vec<String> = operation
        .routes
        .iter()
        .map(|route| format!("`{} {}`", route.methods.join(", "), route.path))
        .collect();
    let cell = |items: Vec<String>| {
        if items.is_empty() {
            "-".to_owned()
        } else {
            items.join("<br>")
        }
    };
    let http = match operation.name {
        "InvokeService" => INVOCATION.to_owned(),
        _ => cell(routes),
    };
    format!(
        "| {} | {} | {} | {http} |\n",
        operation.name,
        operation.group,
        cell(rpcs)
    )
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    operations::all().for_each(|operation| page += &row(operation));
    let rpcs = RPCS.iter().map(|rpc| format!("`{}`", rpc.name));
    let rpcs: Vec<String> = rpcs.collect();
    let _ = writeln!(page, "{TASK_HUB}{}.", rpcs.join(", "));
    page += MIDDLE;
    let mut line = String::new();
    for (index, name) in PLANNED.iter().enumerate() {
        let end = if index + 1 == PLANNED.len() { "." } else { "," };
        let word = format!("`{name}`{end}");
        if !line.is_empty() && line.len() + 1 + word.len() > WIDTH {
            let _ = writeln!(page, "{line}");
            line.clear();
        }
        line += if line.is_empty() { "" } else { " " };
        line += &word;
    }
    page + &line + "\n"
}

#[test]
fn the_list_of_operations_is_fresh() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/api.md");
    if std::env::var_os("DAPR_PRINT").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == page(),
        "docs/api.md is not what the table says: DAPR_PRINT=1 writes it anew"
    );
}
