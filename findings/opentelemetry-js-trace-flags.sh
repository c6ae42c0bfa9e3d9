#!/bin/bash
# A traceparent whose flags have a bit of the upper half is passed on by JavaScript as a header of 56 characters, which nobody can read.
#
# Versions: @opentelemetry/core 2.12.1 with @opentelemetry/api 1 (npm), opentelemetry-api 1.45.2 (PyPI).
# Source: W3C Trace Context, level 2: flags are two hex digits; six bits are for later versions, which readers pass over and writers set
# to zero.
# Behaviour: JavaScript takes such a header as valid and writes the flags as `0` and their digits, so `11` becomes `011`. The
# service behind refuses that, JavaScript itself as well, and begins a trace of its own. Python passes the flags on as they came.
# Output seen: the lines below `expected`.
# What a proxy can do: write two digits, and only the flags that it knows.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet opentelemetry-api==1.45.2
npm install --silent --no-audit --no-fund @opentelemetry/core@2.12.1 @opentelemetry/api@1 >&2

cat >pass.py <<'PY'
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

propagator, sent = TraceContextTextMapPropagator(), {}
header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-11"
propagator.inject(sent, context=propagator.extract({"traceparent": header}))
print("python", sent["traceparent"])
PY
cat >pass.js <<'JS'
const api = require("@opentelemetry/api");
const { W3CTraceContextPropagator } = require("@opentelemetry/core");
const propagator = new W3CTraceContextPropagator();
const pass = (traceparent) => {
  const sent = {};
  const context = propagator.extract(api.ROOT_CONTEXT, { traceparent }, api.defaultTextMapGetter);
  propagator.inject(context, sent, api.defaultTextMapSetter);
  return sent.traceparent;
};
const once = pass("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-11");
console.log("javascript", once);
console.log("javascript behind it", pass(once));
JS
cat >expected <<'TEXT'
python 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-11
javascript 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-011
javascript behind it undefined
TEXT
{ venv/bin/python pass.py && node pass.js; } >seen
diff expected seen
