//! The hooks of a resource: workflows that run before and after, may refuse, and may change what passes. What they get and give is
//! the JSON form of the messages in `workflows/v1/mcp.proto`.

use base64::{
    Engine,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use crds::mcp_server::{Hook, Middleware, MutatingHook, WorkflowRef};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::replay::{Outcome, Replay, Stop};

/// JSON of a tool's arguments: an object, or nothing.
pub type Arguments = Option<Box<RawValue>>;

/// What hooks are given, with the fields that the kind of hook has.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Input<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<String>,
}

/// What a hook that changes things gives back.
#[derive(Deserialize)]
struct Output {
    #[serde(default)]
    arguments: Arguments,
    #[serde(default)]
    result: String,
}

/// The hooks around one operation.
pub struct Hooks<'a> {
    pub server: &'a str,
    pub tool: Option<&'a str>,
    pub middleware: Option<&'a Middleware>,
}

impl Hooks<'_> {
    /// # Errors
    /// [`Stop`]; the inner error is that of a hook.
    pub fn before_list(&self, replay: &mut Replay) -> Result<Result<(), String>, Stop> {
        let hooks: &[Hook] = self.middleware.map_or(&[], |all| &all.before_list_tools);
        for hook in hooks {
            if let Err(problem) = self.run(replay, &hook.workflow, None, None)? {
                return Ok(Err(problem));
            }
        }
        Ok(Ok(()))
    }

    /// The arguments that the tool is called with.
    ///
    /// # Errors
    /// As [`Hooks::before_list`].
    pub fn before_call(
        &self,
        replay: &mut Replay,
        mut arguments: Arguments,
    ) -> Result<Result<Arguments, String>, Stop> {
        let hooks: &[MutatingHook] = self.middleware.map_or(&[], |all| &all.before_call_tool);
        for hook in hooks {
            let given = self.run(replay, &hook.workflow, arguments.as_deref(), None)?;
            let given = match given {
                Ok(given) => given,
                Err(problem) => return Ok(Err(problem)),
            };
            if hook.mutate == Some(true) {
                match output(&hook.workflow, given).and_then(|it| object(&hook.workflow, it)) {
                    Ok(changed) => arguments = changed,
                    Err(problem) => return Ok(Err(problem)),
                }
            }
        }
        Ok(Ok(arguments))
    }

    /// The result that the caller gets.
    ///
    /// # Errors
    /// As [`Hooks::before_list`].
    pub fn after_call(
        &self,
        replay: &mut Replay,
        arguments: Option<&RawValue>,
        result: String,
    ) -> Result<Result<String, String>, Stop> {
        let hooks = self.middleware.map_or(&[][..], |all| &all.after_call_tool);
        self.after(replay, hooks, arguments, result)
    }

    /// The same of a list.
    ///
    /// # Errors
    /// As [`Hooks::before_list`].
    pub fn after_list(
        &self,
        replay: &mut Replay,
        result: String,
    ) -> Result<Result<String, String>, Stop> {
        let hooks = self.middleware.map_or(&[][..], |all| &all.after_list_tools);
        self.after(replay, hooks, None, result)
    }

    fn after(
        &self,
        replay: &mut Replay,
        hooks: &[MutatingHook],
        arguments: Option<&RawValue>,
        mut result: String,
    ) -> Result<Result<String, String>, Stop> {
        for hook in hooks {
            let workflow = &hook.workflow;
            let given = match self.run(replay, workflow, arguments, Some(&result))? {
                Ok(given) => given,
                Err(problem) => {
                    let name = &workflow.workflow_name;
                    return Ok(Err(format!("hook {name:?} failed: {problem}")));
                }
            };
            if hook.mutate == Some(true) {
                match output(workflow, given).and_then(|it| decoded(workflow, &it.result)) {
                    Ok(changed) => result = changed,
                    Err(problem) => return Ok(Err(problem)),
                }
            }
        }
        Ok(Ok(result))
    }

    fn run(
        &self,
        replay: &mut Replay,
        workflow: &WorkflowRef,
        arguments: Option<&RawValue>,
        result: Option<&str>,
    ) -> Result<Outcome, Stop> {
        let input = Input {
            name: self.server,
            tool_name: self.tool,
            arguments,
            result: result.map(|result| STANDARD.encode(result)),
        };
        let input = serde_json::to_string(&input)
            .map_err(|error| Stop::Failed(format!("the input of a hook: {error}")))?;
        let app_id = workflow.app_id.as_deref().filter(|app| !app.is_empty());
        replay.child(&workflow.workflow_name, app_id, input)
    }
}

fn output(workflow: &WorkflowRef, given: Option<String>) -> Result<Output, String> {
    let text = given.filter(|text| !text.is_empty() && text != "null");
    let text = text.as_deref().unwrap_or("{}");
    serde_json::from_str(text).map_err(|error| {
        let name = &workflow.workflow_name;
        format!("mutating hook {name:?} returned what is not its input changed: {error}")
    })
}

fn object(workflow: &WorkflowRef, output: Output) -> Result<Arguments, String> {
    match &output.arguments {
        Some(arguments) if !is_object(arguments.get()) => {
            let name = &workflow.workflow_name;
            Err(format!(
                "mutating hook {name:?} returned arguments that are no object"
            ))
        }
        _ => Ok(output.arguments),
    }
}

fn decoded(workflow: &WorkflowRef, result: &str) -> Result<String, String> {
    let malformed = || {
        let name = &workflow.workflow_name;
        format!("mutating hook {name:?} returned a malformed result")
    };
    let plain = result.replace('-', "+").replace('_', "/");
    let bytes = LENIENT.decode(plain).map_err(|_| malformed())?;
    let text = String::from_utf8(bytes).map_err(|_| malformed())?;
    let read = serde_json::from_str::<&RawValue>(&text);
    match read.is_ok_and(|value| is_object(value.get())) {
        true => Ok(text),
        false => Err(malformed()),
    }
}

pub fn is_object(json: &str) -> bool {
    json.trim_start().starts_with('{')
}

/// Other languages leave the padding out.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
