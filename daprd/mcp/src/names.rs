//! Names of workflows and activities (contract 11.5).

/// What a name means at one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    ListTools,
    /// Calls the tool of that name.
    CallTool(String),
}

/// The server and the operation of a workflow; servers and tools may have dots in their names, so the name of the server is
/// looked for among those that are `known`. Q-mcp-names
pub fn workflow<'k>(
    name: &str,
    known: impl Iterator<Item = &'k String>,
) -> Option<(&'k String, Operation)> {
    longest(name, known, |rest| match rest {
        LIST_TOOLS => Some(Operation::ListTools),
        _ => {
            let tool = rest.strip_prefix(CALL_TOOL)?.strip_prefix('.')?;
            (!tool.is_empty()).then(|| Operation::CallTool(tool.to_owned()))
        }
    })
}

/// What an activity does at a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    ListTools,
    CallTool,
}

impl Activity {
    /// Its name at a server.
    pub fn name(self, server: &str) -> String {
        let suffix = match self {
            Self::ListTools => LIST_ACTIVITY,
            Self::CallTool => CALL_ACTIVITY,
        };
        format!("{PREFIX}{server}.{suffix}")
    }
}

/// The server and what an activity does there.
pub fn activity<'k>(
    name: &str,
    known: impl Iterator<Item = &'k String>,
) -> Option<(&'k String, Activity)> {
    longest(name, known, |rest| match rest {
        LIST_ACTIVITY => Some(Activity::ListTools),
        CALL_ACTIVITY => Some(Activity::CallTool),
        _ => None,
    })
}

fn longest<'k, T>(
    name: &str,
    known: impl Iterator<Item = &'k String>,
    read: impl Fn(&str) -> Option<T>,
) -> Option<(&'k String, T)> {
    let name = name.strip_prefix(PREFIX)?;
    let fits = known.filter_map(|server| {
        let rest = name.strip_prefix(server.as_str())?.strip_prefix('.')?;
        Some((server, read(rest)?))
    });
    fits.max_by_key(|(server, _)| server.len())
}

const PREFIX: &str = "dapr.internal.mcp.";
const LIST_TOOLS: &str = "ListTools";
const CALL_TOOL: &str = "CallTool";
const LIST_ACTIVITY: &str = "list-tools";
const CALL_ACTIVITY: &str = "call-tool";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_server_operation_and_tool() {
        let known = ["weather", "weather.eu", "we"].map(str::to_owned);
        let read = |name: &str| {
            let found = workflow(name, known.iter());
            found.map(|(server, operation)| (server.as_str(), operation))
        };
        let call = |tool: &str| Operation::CallTool(tool.to_owned());
        let all = [
            ("weather.ListTools", Some(("weather", Operation::ListTools))),
            ("weather.CallTool.get", Some(("weather", call("get")))),
            ("weather.CallTool.get.it", Some(("weather", call("get.it")))),
            ("weather.eu.CallTool.get", Some(("weather.eu", call("get")))),
            ("weather.CallTool.", None),
            ("weather.CallTool", None),
            ("weather.CallToolget", None),
            ("weather", None),
            ("other.ListTools", None),
        ];
        for (name, expected) in all {
            assert_eq!(read(&format!("{PREFIX}{name}")), expected, "{name}");
        }
        assert_eq!(read("weather.ListTools"), None);
        for kind in [Activity::ListTools, Activity::CallTool] {
            let name = kind.name("weather.eu");
            let expected = Some((&known[1], kind));
            assert_eq!(activity(&name, known.iter()), expected);
        }
    }
}
