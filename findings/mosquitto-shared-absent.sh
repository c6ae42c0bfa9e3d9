#!/bin/bash
# Mosquitto gives a member of a shared subscription its share of the messages while it is away, though another member is there.
#
# Versions: mosquitto 2.0.11-1.2+deb12u2 (Debian 12), paho-mqtt 2.2.0 (PyPI).
# Source: MQTT 5.0, section 4.8.2: each message goes to one session of a shared subscription, and which is the server's choice.
# Behaviour: sessions that outlive their connections go on taking turns when they have none. Of two members, one of them stopped, the one
# that is there gets every other message; the rest waits for the other to come back. An app that is scaled down from two
# replicas to one has half of its messages stay at the broker, and nothing says so. A client of MQTT 3.1.1 is treated alike,
# whose protocol knows no shared subscriptions.
# Output seen: the lines below `expected`.
# What a user can do: let members of a shared subscription have clean sessions, or use a plain subscription per app.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill "${broker:-}" 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet paho-mqtt==2.2.0
apt-get download -qq mosquitto=2.0.11-1.2+deb12u2 libdlt2 libcjson1 libwrap0 libnsl2 libtirpc3 2>/dev/null
for package in *.deb; do dpkg-deb --extract "$package" root; done
export LD_LIBRARY_PATH=$PWD/root/usr/lib/$(uname -m)-linux-gnu:$PWD/root/lib/$(uname -m)-linux-gnu
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
printf 'listener %s 127.0.0.1\nallow_anonymous true\n' "$port" >broker.conf
root/usr/sbin/mosquitto -c broker.conf 2>broker.log &
broker=$!

cat >share.py <<'PY'
import sys, threading, time
import paho.mqtt.client as mqtt

class Member:
    def __init__(self, name, clean, protocol):
        self.got, self.changed, self.subscribed = [], threading.Condition(), threading.Event()
        connected = threading.Event()
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, name, clean_session=clean, protocol=protocol)
        self.client.on_connect = lambda *_: connected.set()
        self.client.on_subscribe = lambda *_: self.subscribed.set()
        self.client.on_message = self.take
        for _ in range(200):
            try:
                self.client.connect("127.0.0.1", int(sys.argv[1]))
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        self.client.loop_start()
        assert connected.wait(10)

    def take(self, _client, _data, message):
        with self.changed:
            self.got.append(int(message.payload))
            self.changed.notify_all()

    def join(self):
        self.client.subscribe("$share/app/orders", 1)
        assert self.subscribed.wait(10)

    def until(self, count):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.got) >= count, 10), self.got
        return self.got

    def leave(self):
        self.client.disconnect()
        self.client.loop_stop()

stays, leaves = Member("stays", False, mqtt.MQTTv311), Member("leaves", False, mqtt.MQTTv311)
stays.join()
leaves.join()
leaves.leave()
publisher = Member("publisher", True, mqtt.MQTTv311)
for number in range(10):
    publisher.client.publish("orders", number, 1).wait_for_publish(10)
print("who is there gets", stays.until(5))
print("who comes back gets", Member("leaves", False, mqtt.MQTTv311).until(5))
PY
cat >expected <<'TEXT'
who is there gets [0, 2, 4, 6, 8]
who comes back gets [1, 3, 5, 7, 9]
TEXT
venv/bin/python share.py "$port" >seen
diff expected seen
