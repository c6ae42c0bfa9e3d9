//! What the watchdog says about pods without a sidecar: an Event at the pod when something new becomes of it, and how many
//! there are of each sort.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource as _, ResourceExt as _};
use kubernetes::client::status;
use telemetry::{Counter, Gauge, Meter};

/// What becomes of a pod without a sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is evicted, and its controller makes another one.
    Evicted,
    /// It stays for now: another pod of its controller is being replaced.
    Waits,
    /// It stays for now: its disruption budget allows no eviction.
    Budget,
    /// It stays: nothing would make it anew.
    NoController,
    /// It stays: what its controller makes has no sidecar either.
    ComesBack,
    /// It stays for now: the API server did not do what it was asked.
    Failed,
}

impl Outcome {
    const ALL: [Self; 6] = [
        Self::Evicted,
        Self::Waits,
        Self::Budget,
        Self::NoController,
        Self::ComesBack,
        Self::Failed,
    ];

    const fn label(self) -> &'static str {
        match self {
            Self::Evicted => "evicted",
            Self::Waits => "waits",
            Self::Budget => "disruption_budget",
            Self::NoController => "no_controller",
            Self::ComesBack => "comes_back",
            Self::Failed => "failed",
        }
    }

    const fn action(self) -> &'static str {
        match self {
            Self::Evicted => "Evict",
            _ => "Keep",
        }
    }

    const fn note(self) -> &'static str {
        match self {
            Self::Evicted => {
                "The pod asks for a Dapr sidecar and has none. It is evicted, so that its controller makes it anew with one."
            }
            Self::Waits => {
                "The pod asks for a Dapr sidecar and has none. It stays until another pod of its controller has come back \
                 with one and is ready."
            }
            Self::Budget => {
                "The pod asks for a Dapr sidecar and has none. It stays until its disruption budget allows an eviction."
            }
            Self::NoController => {
                "The pod asks for a Dapr sidecar and has none. It stays, because no controller would make it anew: delete \
                 it and create it again."
            }
            Self::ComesBack => {
                "The pod asks for a Dapr sidecar and has none. It stays, because pods of its controller come back without or not at all: \
                 see whether the webhook dapr-sidecar-injector covers the namespace, and whether the injector's log \
                 refuses the requester."
            }
            Self::Failed => {
                "The pod asks for a Dapr sidecar and has none. It could not be evicted, which is tried again."
            }
        }
    }
}

/// Says what the watchdog finds.
pub struct Report {
    recorder: Recorder,
    /// What was said about the pods of the last round, by UID.
    told: HashMap<String, Outcome>,
    /// What this round has found, by UID.
    found: HashMap<String, Outcome>,
    pods: Gauge,
    evictions: Counter,
}

impl Report {
    pub fn new(client: Client, instance: &str, meter: &Meter) -> Self {
        let reporter = Reporter {
            controller: REPORTER.to_owned(),
            instance: Some(instance.to_owned()).filter(|name| !name.is_empty()),
        };
        let report = Self {
            recorder: Recorder::new(client, reporter),
            told: HashMap::new(),
            found: HashMap::new(),
            pods: meter.gauge(
                "operator/pods_without_sidecar",
                "The pods that asked for a sidecar and had none in the last round of the watchdog.",
                &["outcome"],
            ),
            evictions: meter.counter(
                "operator/pods_evicted_total",
                "The total number of pods that the watchdog evicted because they had no sidecar.",
                &[],
            ),
        };
        report.evictions.add(&[], 0);
        report.show();
        report
    }

    /// Notes what becomes of a pod, and says so at the pod if that is new.
    pub async fn note(&mut self, pod: &Pod, outcome: Outcome) {
        let uid = pod.uid().unwrap_or_default();
        if outcome == Outcome::Evicted {
            self.evictions.add(&[], 1);
        }
        let known = self.told.get(&uid) == Some(&outcome);
        self.found.insert(uid, outcome);
        if !known {
            let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
            tracing::warn!(%namespace, %name, "{}", outcome.note());
            self.publish(&pod.object_ref(&()), outcome).await;
        }
    }

    async fn publish(&self, pod: &ObjectReference, outcome: Outcome) {
        let event = Event {
            type_: EventType::Warning,
            reason: REASON.to_owned(),
            note: Some(outcome.note().to_owned()),
            action: outcome.action().to_owned(),
            secondary: None,
        };
        match self.recorder.publish(&event, pod).await {
            Ok(()) => {}
            Err(error) if status(&error) == Some(403) => {
                tracing::debug!(%error, "no events without the right to create them");
            }
            Err(error) => tracing::warn!(%error, "cannot publish an event about a pod"),
        }
    }

    /// A round has ended that looked at all pods.
    pub fn end_round(&mut self) {
        self.told = std::mem::take(&mut self.found);
        self.show();
    }

    /// A round has broken off: what was said stays said.
    pub fn break_round(&mut self) {
        self.told.extend(self.found.drain());
    }

    fn show(&self) {
        for outcome in Outcome::ALL {
            let count = self.told.values().filter(|told| **told == outcome).count();
            #[expect(clippy::cast_precision_loss, reason = "rounds are limited")]
            self.pods.set(&[outcome.label()], count as f64);
        }
    }
}

/// Who says so.
const REPORTER: &str = "dapr-operator";
/// What events are about.
const REASON: &str = "DaprSidecarMissing";
