//! The two workflows of a server: hooks, one activity, hooks.

#[cfg(test)]
mod tests;

use crds::mcp_server::Middleware;
use serde::{Deserialize, Serialize};
use serde_json::{json, value::RawValue};

use crate::{
    hooks::{Arguments, Hooks, is_object},
    names::{Activity, Operation},
    replay::{Replay, Stop},
};

/// What the workflow that calls a tool is started with.
#[derive(Default, Deserialize)]
struct Input {
    #[serde(default)]
    arguments: Arguments,
}

/// What the activity that calls a tool is given.
#[derive(Deserialize, Serialize)]
pub struct Call {
    pub tool_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Arguments,
}

/// Goes as far as the history allows: the output, where the workflow is over.
///
/// # Errors
/// [`Stop`].
pub fn run(
    replay: &mut Replay,
    server: &str,
    middleware: Option<&Middleware>,
    operation: &Operation,
    input: Option<&str>,
) -> Result<String, Stop> {
    match operation {
        Operation::ListTools => {
            let tool = None;
            list_tools(
                replay,
                &Hooks {
                    server,
                    tool,
                    middleware,
                },
            )
        }
        Operation::CallTool(name) => {
            let tool = Some(name.as_str());
            call_tool(
                replay,
                &Hooks {
                    server,
                    tool,
                    middleware,
                },
                name,
                input,
            )
        }
    }
}

fn list_tools(replay: &mut Replay, hooks: &Hooks<'_>) -> Result<String, Stop> {
    let failed = |what: &str, problem: String| Stop::Failed(format!("{what} failed: {problem}"));
    let before = hooks.before_list(replay)?;
    before.map_err(|problem| failed("beforeListTools", problem))?;
    let listed = replay.activity(Activity::ListTools.name(hooks.server), None)?;
    let listed = listed.map_err(|problem| failed("list-tools activity", problem))?;
    let after = hooks.after_list(replay, listed.unwrap_or_default())?;
    after.map_err(|problem| failed("afterListTools", problem))
}

/// What goes wrong before the tool has been called is a result for whoever calls: it may choose otherwise.
fn call_tool(
    replay: &mut Replay,
    hooks: &Hooks<'_>,
    tool: &str,
    input: Option<&str>,
) -> Result<String, Stop> {
    let input = match read(input) {
        Ok(input) => input,
        Err(problem) => return Ok(error(&format!("the input cannot be read: {problem}"))),
    };
    let arguments = match hooks.before_call(replay, input.arguments)? {
        Ok(arguments) => arguments,
        Err(problem) => return Ok(error(&format!("beforeCallTool: {problem}"))),
    };
    let call = Call {
        tool_name: tool.to_owned(),
        arguments,
    };
    let input = serde_json::to_string(&call);
    let input = input.map_err(|error| Stop::Failed(error.to_string()))?;
    let called = replay.activity(Activity::CallTool.name(hooks.server), Some(input))?;
    let result = match called {
        Ok(result) => result.unwrap_or_default(),
        Err(problem) => error(&problem),
    };
    let after = hooks.after_call(replay, call.arguments.as_deref(), result)?;
    after.map_err(|problem| Stop::Failed(format!("afterCallTool failed: {problem}")))
}

fn read(input: Option<&str>) -> Result<Input, String> {
    let text = input.map(str::trim).unwrap_or_default();
    if text.is_empty() || text == "null" {
        return Ok(Input::default());
    }
    let input: Input = serde_json::from_str(text).map_err(|error| error.to_string())?;
    match &input.arguments {
        Some(arguments) if !is_object(arguments.get()) => Err("arguments is no object".to_owned()),
        _ => Ok(input),
    }
}

/// The result of a call that has failed, as MCP has it.
pub fn error(text: &str) -> String {
    json!({ "content": [{ "type": "text", "text": text }], "isError": true }).to_string()
}

/// The result of a list, as MCP has it.
pub fn tools(tools: &[Box<RawValue>]) -> String {
    #[derive(Serialize)]
    struct List<'a> {
        tools: &'a [Box<RawValue>],
    }
    serde_json::to_string(&List { tools }).unwrap_or_default()
}
