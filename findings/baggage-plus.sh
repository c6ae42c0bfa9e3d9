#!/bin/bash
# A plus sign in W3C baggage becomes a blank in Python, and a blank becomes a plus sign everywhere else.
#
# Versions: opentelemetry-api 1.45.2 (PyPI), @opentelemetry/core 2.12.1 with @opentelemetry/api (npm).
# Source: W3C Baggage, section 3.3.1: values are percent-encoded; `+` is an ordinary octet of them and stands for itself.
# Behaviour: Python's propagator reads and writes values in the encoding of HTML forms. `k=1+1` arrives as `1 1`, and a
# value `a b` is sent as `a+b`. JavaScript's keeps to the standard. A value that crosses languages is another one there,
# without an error on either side.
# Output seen: the lines below `expected`.
# What a sidecar can do: pass the header on as it came, and never decode and encode it on the way.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet opentelemetry-api==1.45.2
npm install --silent --no-audit --no-fund @opentelemetry/core@2.12.1 @opentelemetry/api@1 >&2

cat >read.py <<'PY'
from opentelemetry import baggage
from opentelemetry.baggage.propagation import W3CBaggagePropagator

propagator, sent = W3CBaggagePropagator(), {}
print("python reads", baggage.get_all(propagator.extract({"baggage": "k=1+1"}))["k"])
propagator.inject(sent, context=baggage.set_baggage("k", "a b"))
print("python sends", sent["baggage"])
PY
cat >read.js <<'JS'
const api = require("@opentelemetry/api");
const { W3CBaggagePropagator } = require("@opentelemetry/core");
const propagator = new W3CBaggagePropagator(), sent = {};
const read = propagator.extract(api.ROOT_CONTEXT, { baggage: "k=1+1" }, api.defaultTextMapGetter);
console.log("javascript reads", api.propagation.getBaggage(read).getEntry("k").value);
const bag = api.propagation.createBaggage({ k: { value: "a b" } });
propagator.inject(api.propagation.setBaggage(api.ROOT_CONTEXT, bag), sent, api.defaultTextMapSetter);
console.log("javascript sends", sent.baggage);
JS
cat >expected <<'TEXT'
python reads 1 1
python sends k=a+b
javascript reads 1+1
javascript sends k=a%20b
TEXT
{ venv/bin/python read.py; node read.js; } | tee seen
diff expected seen
