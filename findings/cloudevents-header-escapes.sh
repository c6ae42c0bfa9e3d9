#!/bin/bash
# An attribute of a CloudEvent that is not plain ASCII does not cross from Python to JavaScript over HTTP, nor leave JavaScript at all.
#
# Versions: cloudevents 2.2.0 (PyPI), cloudevents 10.0.0 (npm), on Node's own fetch.
# Source: CloudEvents 1.0, HTTP binding, section 3.1.3.2: in headers, blanks, quotes, per cent signs and whatever is not
# printable ASCII are percent-encoded, and decoded by the reader.
# Behaviour: Python writes and reads as it says there. JavaScript does neither: it takes the escapes for the text, and hands the text
# as it is to whatever sends it, which refuses what no header can hold. So `50% off` from Python is `50%25%20off` in
# JavaScript, and a subject with a euro sign cannot be sent from there in binary mode.
# Output seen: the lines below `expected`.
# What a user can do: send in structured mode, where attributes are JSON.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet cloudevents==2.2.0
npm install --silent --no-audit --no-fund cloudevents@10.0.0 >&2

cat >send.py <<'PY'
import json
from cloudevents.core.bindings import http
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

event = CloudEvent({"id": "1", "source": "/s", "type": "t", "specversion": "1.0", "subject": "50% off"}, None)
message = http.to_binary(event, JSONFormat())
again = http.from_binary(message, JSONFormat())
json.dump(message.headers, open("headers.json", "w"))
print("python sends", message.headers["ce-subject"])
print("python reads", again.get_subject())
PY
cat >read.js <<'JS'
const { HTTP, CloudEvent } = require("cloudevents");
console.log("javascript reads", HTTP.toEvent({ headers: require("./headers.json"), body: "" }).subject);
const event = new CloudEvent({ source: "/s", type: "t", subject: "5 €", datacontenttype: "text/plain", data: "x" });
const { headers, body } = HTTP.binary(event);
console.log("javascript sends", headers["ce-subject"]);
fetch("http://127.0.0.1:9/", { method: "POST", headers, body }).catch((error) => {
  console.log("fetch", error.message.includes("ByteString") ? "refuses the header" : error.message);
});
JS
cat >expected <<'TEXT'
python sends 50%25%20off
python reads 50% off
javascript reads 50%25%20off
javascript sends 5 €
fetch refuses the header
TEXT
{ venv/bin/python send.py && node read.js; } >seen
diff expected seen
