//! An open subscription: opened at its broker, consumed, and opened again when the broker ends it, until it is told to end.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use component::pubsub::{Deliveries, Ended, Limits, SubscribeRequest};
use futures::{FutureExt, future::join_all};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Error,
    brokers::Broker,
    core::LOG,
    delivery::{Mode, Subscriber, Target},
    dispatch::Dispatcher,
};

/// How far a subscription has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Waits for the one before it, or is being opened for the first time.
    Opening,
    /// It was opened, or it failed and is tried again.
    Begun,
}

/// Opens the subscription at the broker.
///
/// # Errors
/// [`Error::NotSubscribable`], [`Error::Component`].
pub async fn open(subscriber: &Subscriber) -> Result<Deliveries, Error> {
    let subscription = &subscriber.subscription;
    let broker: &Broker = &subscriber.broker;
    // The topic of an outbox is the sidecar's own: only what may be published there is said by scopes.
    let is_own = matches!(subscriber.target, Target::Outbox);
    if !is_own && !broker.beside.scopes.may_subscribe(&subscription.topic) {
        return Err(Error::NotSubscribable {
            pubsub: subscription.pubsub.clone(),
            topic: subscription.topic.clone(),
        });
    }
    let request = SubscribeRequest {
        topic: broker.beside.on_broker(&subscription.topic),
        metadata: subscription.metadata.clone(),
        limits: Limits::default(),
        batch: subscription.bulk,
        unordered: is_own,
    };
    match timeout(OPEN_LIMIT, broker.component.subscribe(request)).await {
        Ok(opened) => Ok(opened?),
        Err(_) => Err(Error::Component(component::Error::new(
            component::ErrorKind::Unavailable,
            format!("the subscription is not open after {OPEN_LIMIT:?}"),
        ))),
    }
}

/// Keeps a subscription open until its mode says to end. It begins once the ones before it have ended, so that nothing is
/// consumed twice.
pub async fn run(
    subscriber: Arc<Subscriber>,
    opened: Option<Deliveries>,
    before: Vec<CancellationToken>,
    phase: watch::Sender<Phase>,
) {
    join_all(before.iter().map(CancellationToken::cancelled)).await;
    let mut mode = subscriber.mode.clone();
    let mut opened = opened;
    let mut pause = Duration::ZERO;
    loop {
        let since = Instant::now();
        let consuming = consume(&subscriber, opened.take(), &mut mode, &phase);
        let ended = match AssertUnwindSafe(consuming).catch_unwind().await {
            Ok(None) => return,
            Ok(Some(ended)) => ended,
            // The panic itself is logged and counted by the program's hook.
            Err(_) => Ended::Failed(component::Error::new(
                component::ErrorKind::Internal,
                "it panicked",
            )),
        };
        phase.send_replace(Phase::Begun);
        if since.elapsed() >= STEADY {
            pause = Duration::ZERO;
        }
        pause = pause_after(&ended, pause, subscriber.broker.component.reopen_pause());
        let (topic, pubsub) = (&subscriber.subscription.topic, subscriber.pubsub());
        match &ended {
            Ended::Rebalanced => {
                tracing::info!(target: LOG, "the broker has moved the subscription to topic {topic} of pubsub {pubsub}. It is opened again in {pause:?}");
            }
            Ended::Closed | Ended::Failed(_) => tracing::error!(
                target: LOG,
                "the subscription to topic {topic} of pubsub {pubsub} is not open: {}. It is opened again in {pause:?}",
                reason(&ended)
            ),
        }
        tokio::select! {
            biased;
            _ = mode.wait_for(|mode| *mode >= Mode::Drain) => return,
            () = sleep(pause) => {}
        }
    }
}

/// Opens a subscription once and consumes it. `None` where the mode says to end; else why it is over.
async fn consume(
    subscriber: &Arc<Subscriber>,
    opened: Option<Deliveries>,
    mode: &mut watch::Receiver<Mode>,
    phase: &watch::Sender<Phase>,
) -> Option<Ended> {
    let deliveries = match opened {
        Some(deliveries) => deliveries,
        None => {
            let opening = tokio::select! {
                biased;
                _ = mode.wait_for(|mode| *mode >= Mode::Drain) => return None,
                opening = open(subscriber) => opening,
            };
            match opening {
                Ok(deliveries) => deliveries,
                Err(Error::Component(error)) => return Some(Ended::Failed(error)),
                Err(error) => {
                    tracing::error!(
                        target: LOG,
                        "Failed to start subscription for pubsub {}, topic {}: {error}",
                        subscriber.pubsub(),
                        subscriber.subscription.topic
                    );
                    phase.send_replace(Phase::Begun);
                    // Only another component or another subscription will change that.
                    let _ = mode.wait_for(|mode| *mode >= Mode::Drain).await;
                    return None;
                }
            }
        }
    };
    phase.send_replace(Phase::Begun);
    let dispatcher = Dispatcher::new(subscriber, &deliveries);
    dispatcher.run(deliveries, mode).await
}

/// How long to wait before a subscription that ended is opened again; `last` is the pause before it was opened, `said` what
/// the component wants.
fn pause_after(ended: &Ended, last: Duration, said: Option<Duration>) -> Duration {
    match ended {
        // A broker that moves it again at once is not asked all the time.
        Ended::Rebalanced => (last * 2).clamp(MOVED_PAUSE, FIRST_PAUSE),
        Ended::Failed(error) if error.kind().is_transient() => match said {
            Some(said) => said.max(MOVED_PAUSE),
            None => (last * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE),
        },
        Ended::Failed(_) | Ended::Closed => LONGEST_PAUSE,
    }
}

fn reason(ended: &Ended) -> String {
    match ended {
        Ended::Closed => "the component is closed".to_owned(),
        Ended::Rebalanced => "the broker has moved it".to_owned(),
        Ended::Failed(error) => component::error::chain(error),
    }
}

/// How long the broker may take to open a subscription.
const OPEN_LIMIT: Duration = Duration::from_secs(30);

/// Pause before a subscription is opened that the broker has moved, at least; at most it is the first of those below.
const MOVED_PAUSE: Duration = Duration::from_millis(50);

/// Pauses between attempts to open a subscription.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A subscription that was open for this long has recovered from earlier failures.
const STEADY: Duration = LONGEST_PAUSE;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_an_end_says_how_soon_it_is_opened_again() {
        let failed = |kind| Ended::Failed(component::Error::new(kind, "x"));
        let away = failed(component::ErrorKind::Unavailable);
        let refused = failed(component::ErrorKind::Unauthorized);
        let pause_after = |ended: &Ended, last| pause_after(ended, last, None);
        let moved = |last| pause_after(&Ended::Rebalanced, last);
        assert_eq!(moved(Duration::ZERO), MOVED_PAUSE);
        assert_eq!(moved(MOVED_PAUSE), MOVED_PAUSE * 2);
        assert_eq!(moved(LONGEST_PAUSE), FIRST_PAUSE);
        assert_eq!(pause_after(&away, Duration::ZERO), FIRST_PAUSE);
        assert_eq!(pause_after(&away, FIRST_PAUSE), FIRST_PAUSE * 2);
        assert_eq!(pause_after(&away, LONGEST_PAUSE), LONGEST_PAUSE);
        assert_eq!(pause_after(&refused, FIRST_PAUSE), LONGEST_PAUSE);
        assert_eq!(pause_after(&Ended::Closed, FIRST_PAUSE), LONGEST_PAUSE);
        let said = |ended| super::pause_after(ended, LONGEST_PAUSE, Some(Duration::from_secs(3)));
        assert_eq!(said(&away), Duration::from_secs(3));
        assert_eq!(said(&refused), LONGEST_PAUSE);
    }
}
