//! Writes what sidecars say into the status of Components: by the leader, every few seconds, what has changed.

use std::collections::HashMap;
use std::time::Duration;

use crds::component::Status;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kubernetes::client::status as code;
use kubernetes::{Cluster, Key};
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::board::{AGAIN, LIFE};
use super::{Statuses, event};
use crate::FIELD_MANAGER;

/// How often what has changed is written.
const PERIOD: Duration = Duration::from_secs(5);

/// Components that are written each time; the others wait.
const MOST_WRITES: usize = 50;

/// Components that are written at the same time.
const MOST_AT_ONCE: usize = 4;

/// Until a new leader has heard of all sidecars, it takes fewer than before for those that have not reported yet.
const WARM_UP: Duration = AGAIN.saturating_add(Duration::from_secs(60));

/// The pause between two Events about one component.
const EVENT_PAUSE: Duration = Duration::from_secs(60);

/// How long nothing is tried any more where the operator may not write: an installation that is older than this does not
/// let it.
const REFUSED_PAUSE: Duration = Duration::from_secs(10 * 60);

/// Takes reports and writes, for as long as this replica leads.
pub async fn run(statuses: Statuses, cluster: Cluster, stop: CancellationToken) {
    let lead = Lead::begin(&statuses);
    let mut writer = Writer {
        cluster,
        began: lead.began,
        looked_at_all: false,
        later: Vec::new(),
        told: HashMap::new(),
    };
    let work = async {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if writer.round(&statuses).await.is_err() {
                tracing::warn!(
                    "not allowed to write what sidecars say about components: their status is not shown"
                );
                tokio::time::sleep(REFUSED_PAUSE).await;
            }
        }
    };
    let _: Option<()> = stop.run_until_cancelled(work).await;
}

/// While it lives, this replica leads.
struct Lead<'a> {
    statuses: &'a Statuses,
    began: Instant,
}

impl<'a> Lead<'a> {
    fn begin(statuses: &'a Statuses) -> Self {
        let began = Instant::now();
        statuses.shared.lock().leading = Some(began);
        Self { statuses, began }
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        *self.statuses.shared.lock() = super::State::default();
    }
}

/// The operator may not write.
struct Refused;

/// What has become of a component.
enum Outcome {
    Done,
    /// It is to be tried again.
    Again,
    /// It waits for the end of the warm-up.
    Later,
    Refused,
}

struct Writer {
    cluster: Cluster,
    began: Instant,
    /// Whether all Components have been looked at once, also those of which nobody says anything any more.
    looked_at_all: bool,
    later: Vec<Key>,
    /// When there was an Event about a component.
    told: HashMap<Key, Instant>,
}

impl Writer {
    async fn round(&mut self, statuses: &Statuses) -> Result<(), Refused> {
        let now = Instant::now();
        let is_warm = now.saturating_duration_since(self.began) >= WARM_UP;
        self.told
            .retain(|_, at| now.saturating_duration_since(*at) < EVENT_PAUSE);
        let due: Vec<(Key, Status)> = {
            let board = &mut statuses.shared.lock().board;
            board.expire(now);
            if is_warm {
                self.later.drain(..).for_each(|key| board.again(key));
                if !std::mem::replace(&mut self.looked_at_all, true) {
                    let all = statuses.components.keys().into_iter();
                    all.for_each(|key| board.again(key));
                }
            }
            let changed = board.take_changed(MOST_WRITES).into_iter();
            changed
                .map(|key| (key.clone(), board.status(&key)))
                .collect()
        };
        let this = &*self;
        let writes = due.into_iter().map(|(key, status)| async move {
            let tells = !this.told.contains_key(&key);
            let (outcome, told) = this.write(&key, &status, is_warm, tells).await;
            (key, outcome, told)
        });
        let written: Vec<_> = futures::stream::iter(writes)
            .buffer_unordered(MOST_AT_ONCE)
            .collect()
            .await;
        // One may be refused by a rule about what is in it; all are where the operator may not write.
        let refused = |(_, outcome, _): &(Key, Outcome, bool)| matches!(outcome, Outcome::Refused);
        let all_refused = !written.is_empty() && written.iter().all(refused);
        for (key, outcome, told) in written {
            if told {
                self.told.insert(key.clone(), now);
            }
            match outcome {
                Outcome::Done => {}
                Outcome::Later => self.later.push(key),
                Outcome::Again | Outcome::Refused => statuses.shared.lock().board.again(key),
            }
        }
        if all_refused { Err(Refused) } else { Ok(()) }
    }

    /// Writes one status, and an Event where that is news; says whether it did.
    async fn write(&self, key: &Key, now: &Status, is_warm: bool, tells: bool) -> (Outcome, bool) {
        let resource = ApiResource::erase::<crds::Component>(&());
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.cluster.client(), &key.namespace, &resource);
        let there = match api.get_opt(&key.name).await {
            Ok(Some(there)) => there,
            Ok(None) => return (Outcome::Done, false),
            Err(error) => return (failed(key, &error), false),
        };
        let before = there.data.get("status").cloned().unwrap_or_default();
        let before: Status = serde_json::from_value(before).unwrap_or_default();
        // Of what nobody has opened yet nothing is shown.
        let is_empty = before == Status::default() && now.loaded + now.failed == 0;
        if before == *now || is_empty {
            return (Outcome::Done, false);
        }
        if !is_warm && before.loaded + before.failed > now.loaded + now.failed {
            return (Outcome::Later, false);
        }
        let wanted = Patch::Apply(json!({
            "apiVersion": resource.api_version, "kind": resource.kind,
            "metadata": {"name": key.name}, "status": written(now),
        }));
        let attempt = async |force| {
            let params = PatchParams {
                force,
                ..PatchParams::apply(FIELD_MANAGER)
            };
            api.patch_status(&key.name, &params, &wanted).await
        };
        let what = format!("the status of component {}/{}", key.namespace, key.name);
        if let Err(error) = kubernetes::apply(&what, attempt).await {
            return match code(&error) {
                // The definition is of an older installation and has no status.
                Some(404) => (Outcome::Done, false),
                _ => (failed(key, &error), false),
            };
        }
        let uid = there.metadata.uid.unwrap_or_default();
        let time = Timestamp::now().to_string();
        let event = tells
            .then(|| event::of(key, &uid, &before, now, &time))
            .flatten();
        let told = event.is_some();
        if let Some(event) = event {
            self.tell(key, event).await;
        }
        (Outcome::Done, told)
    }

    async fn tell(&self, key: &Key, event: Value) {
        let Ok(event) = serde_json::from_value::<Event>(event) else {
            return;
        };
        let api: Api<Event> = self.cluster.within(&key.namespace);
        // The status says the same; an Event more or less does not matter.
        if let Err(error) = api.create(&PostParams::default(), &event).await {
            tracing::debug!(%error, "no event about component {}/{}", key.namespace, key.name);
        }
    }
}

fn failed(key: &Key, error: &kube::Error) -> Outcome {
    if code(error) == Some(403) {
        return Outcome::Refused;
    }
    tracing::warn!(%error, "the status of component {}/{} is not written", key.namespace, key.name);
    Outcome::Again
}

/// A status with all its members: none is there for those who have read an older one.
fn written(status: &Status) -> Value {
    let Status {
        ready,
        loaded,
        failed,
        apps,
        failures,
    } = status;
    json!({"ready": ready, "loaded": loaded, "failed": failed, "apps": apps, "failures": failures})
}

const _: () = assert!(WARM_UP.as_secs() < LIFE.as_secs());

#[cfg(test)]
mod tests;
