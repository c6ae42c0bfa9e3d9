#!/bin/bash
# A CloudEvent without a time gets one when it is read: another one each time it is delivered.
#
# Versions: cloudevents 2.2.0 (PyPI), cloudevents 10.0.0 (npm).
# Source: CloudEvents 1.0, section on `time`: the attribute is optional, and says when the occurrence happened.
# Behaviour: both SDKs fill an event that they parse as they fill one that they make: with the present time. An event that is delivered
# twice has two times, and passed on it carries one that its producer never gave. The id stays.
# Output seen: the lines below `expected`.
# What a sidecar can do: give every event a time when it is published, as an envelope that it makes anyway allows.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet cloudevents==2.2.0
npm install --silent --no-audit --no-fund cloudevents@10.0.0 >&2
echo '{"id": "1", "source": "/s", "type": "t", "specversion": "1.0"}' >event.json

cat >read.py <<'PY'
import json, time
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

text, form = open("event.json", "rb").read(), JSONFormat()
first = form.read(CloudEvent, text)
while True:
    second = form.read(CloudEvent, text)
    if second.get_time() != first.get_time():
        break
print("python: two times of one event, written again", "time" in json.loads(form.write(first)))
PY
cat >read.js <<'JS'
const { HTTP } = require("cloudevents");
const body = require("fs").readFileSync("event.json", "utf8");
const read = () => HTTP.toEvent({ headers: { "content-type": "application/cloudevents+json" }, body });
const first = read();
while (read().time === first.time);
console.log("javascript: two times of one event, written again", "time" in JSON.parse(HTTP.structured(first).body));
JS
cat >expected <<'TEXT'
python: two times of one event, written again True
javascript: two times of one event, written again true
TEXT
{ timeout 60 venv/bin/python read.py && timeout 60 node read.js; } >seen
diff expected seen
