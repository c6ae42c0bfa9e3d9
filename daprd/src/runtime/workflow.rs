//! The workflows of a life, on its actors.

use std::{sync::Arc, time::Duration};

use ::actors::{reminders::Reminders, state::State};
use ::workflow::{
    Engine, Names, Options, Retention, Workers,
    workers::{Completions, Limits},
};
use anyhow::{Context, Result};
use blocks::state::Stores;
use crds::configuration::{Metrics, workflow::StateRetention};
use proto::scheduler::v1::{ConcurrencyLimit, ConcurrencyLimitActor, concurrency_limit::Target};
use values::{GoDuration, SystemClock};

use super::{Runtime, ground::Ground, signing};
use crate::{identity, tasks::Contained};

impl Runtime<'_> {
    /// The engine; nothing runs yet.
    ///
    /// # Errors
    /// Names the field of the Configuration that cannot be read, or the feature that needs mTLS.
    pub(super) fn workflow(
        &self,
        ground: &Ground,
        actors: &::actors::Engine,
        state: &State,
        reminders: &Reminders,
        stores: &Stores,
    ) -> Result<Engine> {
        let settings = self.settings;
        let spec = ground.configuration.spec.workflow.clone();
        let spec = spec.unwrap_or_default();
        let workers = Workers::new(Limits {
            workflows: most(spec.max_concurrent_workflow_invocations),
            activities: most(spec.max_concurrent_activity_invocations),
            item: settings.max_body_size,
        });
        Ok(Engine::new(Options {
            app_id: settings.app.id.clone(),
            namespace: identity::namespace(settings),
            actors: Arc::new(actors.clone()),
            state: state.clone(),
            stores: stores.clone(),
            reminders: reminders.clone(),
            workers,
            retention: retention(spec.state_retention_policy.as_ref())?,
            signer: signing::signer(&ground.configuration.spec, &ground.security)?,
            max_body: self.max_message(),
            fast_path: self.fast_path(ground),
            janitor_period: settings.tuning.workflow_janitor_period,
            fold_wait: settings.tuning.workflow_fold_wait_timeout,
            idle: settings.tuning.workflow_reaper_idle_ttl,
            meter: ground.meter.clone(),
            tracer: ground.tracer.clone(),
            label: settings.namespace.clone(),
            latency_buckets: latency_buckets(&ground.configuration.spec.effective_metrics()),
            clock: Arc::new(SystemClock),
            spawn: Arc::new(Contained(self.daemon.clone())),
        }))
    }

    /// Whether workflows do with few reminders. What all sidecars together may run is counted by the reminders.
    fn fast_path(&self, ground: &Ground) -> bool {
        let asked = ground.configuration.spec.feature_enabled(FAST_PATH);
        let limited = !self.global_limits(ground).is_empty();
        if asked && limited {
            tracing::warn!(
                "{FAST_PATH} is off: there are global limits of workflows or activities"
            );
        }
        asked && !limited
    }

    /// What all sidecars of the app may run at once; the schedulers see to it.
    pub(super) fn global_limits(&self, ground: &Ground) -> Vec<ConcurrencyLimit> {
        let names = Names {
            namespace: identity::namespace(self.settings),
            app_id: self.settings.app.id.clone(),
        };
        let spec = ground.configuration.spec.workflow.clone();
        let spec = spec.unwrap_or_default();
        let limit = |kind: String, name: Option<String>, most: Option<i32>| {
            let max_concurrent = most.filter(|most| *most > 0)?;
            Some(ConcurrencyLimit {
                max_concurrent,
                name,
                target: Some(Target::Actor(ConcurrencyLimitActor { r#type: kind })),
            })
        };
        let all = [
            limit(
                names.workflow(),
                None,
                spec.global_max_concurrent_workflow_invocations,
            ),
            limit(
                names.activity(),
                None,
                spec.global_max_concurrent_activity_invocations,
            ),
        ];
        let workflows = spec.workflow_concurrency_limits.into_iter();
        let workflows = workflows.map(|it| (names.workflow(), it));
        let activities = spec.activity_concurrency_limits.into_iter();
        let activities = activities.map(|it| (names.activity(), it));
        let named = workflows
            .chain(activities)
            .filter(|(_, it)| it.name.is_some())
            .map(|(kind, it)| limit(kind, it.name, it.max_concurrent));
        all.into_iter().chain(named).flatten().collect()
    }

    /// Where the answers of workers go.
    pub(super) fn completions(
        &self,
        ground: &Ground,
        actors: &::actors::Engine,
        workers: &Workers,
    ) -> Completions {
        let workers = workers.clone();
        if !ground.configuration.spec.feature_enabled(CLUSTERED) {
            return Completions::local(workers);
        }
        let names = Names {
            namespace: identity::namespace(self.settings),
            app_id: self.settings.app.id.clone(),
        };
        let label = self.settings.namespace.clone();
        let actors = Arc::new(actors.clone());
        Completions::clustered(workers, actors, &names, label, &ground.meter)
    }
}

/// The feature under which workflows do with one reminder each.
const FAST_PATH: &str = "WorkflowsFastPath";

/// The feature under which workers are behind a load balancer.
const CLUSTERED: &str = "WorkflowsClusteredDeployment";

/// A limit; zero and less are none.
fn most(limit: Option<i32>) -> Option<usize> {
    usize::try_from(limit?).ok().filter(|limit| *limit > 0)
}

/// Upper bounds of what workflows take, in milliseconds, where they have their own.
fn latency_buckets(metrics: &Metrics) -> Vec<f64> {
    let workflow = metrics.workflow.clone().unwrap_or_default();
    let unit: Option<GoDuration> = workflow
        .latency_distribution_units
        .and_then(|unit| unit.parse().ok());
    let unit = unit.and_then(GoDuration::to_std);
    let unit = unit.map_or(1.0, |unit| unit.as_secs_f64() * 1_000.0);
    let bounds = workflow.latency_distribution_buckets.unwrap_or_default();
    bounds.iter().map(|bound| *bound as f64 * unit).collect()
}

fn retention(policy: Option<&StateRetention>) -> Result<Retention> {
    let Some(policy) = policy else {
        return Ok(Retention::default());
    };
    let period = |name: &str, text: &Option<String>| -> Result<Option<Duration>> {
        let Some(text) = text else {
            return Ok(None);
        };
        let parsed: Option<Duration> = text.parse().ok().and_then(GoDuration::to_std);
        parsed.map(Some).with_context(|| {
            format!("Configuration: spec.workflow.stateRetentionPolicy.{name}: {text:?} is no period of time")
        })
    };
    Ok(Retention {
        any_terminal: period("anyTerminal", &policy.any_terminal)?,
        completed: period("completed", &policy.completed)?,
        failed: period("failed", &policy.failed)?,
        terminated: period("terminated", &policy.terminated)?,
    })
}

#[cfg(test)]
mod tests {
    use crds::configuration::metrics::WorkflowMetrics;

    use super::*;

    #[test]
    fn no_limit_is_said_in_several_ways() {
        assert_eq!(most(Some(3)), Some(3));
        for none in [None, Some(0), Some(-1)] {
            assert_eq!(most(none), None);
        }
    }

    #[test]
    fn buckets_of_workflows_have_a_unit() {
        let mut metrics = Metrics::default();
        assert!(latency_buckets(&metrics).is_empty());
        metrics.workflow = Some(WorkflowMetrics {
            latency_distribution_buckets: Some(vec![1, 30]),
            latency_distribution_units: Some("1s".to_owned()),
        });
        assert_eq!(latency_buckets(&metrics), [1_000.0, 30_000.0]);
    }

    #[test]
    fn state_is_kept_for_as_long_as_is_said() {
        let mut policy = StateRetention {
            completed: Some("1h30m".to_owned()),
            failed: Some("0s".to_owned()),
            ..StateRetention::default()
        };
        let read = retention(Some(&policy)).unwrap();
        assert_eq!(read.completed, Some(Duration::from_secs(5400)));
        assert_eq!(read.failed, Some(Duration::ZERO));
        assert_eq!(read.any_terminal, None);
        policy.terminated = Some("soon".to_owned());
        let error = retention(Some(&policy)).unwrap_err().to_string();
        assert!(error.contains("stateRetentionPolicy.terminated"), "{error}");
    }
}
