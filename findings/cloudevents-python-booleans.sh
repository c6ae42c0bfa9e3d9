#!/bin/bash
# A boolean attribute of a CloudEvent becomes `True` with a capital letter where Python sends it as a header.
#
# Versions: cloudevents 2.2.0 (PyPI).
# Source: CloudEvents 1.0, section on the type system: the text of a Boolean is `true` or `false`.
# Behaviour: over HTTP, Kafka and RabbitMQ in binary mode the text is Python's own, `True`. In structured mode it is JSON's `true`, and
# over AMQP a boolean. A filter or route that compares the attribute with `true` matches one mode and not the other.
# Output seen: the lines below `expected`.
# What a user can do: give such attributes as the strings that are meant.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet cloudevents==2.2.0

cat >send.py <<'PY'
import json
from cloudevents.core.bindings import amqp, http, kafka, rabbitmq
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

event = CloudEvent({"id": "1", "source": "/s", "type": "t", "specversion": "1.0", "urgent": True}, None)
form = JSONFormat()
print("http", http.to_binary(event, form).headers["ce-urgent"])
print("kafka", kafka.to_binary(event, form).headers["ce_urgent"])
print("rabbitmq", rabbitmq.to_binary(event, form).headers["ce-urgent"])
print("amqp", repr(amqp.to_binary(event, form).application_properties["cloudEvents_urgent"]))
print("structured", json.dumps(json.loads(form.write(event))["urgent"]))
PY
cat >expected <<'TEXT'
http True
kafka b'True'
rabbitmq True
amqp True
structured true
TEXT
venv/bin/python send.py >seen
diff expected seen
