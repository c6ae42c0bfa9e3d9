//! Why a workflow cannot go on until somebody does something about it, and what is compared to find out.

use std::collections::BTreeMap;

use proto::durabletask::{
    ExecutionStalledEvent, HistoryEvent, StalledReason, WorkflowVersion, history_event::EventType,
};

use super::event;

/// Why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stall {
    pub reason: StalledReason,
    pub description: String,
}

impl Stall {
    /// The event that says it, unless the last one does already.
    pub fn event(
        self,
        history: &[HistoryEvent],
        now: prost_types::Timestamp,
    ) -> Option<HistoryEvent> {
        let last = history.last().and_then(|last| last.event_type.as_ref());
        if let Some(EventType::ExecutionStalled(last)) = last
            && last.description() == self.description
        {
            return None;
        }
        let stalled = ExecutionStalledEvent {
            reason: self.reason.into(),
            description: Some(self.description),
        };
        Some(event::plain(now, EventType::ExecutionStalled(stalled)))
    }
}

/// No worker has the version that the workflow began with.
pub fn version_not_available(past: &[HistoryEvent]) -> Stall {
    let first = past.iter().find_map(event::workflow_started);
    let version = first.and_then(|first| first.version.as_ref());
    let name = version.map(WorkflowVersion::name).unwrap_or_default();
    Stall {
        reason: StalledReason::VersionNotAvailable,
        description: format!("Version not available: {name}"),
    }
}

/// What the worker would be sent is larger than may be.
pub fn too_large(what: &str, size: usize, most: usize) -> Stall {
    Stall {
        reason: StalledReason::PayloadSizeExceeded,
        description: format!(
            "{what} {size} bytes exceeds {PERCENT}% of max gRPC body size {most} bytes; increase daprd --max-body-size and restart to resume"
        ),
    }
}

/// Whether so many bytes are too near to the largest message.
pub fn is_too_large(size: usize, most: usize) -> bool {
    most > 0 && size > most.saturating_mul(PERCENT) / 100
}

/// What may be used of the largest message: the rest is for what is written around it.
const PERCENT: usize = 95;

/// The patches that were applied before have to be the first ones that are applied now.
pub fn patch_mismatch(past: &[HistoryEvent], fresh: &[HistoryEvent]) -> Option<Stall> {
    let versions = past.iter().filter_map(version);
    let before: Vec<&String> = versions.flat_map(|version| &version.patches).collect();
    if before.is_empty() {
        return None;
    }
    let now = fresh.iter().rev().find_map(version);
    let now: Vec<&String> = now
        .map(|now| now.patches.iter().collect())
        .unwrap_or_default();
    if now.starts_with(&before) {
        return None;
    }
    let list = |patches: &[&String]| {
        let names: Vec<&str> = patches.iter().map(|patch| patch.as_str()).collect();
        names.join(", ")
    };
    Some(Stall {
        reason: StalledReason::PatchMismatch,
        description: format!(
            "Patch mismatch. History patches: [{}], current patches: [{}]. ",
            list(&before),
            list(&now)
        ),
    })
}

/// Each turn says only the patches that no turn before has said.
pub fn compact_patches(past: &[HistoryEvent], fresh: &mut [HistoryEvent]) {
    let first = fresh
        .iter_mut()
        .find_map(|event| match &mut event.event_type {
            Some(EventType::WorkflowStarted(started)) => Some(started),
            _ => None,
        });
    let Some(started) = first else {
        return;
    };
    let Some(version) = started
        .version
        .take_if(|version| !version.patches.is_empty())
    else {
        return;
    };
    let mut said: BTreeMap<&str, usize> = BTreeMap::new();
    for patch in past
        .iter()
        .filter_map(self::version)
        .flat_map(|version| &version.patches)
    {
        *said.entry(patch).or_default() += 1;
    }
    let mut patches = version.patches;
    patches.retain(|patch| match said.get_mut(patch.as_str()) {
        Some(left) if *left > 0 => {
            *left -= 1;
            false
        }
        _ => true,
    });
    let name = version.name;
    if !patches.is_empty() || name.is_some() {
        started.version = Some(WorkflowVersion { patches, name });
    }
}

fn version(event: &HistoryEvent) -> Option<&WorkflowVersion> {
    event::workflow_started(event)?.version.as_ref()
}
