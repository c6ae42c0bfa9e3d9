//! The way of bytes from outside through what this program makes of them, without I/O and in one call: for whoever wants to
//! know what bytes do to it.

use jiff::Timestamp;
use prometheus::Registry;
use prost::Message as _;
use proto::scheduler::v1 as wire;
use proto::scheduler::v1::WatchJobsRequestResultStatus as Outcome;
use telemetry::{Meter, MetricOptions};

use crate::engine::{Effect, Engine};
use crate::metrics::Metrics;
use crate::ownership::Share;
use crate::{names, spec};

/// Takes a request to schedule a job as the API does, and lets the job fire at its times, every second time in vain. Returns
/// when it fired, at most `most` times, or why it is refused.
///
/// # Errors
/// A message for the caller.
pub fn request(bytes: &[u8], now: Timestamp, most: usize) -> Result<Vec<Timestamp>, String> {
    let request = wire::ScheduleJobRequest::decode(bytes).map_err(|error| error.to_string())?;
    let metadata = request.metadata.unwrap_or_default();
    let name = names::job(&metadata, &request.name).map_err(|error| error.to_string())?;
    let job = request.job.unwrap_or_default();
    let stored = spec::stored(job, spec::any(&metadata), now, PARTITION);
    let stored = stored.map_err(|error| error.to_string())?;
    Ok(fire(&name, &stored.encode_to_vec(), &metadata, now, most))
}

/// Takes bytes for a stored job, as the store may have them.
pub fn stored(bytes: &[u8], now: Timestamp, most: usize) -> Vec<Timestamp> {
    let metadata = wire::JobMetadata {
        app_id: "app".to_owned(),
        namespace: "ns".to_owned(),
        ..wire::JobMetadata::default()
    };
    fire("app||ns||app||job", bytes, &metadata, now, most)
}

fn fire(
    name: &str,
    value: &[u8],
    metadata: &wire::JobMetadata,
    mut now: Timestamp,
    most: usize,
) -> Vec<Timestamp> {
    let meter = Meter::new(&Registry::new(), MetricOptions::default());
    let mut engine = Engine::new(Metrics::new(&meter.expect("an empty registry takes all")));
    engine.own(&[Share { index: 0, total: 1 }]);
    let actor = match metadata.target.as_ref().and_then(|it| it.r#type.as_ref()) {
        Some(wire::job_target_metadata::Type::Actor(actor)) => Some(actor.r#type.clone()),
        _ => None,
    };
    let initial = wire::WatchJobsRequestInitial {
        app_id: metadata.app_id.clone(),
        namespace: metadata.namespace.clone(),
        actor_types: actor.into_iter().collect(),
        ..wire::WatchJobsRequestInitial::default()
    };
    engine.connect(now, STREAM, &initial);
    engine.put(name, 1, value, None);
    let mut fired = Vec::new();
    while fired.len() < most {
        let next = engine.advance(now);
        let mut idle = true;
        while let Some(effect) = engine.effect() {
            idle = false;
            match effect {
                Effect::Send(stream, job) => {
                    fired.push(now);
                    let outcome = if fired.len().is_multiple_of(2) {
                        Outcome::Failed
                    } else {
                        Outcome::Success
                    };
                    engine.taken(now, stream, 1, job.encoded_len());
                    engine.result(now, stream, job.id, outcome);
                }
                Effect::Save(save) if save.counter.is_some() => {
                    engine.saved(save.slot, save.revision);
                }
                Effect::Save(save) => engine.remove(&save.name, save.revision + 1),
            }
        }
        match next {
            Some(next) => now = now.max(next),
            None if idle => break,
            None => {}
        }
    }
    fired
}

const STREAM: u64 = 1;
const PARTITION: u64 = 1;
