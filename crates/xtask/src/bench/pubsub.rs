//! What a sidecar adds to an event: publishing it, bringing it to the app, and how many go through in bulk.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;
use http::Method;
use proto::runtime::v1::{BulkPublishRequest, BulkPublishRequestEntry, PublishEventRequest};
use serde_json::{Value, json};

use super::arrivals::{Arrivals, STAMP};
use super::calls::Target;
use super::comparison::{Bare, Measure, Phases, SECONDS};
use super::echo::{Echo, Protocol};
use super::load::{self, Load};
use super::print;
use super::site::{DELIVERED, Site, Technology};

/// Flags of the bench.
#[derive(Default, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    phases: Phases,
}

/// A call that publishes.
#[derive(Clone, Copy)]
pub(super) struct Call {
    pub technology: Technology,
    /// Of the call; the app behind the sidecar has the same.
    pub protocol: Protocol,
    pub topic: &'static str,
    /// Events in the call.
    pub events: usize,
    pub payload: usize,
}

/// Measures and prints.
pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let phases = &arguments.phases;
    let daprds = phases.daprds()?;
    ensure!(
        phases.payload >= STAMP.len(),
        "an event has its time in its payload: {} bytes at least",
        STAMP.len()
    );
    load::precise_timers();
    let load = phases.load(SECONDS);
    print(&format!(
        "\npub/sub, {} events/s, bulk of {BULK} in a closed loop, {}",
        phases.rate,
        phases.describe(load)
    ))?;
    let technologies = [Technology::Memory, Technology::Redis];
    for protocol in [Protocol::Http, Protocol::Grpc] {
        let sites = Site::each(&daprds, &technologies, Some(protocol))?;
        for technology in technologies {
            let call = Call {
                technology,
                protocol,
                topic: UNHEARD,
                events: 1,
                payload: phases.payload,
            };
            for site in &sites {
                Call {
                    topic: DELIVERED,
                    ..call
                }
                .reach(site)?;
            }
            for measured in [
                Measured::Publish(call),
                Measured::Deliver(Call {
                    topic: DELIVERED,
                    ..call
                }),
                Measured::Bulk(Call {
                    events: BULK,
                    ..call
                }),
            ] {
                measured.measure(&sites, load, phases.rounds)?;
            }
        }
    }
    Ok(())
}

/// A call, and what of it is measured.
enum Measured {
    Publish(Call),
    /// From when an event is to be published to its arrival at the app.
    Deliver(Call),
    /// As many as go through.
    Bulk(Call),
}

impl Measured {
    fn measure(&self, sites: &[Site], load: Load, rounds: u32) -> Result<()> {
        let (what, call) = match self {
            Measured::Publish(call) => ("publish", call),
            Measured::Deliver(call) => ("publish to delivery", call),
            Measured::Bulk(call) => ("bulk publish", call),
        };
        let echo = Echo::start(call.protocol, &Arrivals::default())?;
        let bare = match (self, call.technology, sites.first()) {
            (Measured::Publish(_), Technology::Redis, Some(site)) => {
                Some(Bare::redis(call.bare(site)?))
            }
            (Measured::Publish(_), Technology::Memory, _) => {
                Some(Bare::echo(echo.target(call.payload)))
            }
            _ => None,
        };
        let measure = Measure {
            title: format!(
                "{what}, {}, {}",
                call.technology.name(),
                call.protocol.name()
            ),
            load: match self {
                Measured::Bulk(_) => Load { rate: None, ..load },
                _ => load,
            },
            rounds,
            batch: u32::try_from(call.events)?,
            arrivals: matches!(self, Measured::Deliver(_)),
        };
        measure.run(sites, |site| call.target(site), bare)
    }
}

impl Call {
    /// The call through a sidecar.
    pub fn target(self, site: &Site) -> Result<Target> {
        let target = match self.protocol {
            Protocol::Http => self.http(site.sidecar.http)?,
            Protocol::Grpc => self.grpc(site.sidecar.grpc),
        };
        match self.topic {
            DELIVERED => target.stamped(&site.arrivals),
            _ => Ok(target),
        }
    }

    /// Waits until an event is delivered: subscriptions may be open only after the sidecar is ready.
    pub fn reach(self, site: &Site) -> Result<()> {
        let one = Load {
            rate: Some(1000),
            connections: 1,
            duration: Duration::from_millis(1),
        };
        let target = self.target(site)?;
        let end = Instant::now() + REACH;
        loop {
            one.run(&target)?;
            if site.arrivals.take(1, Duration::from_secs(1)).len() > 0 {
                return Ok(());
            }
            ensure!(
                Instant::now() < end,
                "no event of {} arrives with {}",
                self.technology.pubsub(),
                site.label
            );
        }
    }

    fn http(self, port: u16) -> Result<Target> {
        let (pubsub, topic) = (self.technology.pubsub(), self.topic);
        if self.events == 1 {
            let path = format!("/v1.0/publish/{pubsub}/{topic}");
            return Ok(Target::http(port, Method::POST, &path, TEXT).body(self.event()));
        }
        let event = self.event();
        let entries: Value = (0..self.events)
            .map(|index| json!({"entryId": index.to_string(), "event": event, "contentType": TEXT}))
            .collect();
        let path = format!("/v1.0/publish/bulk/{pubsub}/{topic}");
        let target = Target::http(port, Method::POST, &path, "application/json");
        Ok(target.body(serde_json::to_vec(&entries)?))
    }

    fn grpc(self, port: u16) -> Target {
        let event = Bytes::from(self.event());
        let (pubsub_name, topic) = (self.technology.pubsub(), self.topic.to_owned());
        if self.events == 1 {
            let request = PublishEventRequest {
                pubsub_name,
                topic,
                data: event,
                data_content_type: TEXT.to_owned(),
                ..PublishEventRequest::default()
            };
            return Target::grpc(port, "/dapr.proto.runtime.v1.Dapr/PublishEvent", &request);
        }
        let entries = (0..self.events).map(|index| BulkPublishRequestEntry {
            entry_id: index.to_string(),
            event: event.clone(),
            content_type: TEXT.to_owned(),
            ..BulkPublishRequestEntry::default()
        });
        let request = BulkPublishRequest {
            pubsub_name,
            topic,
            entries: entries.collect(),
            ..BulkPublishRequest::default()
        };
        Target::grpc(
            port,
            "/dapr.proto.runtime.v1.Dapr/BulkPublishEvent",
            &request,
        )
    }

    /// What the broker itself would do with the payload.
    fn bare(self, site: &Site) -> Result<Target> {
        let command = ["XADD", "bare", "MAXLEN", "~", "10000", "*", "data"];
        let mut command = command.map(str::to_owned).to_vec();
        command.push(self.event());
        Ok(Target::redis(site.redis()?, &[command]).answers(1..=64))
    }

    fn event(self) -> String {
        let mut event = STAMP.to_owned();
        event.push_str(&"x".repeat(self.payload.saturating_sub(STAMP.len())));
        event
    }
}

/// Events of a bulk call.
pub(super) const BULK: usize = 100;

/// The topic without a subscriber.
pub(super) const UNHEARD: &str = "unheard";

const TEXT: &str = "text/plain";

/// How long subscriptions may take to open.
const REACH: Duration = Duration::from_secs(30);
