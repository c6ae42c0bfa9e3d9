#!/bin/bash
# Bytes that the JavaScript SDK reads from a structured CloudEvent leave it as 32-bit words.
#
# Versions: cloudevents 10.0.0 (npm), on Node's own fetch.
# Source: CloudEvents 1.0, JSON format, section 3.1.1: `data_base64` holds the bytes of the data; HTTP binding, section 3.1.1: in
# binary mode the data are the body.
# Behaviour: data of `data_base64` come as a Uint32Array with one byte in each element. Written in binary mode that array is the
# body, and whatever sends it as bytes sends four for each. Data that the app itself gave as bytes go out as they are, and
# so do both in structured mode, so it shows only where an event is read in one mode and passed on in the other.
# Output seen: the lines below `expected`.
# What a broker's user can do: read `data_base64` and decode it, rather than take `data`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund cloudevents@10.0.0 >&2

cat >send.js <<'JS'
const http = require("http");
const { HTTP, CloudEvent } = require("cloudevents");
const event = { id: "1", source: "/s", type: "t", specversion: "1.0", datacontenttype: "application/octet-stream" };
const server = http.createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    console.log(request.headers["x-from"], Buffer.concat(chunks).toString("hex"));
    response.end();
  });
});
server.listen(0, "127.0.0.1", async () => {
  const send = async (from, { headers, body }) => {
    const url = `http://127.0.0.1:${server.address().port}/`;
    await fetch(url, { method: "POST", headers: { ...headers, "x-from": from }, body });
  };
  const structured = { ...event, data_base64: Buffer.from("abc").toString("base64") };
  const read = HTTP.toEvent({
    headers: { "content-type": "application/cloudevents+json" },
    body: JSON.stringify(structured),
  });
  await send("read", HTTP.binary(read));
  await send("made", HTTP.binary(new CloudEvent({ ...event, data: Buffer.from("abc") })));
  console.log("structured again", JSON.parse(HTTP.structured(read).body).data_base64);
  server.close();
});
JS
cat >expected <<'TEXT'
read 610000006200000063000000
made 616263
structured again YWJj
TEXT
node send.js >seen
diff expected seen
