//! Registrations: what a program says about itself in an object of the cluster, such as whom to trust in a webhook. It is
//! said again when it changes, when somebody else has written to the object, and on a period, for those that may not watch it
//! (Q-registration-period).

use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use kube::Resource;
use kube::runtime::watcher::Event;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use values::Pauses;

use crate::client::status;
use crate::reflector::{Reflector, Signal};

/// How often a registration is looked at again, stretched by chance up to half as long again.
pub const PERIOD: Duration = Duration::from_secs(60);
/// The pause after the first failure; it doubles up to [`PERIOD`].
pub const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The pause while the program may not write the object: somebody else has to.
pub const REFUSED_PAUSE: Duration = Duration::from_secs(5 * 60);

/// How long an edit by somebody else waits at first; it doubles up to [`PERIOD`] while edits go on: replicas that want
/// different things for a while must not write against each other.
pub const EDIT_PAUSE: Duration = Duration::from_secs(1);

/// How long nobody may have been seen writing before what only others want goes: replicas that are content are silent as well,
/// and API servers take their time to hear of a change. Where it was put back, it doubles, up to [`LONGEST_SETTLING`].
pub const SETTLING: Duration = Duration::from_secs(10 * 60);
/// See [`SETTLING`].
pub const LONGEST_SETTLING: Duration = Duration::from_secs(24 * 60 * 60);

/// How an attempt ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The object says what it should.
    Registered,
    /// It did not, and does now.
    Corrected,
    /// There is no such object; one that comes is registered in.
    Missing,
}

/// What is known of others who write the object when it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Somebody may just have written: another replica perhaps, of before an upgrade or after it, that wants something else
    /// for a while. What it has written should stay in force beside one's own, or each would undo what the other needs.
    Unsettled,
    /// Nobody was seen writing for [`SETTLING`]: one's own is all that should be there. A replica that needs the other puts it
    /// back as soon as it sees this.
    Settled,
}

/// Tells `edited` of changes of an object until shutdown, for [`keep`]. What may not be watched is tried again now
/// and then; meanwhile the period has to do.
pub async fn follow<K>(reflector: &Reflector<K>, edited: &Notify, shutdown: &CancellationToken)
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    while !shutdown.is_cancelled() {
        let attempt = shutdown.child_token();
        let tell = |signal| match signal {
            Signal::Refused => attempt.cancel(),
            Signal::Event(Event::Apply(_) | Event::Delete(_) | Event::InitDone) => {
                edited.notify_one();
            }
            _ => {}
        };
        reflector.run(&attempt, tell).await;
        let pause = tokio::time::sleep(REFUSED_PAUSE);
        shutdown.run_until_cancelled(pause).await;
    }
}

/// Keeps a registration up to date until shutdown: `assert` reads what is wanted from `wanted` and writes it where it is
/// not so yet, now and then and as soon as the object is `edited`. `ready` is called when that has gone well, and when it is
/// clear that it is not for this program to do.
pub async fn keep<T, F>(
    what: &str,
    mut wanted: watch::Receiver<T>,
    edited: &Notify,
    assert: impl Fn(T, Look) -> F,
    ready: impl Fn(),
    shutdown: &CancellationToken,
) where
    T: Clone,
    F: Future<Output = Result<Outcome, kube::Error>>,
{
    let keep = async {
        let mut failures = Pauses::doubling(FIRST_PAUSE, PERIOD);
        let mut edits = Pauses::doubling(EDIT_PAUSE, PERIOD);
        let mut edit_pause = edits.pause();
        let mut settling = Pauses::doubling(SETTLING, LONGEST_SETTLING);
        let (mut settles_after, mut quiet_since) = (settling.pause(), Instant::now());
        let (mut last, mut by_edit, mut look) = (None, false, Look::Unsettled);
        loop {
            let value = wanted.borrow_and_update().clone();
            let result = assert(value, look).await;
            let next = match &result {
                Ok(outcome) => {
                    if last != Some(*outcome) {
                        tracing::info!(?outcome, "{what} is looked at");
                    }
                    last = Some(*outcome);
                    if *outcome == Outcome::Corrected {
                        quiet_since = Instant::now();
                        if by_edit {
                            edit_pause = edits.pause();
                        }
                        if look == Look::Settled {
                            settles_after = settling.pause();
                        }
                    }
                    ready();
                    failures.reset();
                    PERIOD
                }
                Err(error) if status(error) == Some(403) => {
                    tracing::warn!(%error, "not allowed to write {what}");
                    last = None;
                    ready();
                    REFUSED_PAUSE
                }
                Err(error) => {
                    let pause = failures.pause();
                    tracing::error!(%error, ?pause, "cannot write {what}, trying again");
                    last = None;
                    pause
                }
            };
            let next = next.mul_f64(1.0 + fastrand::f64() / 2.0);
            look = Look::Unsettled;
            tokio::select! {
                Ok(()) = wanted.changed() => {
                    by_edit = false;
                    quiet_since = Instant::now();
                }
                () = async {
                    edited.notified().await;
                    tokio::time::sleep(edit_pause).await;
                } => {
                    by_edit = true;
                    quiet_since = Instant::now();
                }
                () = tokio::time::sleep(next) => {
                    if result.is_ok() && quiet_since.elapsed() >= settles_after {
                        look = Look::Settled;
                    }
                    by_edit = false;
                    edits.reset();
                    edit_pause = edits.pause();
                }
            }
        }
    };
    shutdown.run_until_cancelled(keep).await;
}
