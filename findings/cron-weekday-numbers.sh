#!/bin/bash
# Weekday 1 of a schedule is Sunday, Monday or Tuesday, depending on the library that reads it.
#
# Versions: cron 0.17.0 (Rust), APScheduler 3.11.3 (PyPI), croner 11.0.1 (npm), github.com/robfig/cron/v3 3.0.1 (Go).
# Source: crontab(5) counts from Sunday as 0; systems that take schedules as text take them in that form.
# Behaviour: nine o'clock on weekday 1 is Monday for robfig/cron and croner. The Rust library counts from Sunday as 1.
# APScheduler counts from Monday as 0, also in its reader of crontab lines. All of them accept 1 to 6.
# Output seen: the lines below `expected`.
# What a user can do: write names, MON to SUN, which all four read alike.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet apscheduler==3.11.3
npm install --silent --no-audit --no-fund croner@11.0.1 >&2

cat >next.py <<'PY'
from datetime import datetime, timezone
from apscheduler.triggers.cron import CronTrigger

for line in ("0 9 * * 1", "0 9 * * mon"):
    trigger = CronTrigger.from_crontab(line, timezone=timezone.utc)
    print("apscheduler", line.split()[-1].upper(), trigger.get_next_fire_time(None, datetime(2024, 1, 1, tzinfo=timezone.utc)).strftime("%A"))
PY
cat >next.js <<'JS'
const { Cron } = require("croner");
for (const day of ["1", "MON"]) {
  const next = new Cron(`0 0 9 * * ${day}`, { timezone: "UTC" }).nextRun(new Date("2024-01-01T00:00:00Z"));
  console.log("croner", day, next.toLocaleDateString("en", { weekday: "long", timeZone: "UTC" }));
}
JS
mkdir -p go rust/src
cat >go/main.go <<'GO'
package main

import (
	"fmt"
	"time"

	"github.com/robfig/cron/v3"
)

func main() {
	parser := cron.NewParser(cron.Second | cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow)
	for _, day := range []string{"1", "MON"} {
		schedule, err := parser.Parse("0 0 9 * * " + day)
		if err != nil {
			panic(err)
		}
		fmt.Println("robfig", day, schedule.Next(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)).Weekday())
	}
}
GO
cat >rust/Cargo.toml <<'TOML'
[package]
name = "next"
version = "0.0.0"
edition = "2021"

[dependencies]
cron = "=0.17.0"
chrono = "=0.4.45"
TOML
cat >rust/src/main.rs <<'RUST'
use chrono::{TimeZone, Utc};

fn main() {
    let after = Utc.with_ymd_and_hms(2024, 1, 1, 0, 0, 0).unwrap();
    for day in ["1", "MON"] {
        let schedule: cron::Schedule = format!("0 0 9 * * {day}").parse().unwrap();
        println!("cron {day} {}", schedule.after(&after).next().unwrap().format("%A"));
    }
}
RUST
cat >expected <<'TEXT'
apscheduler 1 Tuesday
apscheduler MON Monday
croner 1 Monday
croner MON Monday
robfig 1 Monday
robfig MON Monday
cron 1 Sunday
cron MON Monday
TEXT
(cd go && go mod init next && go get github.com/robfig/cron/v3@v3.0.1) >&2
{
    venv/bin/python next.py
    node next.js
    (cd go && go run .)
    (cd rust && CARGO_TARGET_DIR=target cargo run --quiet)
} | tee seen
diff expected seen
