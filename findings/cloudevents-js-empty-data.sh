#!/bin/bash
# The CloudEvents SDK for JavaScript reads data of 0, false and "" as no data.
#
# Version: cloudevents 10.0.0 (npm).
# Source: CloudEvents JSON format 1.0, section 3.1: `data` may be any JSON value.
# Behaviour: a structured event whose `data` is 0, false or the empty string arrives without data; one that the SDK itself
# has written as well. Sent on, the field is gone for the next receiver too.
# Output seen: the lines below `expected`.
# What a publisher can do: wrap such values in an object. A broker in between must not follow suit.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund cloudevents@10.0.0 >&2

cat >read.js <<'JS'
const { CloudEvent, HTTP } = require("cloudevents");
const event = (data) => new CloudEvent({
  id: "1", source: "/shop", type: "count", datacontenttype: "application/json", data,
});
const show = (value) => (value === undefined ? "nothing" : JSON.stringify(value));
for (const data of [1, 0, false, ""]) {
  const sent = HTTP.structured(event(data));
  const read = HTTP.toEvent({ headers: sent.headers, body: sent.body });
  const on = JSON.parse(HTTP.structured(read).body);
  console.log("sent", show(JSON.parse(sent.body).data), "read", show(read.data), "sent on", show(on.data));
}
JS
cat >expected <<'TEXT'
sent 1 read 1 sent on 1
sent 0 read nothing sent on nothing
sent false read nothing sent on nothing
sent "" read nothing sent on nothing
TEXT
node read.js | tee seen
diff expected seen
