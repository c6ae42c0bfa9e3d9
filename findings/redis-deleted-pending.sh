#!/bin/bash
# A stream entry that was deleted while a consumer still had it: three clients of Redis, three readings.
#
# Versions: redis-server 7.0.15 (Debian 12), redis 8.1.0 (PyPI), redis 6.3.1 and ioredis 6.0.0 (npm).
# Source: Redis, XREADGROUP: asked for what it has not acknowledged, a consumer gets the ids, and for entries that are gone (XDEL, or
# XTRIM and MAXLEN, which every busy stream has) nil in place of the fields.
# Behaviour: Python gives such an entry as one without fields, as if an empty message had come. node-redis fails with a TypeError, for
# the whole answer: a consumer that looks for its backlog when it starts never gets at the entries behind it. ioredis gives null.
# XAUTOCLAIM and XCLAIM leave such entries out, in all of them.
# Output seen: the lines below `expected`.
# What a consumer can do: take a backlog by XAUTOCLAIM, which also acknowledges what is gone.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill "${server:-}" 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet redis==8.1.0
npm install --silent --no-audit --no-fund redis@6.3.1 ioredis@6.0.0 >&2
apt-get download -qq redis-tools redis-server libjemalloc2 liblua5.1-0 lua-bitop lua-cjson liblzf1 libatomic1 2>/dev/null
for package in *.deb; do dpkg-deb --extract "$package" root; done
export LD_LIBRARY_PATH=$PWD/root/usr/lib/$(uname -m)-linux-gnu
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
root/usr/bin/redis-server --port "$port" --bind 127.0.0.1 --save "" --dir "$folder" >server.log &
server=$!

cat >read.py <<'PY'
import sys, time
import redis

client = redis.Redis(port=int(sys.argv[1]), decode_responses=True, protocol=2)
for _ in range(200):
    try:
        client.ping()
        break
    except redis.ConnectionError:
        time.sleep(0.05)
client.xgroup_create("orders", "app", mkstream=True)
for id in ("1-0", "2-0"):
    client.xadd("orders", {"n": id}, id)
client.xreadgroup("app", "one", {"orders": ">"})
client.xdel("orders", "1-0")
[[_, backlog]] = client.xreadgroup("app", "one", {"orders": "0"})
print("python", backlog)
PY
cat >read.mjs <<'JS'
import { createClient } from "redis";
import Redis from "ioredis";
const port = Number(process.argv[2]);
const node = createClient({ url: `redis://127.0.0.1:${port}` });
await node.connect();
await node.xReadGroup("app", "one", { key: "orders", id: "0" }).then(
  (backlog) => console.log("node-redis", JSON.stringify(backlog)),
  (error) => console.log("node-redis", error.constructor.name),
);
const io = new Redis(port, "127.0.0.1");
const [[, backlog]] = await io.xreadgroup("GROUP", "app", "one", "STREAMS", "orders", "0");
console.log("ioredis", JSON.stringify(backlog));
const { messages, deletedMessages } = await node.xAutoClaim("orders", "app", "two", 0, "0");
console.log("claimed", messages.length, "deleted", deletedMessages.length);
await node.close();
io.disconnect();
JS
cat >expected <<'TEXT'
python [('1-0', {}), ('2-0', {'n': '2-0'})]
node-redis TypeError
ioredis [["1-0",null],["2-0",["n","2-0"]]]
claimed 1 deleted 1
TEXT
{ venv/bin/python read.py "$port" && node read.mjs "$port"; } >seen
diff expected seen
