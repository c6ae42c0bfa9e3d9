#!/bin/bash
# A text that an MCP tool of the Python SDK takes is read as JSON first, unless it is declared as `str` and nothing else.
#
# Versions: mcp 2.3.0 (PyPI), pydantic 2.14.4.
# Source: the schema of the tool's input, which says that the argument is a string or null.
# Behaviour: for `text: str` every text arrives as it was sent. For `text: str | None`, which is how an optional argument is written,
# the text `null` arrives as no text at all, and a text that is a JSON array or object is refused as not being a string. Both fit the
# schema that the server itself shows. Numbers and words such as `true` arrive as texts.
# Output seen: the lines below `expected`.
# What a user can do: declare such arguments as `str` with "" for nothing, or wrap the text in an object.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet mcp==2.3.0 pydantic==2.14.4

cat >tools.py <<'PY'
import asyncio
from mcp.server.mcpserver import MCPServer

server = MCPServer("notes")

@server.tool()
def keep(text: str) -> str:
    return repr(text)

@server.tool()
def keep_if_given(text: str | None = None) -> str:
    return repr(text)

async def main():
    for tool in await server.list_tools():
        print(tool.name, tool.input_schema["properties"]["text"].get("anyOf", "string"))
    for text in ["null", "[1]", '{"a": 1}', "12", "true"]:
        for name in ["keep", "keep_if_given"]:
            try:
                answer = (await server.call_tool(name, {"text": text})).content[0].text
            except Exception as error:
                answer = "refused: " + str(error).splitlines()[2].strip().split(" [")[0]
            print(name, text, "->", answer)

asyncio.run(main())
PY
cat >expected <<'TEXT'
keep string
keep_if_given [{'type': 'string'}, {'type': 'null'}]
keep null -> 'null'
keep_if_given null -> None
keep [1] -> '[1]'
keep_if_given [1] -> refused: Input should be a valid string
keep {"a": 1} -> '{"a": 1}'
keep_if_given {"a": 1} -> refused: Input should be a valid string
keep 12 -> '12'
keep_if_given 12 -> '12'
keep true -> 'true'
keep_if_given true -> 'true'
TEXT
venv/bin/python tools.py >seen
diff expected seen
