"""An app that reports the path that FastAPI routes by, which ASGI servers decode."""

import sys

import uvicorn
from fastapi import FastAPI, Request

app = FastAPI()


@app.api_route("/{rest:path}", methods=["GET"])
async def any_path(rest: str, request: Request):
    return {"routed": [request.scope["path"], "/" + rest]}


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
