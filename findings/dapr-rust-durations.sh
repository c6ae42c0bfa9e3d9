#!/bin/bash
# The Dapr SDK for Rust writes parts of a second into due times and periods in a form that Dapr does not read.
#
# Versions: dapr 0.20.0 (crates.io), with chrono 0.4.
# Source: Dapr's reference of the actors API: `dueTime` and `period` of a timer are Go durations (`100ms`) or ISO 8601 durations,
# and of the latter it reads whole numbers only.
# Behaviour: `register_actor_timer` and `register_actor_reminder` take a `std::time::Duration` and send what chrono displays, which
# is an ISO 8601 duration in seconds with a fraction. A timer of 100 ms is registered as `PT0.1S`, and each such call is refused
# as malformed; one of whole seconds works. No time at all is `P0D`, and no time between two ticks is so, too.
# Output seen: the lines below `expected`.
# What a sidecar can do: name the text in the error. Apps have to take whole seconds.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
mkdir src
cat >Cargo.toml <<'TOML'
[package]
name = "timer"
version = "0.0.0"
edition = "2024"

[dependencies]
chrono = "=0.4.45"
dapr = "=0.20.0"
tokio = { version = "1", features = ["macros", "rt", "time"] }
TOML
cat >src/main.rs <<'RUST'
use std::time::Duration;

use dapr::client::TonicClient;
use dapr::server::actor::context_client::ActorContextClient;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let address = std::env::args().nth(1).expect("an address");
    let client = TonicClient::connect(address).await.expect("a connection");
    let mut actor = ActorContextClient::new(client, "kind", "id");
    let times = [(0, 100), (1_500, 2_000)];
    for (due, period) in times.map(|(due, period)| (Duration::from_millis(due), Duration::from_millis(period))) {
        let timer = actor.register_actor_timer("tick", Some(due), Some(period), Vec::new(), None, None);
        // Nobody answers.
        let _ = tokio::time::timeout(Duration::from_secs(1), timer).await;
    }
}
RUST
cat >listen.py <<'PY'
import re, socket, subprocess, sys

listener = socket.create_server(("127.0.0.1", 0))
app = subprocess.Popen([sys.argv[1], "http://127.0.0.1:%d" % listener.getsockname()[1]])
line, _ = listener.accept()
line.settimeout(30)
line.sendall(bytes.fromhex("000000040000000000"))  # the settings of HTTP/2
seen = b""
while data := line.recv(65536):
    seen += data
app.wait()
for text in re.findall(rb"P(?:[0-9]+D|T[0-9.]+S)", seen):
    print(text.decode())
PY
CARGO_TARGET_DIR=$folder/target cargo build --quiet
cat >expected <<'TEXT'
P0D
PT0.1S
PT1.5S
PT2S
TEXT
python3 listen.py target/debug/timer | tee seen
diff expected seen
