"""A server of the official Python SDK with two tools: `mcp_server.py TRANSPORT [PORT]`."""

import sys

from mcp.server.mcpserver import MCPServer

server = MCPServer("notes")


@server.tool()
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@server.tool()
def refuse(text: str) -> str:
    """Takes nothing."""
    raise ValueError(f"not {text}")


transport, *port = sys.argv[1:]
if port:
    server.run(transport=transport, host="127.0.0.1", port=int(port[0]))
else:
    server.run(transport=transport)
