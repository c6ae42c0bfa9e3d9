//! What a sidecar adds to a state store: reads and writes of one key and of many, over both APIs.

use anyhow::Result;
use bytes::Bytes;
use http::Method;
use proto::common::v1::StateItem;
use proto::runtime::v1::{GetBulkStateRequest, GetStateRequest, SaveStateRequest};
use serde_json::{Value, json};

use super::arrivals::Arrivals;
use super::calls::Target;
use super::comparison::{Bare, Measure, Phases, SECONDS};
use super::echo::{Echo, Protocol};
use super::load::{self, Load};
use super::print;
use super::site::{Site, Technology};

/// Flags of the bench.
#[derive(Default, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    phases: Phases,
    /// Bulk calls per second [default: 50]
    #[arg(long)]
    bulk_rate: Option<u32>,
}

/// What is done with a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Save,
    Get,
}

/// Measures and prints.
pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let phases = &arguments.phases;
    let technologies = [Technology::Memory, Technology::Redis];
    let sites = Site::each(&phases.daprds()?, &technologies, None)?;
    load::precise_timers();
    let load = phases.load(SECONDS);
    let bulk_rate = arguments.bulk_rate.unwrap_or(BULK_RATE);
    print(&format!(
        "\nstate, {} calls/s, bulk {bulk_rate}/s of {BULK} keys, {}",
        phases.rate,
        phases.describe(load)
    ))?;
    for technology in technologies {
        for protocol in [Protocol::Http, Protocol::Grpc] {
            for (operation, keys) in [
                (Operation::Save, 1),
                (Operation::Get, 1),
                (Operation::Save, BULK),
                (Operation::Get, BULK),
            ] {
                let call = Call {
                    technology,
                    protocol,
                    operation,
                    keys,
                    payload: phases.payload,
                };
                let rate = if keys > 1 { bulk_rate } else { phases.rate };
                let load = Load {
                    rate: Some(rate),
                    ..load
                };
                call.measure(&sites, load, phases.rounds)?;
            }
        }
    }
    Ok(())
}

/// A call to a state store.
#[derive(Clone, Copy)]
pub(super) struct Call {
    pub technology: Technology,
    pub protocol: Protocol,
    pub operation: Operation,
    pub keys: usize,
    pub payload: usize,
}

impl Call {
    fn measure(self, sites: &[Site], load: Load, rounds: u32) -> Result<()> {
        let save = Call {
            operation: Operation::Save,
            ..self
        };
        for site in sites {
            load::once(&save.target(site)?)?;
        }
        let echo = Echo::start(self.protocol, &Arrivals::default())?;
        let bare = match (self.technology, sites.first()) {
            (Technology::Redis, Some(site)) => {
                load::once(&save.bare(site)?)?;
                Bare::redis(self.bare(site)?)
            }
            _ => Bare::echo(echo.target(self.keys * self.payload)),
        };
        let verb = match self.operation {
            Operation::Save => "save",
            Operation::Get => "get",
        };
        let bulk = if self.keys > 1 { "bulk " } else { "" };
        let measure = Measure {
            title: format!(
                "{bulk}{verb}, {}, {}",
                self.technology.name(),
                self.protocol.name()
            ),
            load,
            rounds,
            batch: 1,
            arrivals: false,
        };
        measure.run(sites, |site| self.target(site), Some(bare))
    }

    /// The call through a sidecar.
    pub fn target(self, site: &Site) -> Result<Target> {
        let target = match self.protocol {
            Protocol::Http => self.http(site.sidecar.http)?,
            Protocol::Grpc => self.grpc(site.sidecar.grpc),
        };
        Ok(match self.operation {
            Operation::Save => target,
            Operation::Get => target.answers(self.keys * self.payload..=usize::MAX),
        })
    }

    fn http(self, port: u16) -> Result<Target> {
        let path = format!("/v1.0/state/{}", self.technology.store());
        let post = |path: &str, body: &Value| {
            let target = Target::http(port, Method::POST, path, "application/json");
            Ok(target.body(serde_json::to_vec(body)?))
        };
        match self.operation {
            Operation::Get if self.keys == 1 => {
                let path = format!("{path}/{}", key(0));
                Ok(Target::http(port, Method::GET, &path, "application/json"))
            }
            Operation::Get => {
                let keys: Vec<String> = (0..self.keys).map(key).collect();
                post(&format!("{path}/bulk"), &json!({"keys": keys}))
            }
            Operation::Save => {
                let value = self.value();
                let items = (0..self.keys).map(|index| json!({"key": key(index), "value": value}));
                post(&path, &items.collect())
            }
        }
    }

    fn grpc(self, port: u16) -> Target {
        let store_name = self.technology.store();
        let keys = (0..self.keys).map(key);
        match self.operation {
            Operation::Get if self.keys == 1 => {
                let request = GetStateRequest {
                    store_name,
                    key: key(0),
                    ..GetStateRequest::default()
                };
                Target::grpc(port, "/dapr.proto.runtime.v1.Dapr/GetState", &request)
            }
            Operation::Get => {
                let request = GetBulkStateRequest {
                    store_name,
                    keys: keys.collect(),
                    ..GetBulkStateRequest::default()
                };
                Target::grpc(port, "/dapr.proto.runtime.v1.Dapr/GetBulkState", &request)
            }
            Operation::Save => {
                let value = Bytes::from(Value::String(self.value()).to_string());
                let states = keys.map(|key| StateItem {
                    key,
                    value: value.clone(),
                    ..StateItem::default()
                });
                let request = SaveStateRequest {
                    store_name,
                    states: states.collect(),
                };
                Target::grpc(port, "/dapr.proto.runtime.v1.Dapr/SaveState", &request)
            }
        }
    }

    /// What the store itself would do, if nobody asked for more than a value at a key.
    fn bare(self, site: &Site) -> Result<Target> {
        let value = self.value();
        let commands: Vec<Vec<String>> = (0..self.keys)
            .map(|index| {
                let mut words = match self.operation {
                    Operation::Save => vec!["HSET", "data", &value],
                    Operation::Get => vec!["HGET", "data"],
                };
                let key = format!("bare||{}", key(index));
                words.insert(1, &key);
                words.into_iter().map(str::to_owned).collect()
            })
            .collect();
        let target = Target::redis(site.redis()?, &commands);
        Ok(match self.operation {
            Operation::Save => target,
            Operation::Get => target.answers(self.keys * self.payload..=usize::MAX),
        })
    }

    fn value(self) -> String {
        "x".repeat(self.payload)
    }
}

fn key(index: usize) -> String {
    format!("key-{index}")
}

/// Keys of a bulk call.
pub(super) const BULK: usize = 100;

/// Bulk calls per second.
pub(super) const BULK_RATE: u32 = 50;
