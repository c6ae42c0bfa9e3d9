//! What a resource must not ask for (contract 3.8): the rules of its schema, which files have not been through, and those that a
//! schema cannot say.

use std::path::{Component, Path};

use crds::{Kind, McpServer, mcp_server::Stdio};
use url::Url;

/// Where it runs.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub kubernetes: bool,
    /// The directory that programs are started in.
    pub directory: &'a Path,
}

/// # Errors
/// What is wrong, as it is logged.
pub fn check(server: &McpServer, place: Place<'_>) -> Result<(), String> {
    let name = server.name();
    let of = |what: &str, problem: String| format!("MCPServer {name:?} failed {what}: {problem}");
    schema(server).map_err(|problem| of("validation", problem))?;
    security(server, place).map_err(|problem| of("security validation", problem))
}

fn schema(server: &McpServer) -> Result<(), String> {
    let endpoint = &server.spec.endpoint;
    let given = [
        endpoint.streamable_http.is_some(),
        endpoint.sse.is_some(),
        endpoint.stdio.is_some(),
    ];
    if given.iter().filter(|given| **given).count() != 1 {
        return Err("spec.endpoint: give exactly one of streamableHTTP, sse and stdio".to_owned());
    }
    let http = endpoint.streamable_http.as_ref().or(endpoint.sse.as_ref());
    let auth = http.and_then(|http| http.auth.as_ref());
    let jwt = auth.and_then(|auth| auth.spiffe.as_ref()?.jwt.as_ref());
    let empty = [
        (http.map(|it| &it.url), "url"),
        (
            endpoint.stdio.as_ref().map(|it| &it.command),
            "stdio.command",
        ),
        (
            auth.and_then(|auth| Some(&auth.oauth2.as_ref()?.issuer)),
            "auth.oauth2.issuer",
        ),
        (jwt.map(|it| &it.header), "auth.spiffe.jwt.header"),
        (jwt.map(|it| &it.audience), "auth.spiffe.jwt.audience"),
    ];
    if let Some((_, field)) = empty
        .iter()
        .find(|(text, _)| text.is_some_and(String::is_empty))
    {
        return Err(format!("spec.endpoint: {field} is empty"));
    }
    let middleware = server.spec.middleware.clone().unwrap_or_default();
    let before = middleware.before_list_tools.iter().map(|it| &it.workflow);
    let lists = [
        &middleware.before_call_tool,
        &middleware.after_call_tool,
        &middleware.after_list_tools,
    ];
    let mutating = lists.into_iter().flatten().map(|it| &it.workflow);
    if before.chain(mutating).any(|it| it.workflow_name.is_empty()) {
        return Err("spec.middleware: a hook without workflow.workflowName".to_owned());
    }
    Ok(())
}

fn security(server: &McpServer, place: Place<'_>) -> Result<(), String> {
    let endpoint = &server.spec.endpoint;
    if let Some(stdio) = &endpoint.stdio {
        return process(stdio, place);
    }
    let http = endpoint.streamable_http.as_ref().or(endpoint.sse.as_ref());
    let text = http.map_or("", |http| http.url.as_str());
    let url = Url::parse(text).map_err(|error| format!("url: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        let scheme = url.scheme();
        return Err(format!("url scheme must be http or https, got {scheme:?}"));
    }
    match url.host_str() {
        Some(host) if !host.is_empty() => Ok(()),
        _ => Err("url must have a host".to_owned()),
    }
}

/// A program by its name is found on the path, one by an absolute path is what somebody chose; a relative path stays inside.
fn process(stdio: &Stdio, place: Place<'_>) -> Result<(), String> {
    if place.kubernetes {
        return Err("stdio transport is not allowed in Kubernetes mode".to_owned());
    }
    let odd = |name: &str| name.is_empty() || name.contains(['=', '\n', '\0']);
    if let Some(pair) = stdio.env.iter().find(|pair| odd(&pair.name)) {
        let name = &pair.name;
        return Err(format!(
            "stdio.env name {name:?} contains invalid characters"
        ));
    }
    let command = Path::new(&stdio.command);
    if command.is_absolute() || !stdio.command.contains('/') {
        return Ok(());
    }
    let escapes = || "stdio.command must not escape working directory".to_owned();
    let mut depth = 0_i32;
    for part in command.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::ParentDir => depth -= 1,
            _ => {}
        }
        if depth < 0 {
            return Err(escapes());
        }
    }
    // Links may lead out; a program that is not there leads nowhere.
    let whole = place.directory.join(command);
    let directory = place.directory.canonicalize();
    match (whole.canonicalize(), directory) {
        (Ok(real), Ok(directory)) if !real.starts_with(&directory) => Err(escapes()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(endpoint: serde_json::Value) -> McpServer {
        let json = serde_json::json!({
            "apiVersion": "dapr.io/v1alpha1",
            "kind": "MCPServer",
            "metadata": { "name": "a" },
            "spec": { "endpoint": endpoint },
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn what_a_resource_must_not_ask_for_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let program = outside.path().join("program");
        std::fs::write(&program, "").unwrap();
        std::os::unix::fs::symlink(&program, folder.path().join("link")).unwrap();
        let place = |kubernetes| Place {
            kubernetes,
            directory: folder.path(),
        };
        let http = |url: &str| serde_json::json!({ "streamableHTTP": { "url": url } });
        let stdio = |command: &str| serde_json::json!({ "stdio": { "command": command } });
        let wrong = [
            (http("ftp://a/b"), "security validation: url scheme must be"),
            (http("no url"), "security validation: url: "),
            (http(""), "validation: spec.endpoint: url is empty"),
            (
                stdio(""),
                "validation: spec.endpoint: stdio.command is empty",
            ),
            (stdio("../a"), "must not escape"),
            (stdio("a/../../b"), "must not escape"),
            (stdio("./link"), "must not escape"),
            (serde_json::json!({}), "exactly one of"),
            (
                serde_json::json!({ "stdio": { "command": "a", "env": [{ "name": "a=b" }] } }),
                "invalid characters",
            ),
        ];
        for (endpoint, expected) in wrong {
            let error = check(&server(endpoint), place(false)).unwrap_err();
            assert!(error.starts_with("MCPServer \"a\" failed "), "{error}");
            assert!(error.contains(expected), "{error}");
        }
        for right in [http("http://a/b"), stdio("a"), stdio("./a/b"), stdio("/a")] {
            assert_eq!(check(&server(right), place(false)), Ok(()));
        }
        let error = check(&server(stdio("a")), place(true)).unwrap_err();
        assert!(error.contains("Kubernetes mode"), "{error}");
    }
}
